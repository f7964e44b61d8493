-- Documents (`doc`, `body`) are whole domain values as JSON; columns beside them exist for claims,
-- queries and indexes. Times are Unix seconds.

CREATE TABLE schema_version (
    version INTEGER PRIMARY KEY,
    at REAL NOT NULL
);

-- The inbox. `seq` is the order of acceptance; rows up to `folded.seq` have been folded.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,  -- SHA-256 of source, fingerprint, start, status (and poll)
    source TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    polled INTEGER NOT NULL,
    received_at REAL NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX event_by_age ON event (polled, received_at);

CREATE TABLE folded (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    seq INTEGER NOT NULL
);
INSERT INTO folded (only, seq) VALUES (1, 0);

CREATE TABLE rejected (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    source TEXT NOT NULL,
    problem TEXT NOT NULL,
    payload TEXT NOT NULL,
    received_at REAL NOT NULL
);

CREATE TABLE episode (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    firing INTEGER NOT NULL,
    severity_rank INTEGER NOT NULL,
    opened_at REAL NOT NULL,
    next_at REAL NOT NULL,
    playbook TEXT NOT NULL,
    target TEXT NOT NULL,
    zone TEXT NOT NULL DEFAULT '',
    doc TEXT NOT NULL,
    owner TEXT NOT NULL DEFAULT '',  -- who holds the claim; empty: nobody
    epoch INTEGER NOT NULL DEFAULT 0,
    lease_until REAL NOT NULL DEFAULT 0,
    wake_at REAL,  -- something happened while it was claimed: due then, whatever the worker says
    due_at REAL GENERATED ALWAYS AS (CASE WHEN owner = '' THEN next_at ELSE lease_until END) VIRTUAL,
    UNIQUE (source, fingerprint, ordinal)
);
CREATE INDEX episode_due ON episode (due_at) WHERE state <> 'closed';
CREATE INDEX episode_by_state ON episode (state, zone);
CREATE INDEX episode_by_age ON episode (opened_at);

CREATE TABLE run (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    episode_id TEXT NOT NULL REFERENCES episode (id),
    playbook TEXT NOT NULL,
    target TEXT NOT NULL,
    lock TEXT NOT NULL,
    zone TEXT NOT NULL,
    phase TEXT NOT NULL,
    result TEXT,
    started_at REAL NOT NULL,
    finished_at REAL,
    doc TEXT NOT NULL  -- without its steps
);
CREATE UNIQUE INDEX run_unfinished ON run (episode_id) WHERE phase <> 'done';
CREATE INDEX run_in_flight ON run (zone, lock) WHERE phase NOT IN ('guard', 'done');
CREATE INDEX run_by_episode ON run (episode_id);
CREATE INDEX run_by_age ON run (started_at);
CREATE INDEX run_by_playbook ON run (playbook, finished_at);

CREATE TABLE step (
    seq INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES run (id),
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    undo INTEGER NOT NULL,
    outcome TEXT,  -- NULL: the intent is on disk, what came of it is not known
    doc TEXT NOT NULL,
    UNIQUE (run_id, step, attempt, undo)
);

CREATE TABLE target_lock (
    target TEXT PRIMARY KEY,
    episode_id TEXT NOT NULL REFERENCES episode (id),
    epoch INTEGER NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX target_lock_by_episode ON target_lock (episode_id);

CREATE TABLE bucket (
    key TEXT PRIMARY KEY,
    tokens REAL NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE approval (
    seq INTEGER PRIMARY KEY,
    episode_id TEXT NOT NULL REFERENCES episode (id),
    plan_digest TEXT NOT NULL,
    asked_at REAL NOT NULL,
    doc TEXT,  -- the answer; NULL: a person is waited for
    run_id TEXT NOT NULL DEFAULT '',  -- the run that used it
    UNIQUE (episode_id, plan_digest)
);

CREATE TABLE pause (
    id TEXT PRIMARY KEY,
    until REAL,
    doc TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE flow (
    zone TEXT PRIMARY KEY,
    held_at REAL,
    recovered INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE breaker (
    playbook TEXT PRIMARY KEY,
    reset_at REAL NOT NULL,
    reset_by TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    channel TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX outbox_due ON outbox (due_at) WHERE done = 0;

CREATE TABLE playbook_text (
    sha256 TEXT PRIMARY KEY,
    text TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE fact (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    episode_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    reason TEXT,
    detail TEXT NOT NULL,
    data TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX fact_by_episode ON fact (episode_id, seq);

CREATE TRIGGER fact_follows BEFORE INSERT ON fact
WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM fact)
BEGIN
    SELECT RAISE(ABORT, 'facts are append-only: a fact follows the last one');
END;
CREATE TRIGGER fact_stays BEFORE UPDATE ON fact
BEGIN
    SELECT RAISE(ABORT, 'facts are append-only: they are never changed');
END;
CREATE TRIGGER fact_remains BEFORE DELETE ON fact
BEGIN
    SELECT RAISE(ABORT, 'facts are append-only: they are never deleted');
END;
