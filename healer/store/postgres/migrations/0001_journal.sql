-- Documents (`doc`, `body`) are whole domain values as JSON text; columns beside them exist for
-- claims, queries and indexes, and hold no NUL. Times are Unix seconds of the database's clock.

-- The one place that says what time it is. Production gives NULL; tests give their own time.
CREATE FUNCTION moment(given double precision) RETURNS double precision
LANGUAGE sql VOLATILE AS 'SELECT coalesce(given, extract(epoch FROM clock_timestamp())::double precision)';

-- The inbox. `batch` and `place` are the order of acceptance.
CREATE SEQUENCE event_batch;
CREATE TABLE event (
    id bytea PRIMARY KEY,  -- SHA-256 of source, fingerprint, start, status (and poll)
    batch bigint NOT NULL,
    place integer NOT NULL,
    series bytea NOT NULL,  -- SHA-256 of source and fingerprint
    polled boolean NOT NULL,
    received_at double precision NOT NULL,
    folded boolean NOT NULL DEFAULT false,
    body text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX event_waiting ON event (batch, place) WHERE NOT folded;
CREATE INDEX event_by_age ON event (polled, received_at) WHERE folded;

-- Whoever holds this row folds; the others wait for it.
CREATE TABLE fold_turn (only_one boolean PRIMARY KEY CHECK (only_one));
INSERT INTO fold_turn (only_one) VALUES (true);

CREATE TABLE rejected (
    seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    id bytea PRIMARY KEY,
    source text NOT NULL,
    problem text NOT NULL,
    payload text NOT NULL,
    received_at double precision NOT NULL
);

CREATE TABLE episode (
    id text COLLATE "C" PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    series bytea NOT NULL,
    ordinal integer NOT NULL,
    source text NOT NULL,
    name text NOT NULL,
    state text NOT NULL,
    firing boolean NOT NULL,
    severity_rank integer NOT NULL,
    opened_at double precision NOT NULL,
    next_at double precision NOT NULL,
    playbook text NOT NULL,
    target text NOT NULL,
    zone text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    doc text NOT NULL,
    owner text NOT NULL DEFAULT '',  -- who holds the claim; empty: nobody
    epoch bigint NOT NULL DEFAULT 0,
    lease_until double precision NOT NULL DEFAULT 0,
    wake_at double precision,  -- something happened while it was claimed: due then
    due_at double precision NOT NULL
        GENERATED ALWAYS AS (CASE WHEN owner = '' THEN next_at ELSE lease_until END) STORED,
    UNIQUE (series, ordinal)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX episode_due ON episode (due_at) WHERE state <> 'closed';
CREATE INDEX episode_blocked ON episode (zone) WHERE state = 'blocked';
CREATE INDEX episode_by_age ON episode (opened_at, seq);

-- Unfinished runs only: a run that is done goes to `run_history` with its steps.
CREATE SEQUENCE run_order;
CREATE TABLE run (
    id text COLLATE "C" PRIMARY KEY,
    seq bigint NOT NULL DEFAULT nextval('run_order'),
    episode_id text COLLATE "C" NOT NULL UNIQUE REFERENCES episode (id),
    playbook text NOT NULL,
    target text NOT NULL,
    lock text NOT NULL,
    zone text NOT NULL,
    phase text NOT NULL CHECK (phase <> 'done'),
    result text,
    started_at double precision NOT NULL,
    finished_at double precision,
    doc text NOT NULL  -- without its steps
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX run_in_flight ON run (zone, lock) WHERE phase <> 'guard';

CREATE TABLE step (
    run_id text COLLATE "C" NOT NULL,
    place integer NOT NULL,  -- in the order of intents
    step integer NOT NULL,
    attempt integer NOT NULL,
    undo boolean NOT NULL,
    outcome text,  -- NULL: the intent is on disk, what came of it is not known
    doc text NOT NULL,
    PRIMARY KEY (run_id, step, attempt, undo)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

CREATE TABLE run_history (
    id text COLLATE "C" PRIMARY KEY,
    seq bigint NOT NULL,
    episode_id text COLLATE "C" NOT NULL REFERENCES episode (id),
    playbook text NOT NULL,
    target text NOT NULL,
    lock text NOT NULL,
    zone text NOT NULL,
    phase text NOT NULL,
    result text,
    started_at double precision NOT NULL,
    finished_at double precision,
    doc text NOT NULL
);
CREATE INDEX run_history_by_episode ON run_history (episode_id);
CREATE INDEX run_history_by_age ON run_history (started_at, seq);
CREATE INDEX run_history_by_playbook ON run_history (playbook, finished_at);

CREATE TABLE step_history (
    run_id text COLLATE "C" NOT NULL,
    place integer NOT NULL,
    step integer NOT NULL,
    attempt integer NOT NULL,
    undo boolean NOT NULL,
    outcome text,
    doc text NOT NULL,
    PRIMARY KEY (run_id, step, attempt, undo)
);

CREATE VIEW run_all AS
SELECT id, seq, episode_id, started_at, doc FROM run
UNION ALL SELECT id, seq, episode_id, started_at, doc FROM run_history;
CREATE VIEW step_all AS
SELECT run_id, place, doc FROM step
UNION ALL SELECT run_id, place, doc FROM step_history;

CREATE TABLE target_lock (
    target text PRIMARY KEY,
    episode_id text COLLATE "C" NOT NULL REFERENCES episode (id),
    epoch bigint NOT NULL,
    at double precision NOT NULL
);
CREATE INDEX target_lock_by_episode ON target_lock (episode_id);

CREATE TABLE bucket (
    key text PRIMARY KEY,
    tokens double precision NOT NULL,
    at double precision NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE approval (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    episode_id text COLLATE "C" NOT NULL REFERENCES episode (id),
    plan_digest text NOT NULL,
    asked_at double precision NOT NULL,
    doc text,  -- the answer; NULL: a person is waited for
    run_id text NOT NULL DEFAULT '',  -- the run that used it
    PRIMARY KEY (episode_id, plan_digest)
);

CREATE TABLE pause (
    id text COLLATE "C" PRIMARY KEY,
    until double precision,
    doc text NOT NULL
);

CREATE TABLE flow (
    zone text PRIMARY KEY,
    held_at double precision,
    recovered integer NOT NULL
);

CREATE TABLE breaker (
    playbook text PRIMARY KEY,
    reset_at double precision NOT NULL,
    reset_by text NOT NULL
);

CREATE TABLE outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id text PRIMARY KEY,
    channel text NOT NULL,
    body text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due_at double precision NOT NULL DEFAULT 0,
    done boolean NOT NULL DEFAULT false
);
CREATE INDEX outbox_due ON outbox (due_at, seq) WHERE NOT done;

CREATE TABLE playbook_text (
    sha256 text PRIMARY KEY,
    text text NOT NULL
);

-- The chain. Its end is a row of its own, locked by whoever appends: late, and until the commit.
CREATE TABLE fact (
    seq bigint PRIMARY KEY,
    kind text NOT NULL,
    at double precision NOT NULL,
    episode_id text COLLATE "C" NOT NULL,
    run_id text NOT NULL,
    reason text,
    body text NOT NULL,  -- {"detail": …, "data": …}: text that came from outside, NUL and all
    previous text NOT NULL,
    hash text NOT NULL
);
CREATE INDEX fact_by_episode ON fact (episode_id, seq);

CREATE TABLE fact_end (
    only_one boolean PRIMARY KEY CHECK (only_one),
    seq bigint NOT NULL,
    hash text NOT NULL
) WITH (fillfactor = 10);
INSERT INTO fact_end (only_one, seq, hash) VALUES (true, 0, repeat('0', 64));

CREATE FUNCTION fact_follows() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    stood fact_end%ROWTYPE;
    wrong bigint;
BEGIN
    SELECT * INTO stood FROM fact_end WHERE only_one FOR UPDATE;
    SELECT min(one.seq) INTO wrong
    FROM (
        SELECT seq, previous,
            lag(seq, 1, stood.seq) OVER (ORDER BY seq) AS seq_before,
            lag(hash, 1, stood.hash) OVER (ORDER BY seq) AS hash_before
        FROM added
    ) AS one
    WHERE one.seq <> one.seq_before + 1 OR one.previous <> one.hash_before;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'facts are append-only: fact % does not follow the last one', wrong
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    UPDATE fact_end SET (seq, hash) = (SELECT seq, hash FROM added ORDER BY seq DESC LIMIT 1)
    WHERE only_one AND EXISTS (SELECT 1 FROM added);
    RETURN NULL;
END
$$;
CREATE TRIGGER fact_follows AFTER INSERT ON fact
REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION fact_follows();

CREATE FUNCTION fact_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'facts are append-only: they are never changed or deleted'
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER fact_stays BEFORE UPDATE OR DELETE ON fact
FOR EACH ROW EXECUTE FUNCTION fact_stays();
CREATE TRIGGER fact_remains BEFORE TRUNCATE ON fact
FOR EACH STATEMENT EXECUTE FUNCTION fact_stays();
