-- Every statement the engine runs, by name. Many rows are one array a column, read by unnest.

-- name: begin
BEGIN ISOLATION LEVEL READ COMMITTED

-- name: opening
-- The transaction's time, its number (so that a lost answer to its COMMIT can be looked up), and
-- how long it may wait: whoever is stopped in the middle of it must not hold up the other replicas.
SELECT moment($1::float8), pg_current_xact_id()::text,
    set_config('lock_timeout', $2, true), set_config('idle_in_transaction_session_timeout', $2, true),
    set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)

-- name: begin_read
BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY

-- name: opening_read
SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)

-- name: free
-- End transactions that write, of our own role here, whose client has said nothing for $1 seconds. A
-- process that is frozen between two messages of one statement counts as active, so that
-- idle_in_transaction_session_timeout does not end it (seen on 15), and its locks hold up everybody.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
    AND backend_xid IS NOT NULL AND wait_event = 'ClientRead'
    AND state_change < clock_timestamp() - make_interval(secs => $1::float8)

-- name: life
-- Another one after each crash (statistics begin anew) and on a standby that was promoted (another
-- timeline). An error on a standby.
SELECT concat_ws(' ', left(pg_walfile_name(pg_current_wal_lsn()), 8),
    extract(epoch FROM pg_postmaster_start_time()),
    (SELECT extract(epoch FROM stats_reset) FROM pg_stat_bgwriter))

-- name: fate
-- In another life numbers are given again of which nothing had reached the log: `committed` may be
-- said of another transaction there, and anything else means that ours is lost.
SELECT CASE WHEN $1::text::xid8 >= pg_snapshot_xmax(pg_current_snapshot()) THEN 'ahead'
    ELSE pg_xact_status($1::text::xid8) END

-- name: event_add
-- Inserted in the order of ids, so that two that insert the same never wait for each other.
WITH batch AS MATERIALIZED (SELECT nextval('event_batch') AS number)
INSERT INTO event (id, batch, place, series, polled, received_at, body)
SELECT one.id, batch.number, one.place, one.series, one.polled, moment(one.at), one.body
FROM batch, unnest($1::bytea[], $2::int[], $3::bytea[], $4::bool[], $5::float8[], $6::text[])
    AS one (id, place, series, polled, at, body)
ORDER BY one.id
ON CONFLICT (id) DO NOTHING
RETURNING id

-- name: rejected_add
INSERT INTO rejected (id, source, problem, payload, received_at)
SELECT id, source, problem, payload, moment($5::float8)
FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[]) AS one (id, source, problem, payload)
ORDER BY id
ON CONFLICT (id) DO NOTHING

-- name: rejected_trim
DELETE FROM rejected WHERE seq <= (SELECT max(seq) FROM rejected) - $1::bigint

-- name: fold_turn
SELECT only_one FROM fold_turn WHERE only_one FOR UPDATE

-- name: fold_next
SELECT id, series, received_at, body FROM event
WHERE NOT folded ORDER BY batch, place LIMIT $1

-- name: fold_latest
-- Only whoever has the turn adds episodes, so the latest stays the latest.
SELECT series, doc FROM episode
WHERE id = ANY (ARRAY(
    SELECT DISTINCT ON (latest.series) latest.id FROM episode AS latest
    WHERE latest.series = ANY ($1::bytea[]) ORDER BY latest.series, latest.ordinal DESC
))
ORDER BY id FOR UPDATE

-- name: fold_episode
INSERT INTO episode AS old (
    id, series, ordinal, source, name, state, firing, severity_rank, opened_at, next_at,
    playbook, target, reason, doc, wake_at
)
SELECT one.id, series, ordinal, source, name, state, firing, severity_rank, opened_at, next_at,
    playbook, target, reason, doc, $15::float8
FROM unnest(
    $1::text[], $2::bytea[], $3::int[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::int[],
    $9::float8[], $10::float8[], $11::text[], $12::text[], $13::text[], $14::text[]
) WITH ORDINALITY AS one (
    id, series, ordinal, source, name, state, firing, severity_rank, opened_at, next_at,
    playbook, target, reason, doc, place
)
ORDER BY place
ON CONFLICT (id) DO UPDATE SET
    firing = excluded.firing,
    next_at = excluded.next_at,
    doc = excluded.doc,
    wake_at = CASE WHEN excluded.firing <> old.firing THEN excluded.wake_at ELSE old.wake_at END

-- name: fold_mark
UPDATE event SET folded = true WHERE id = ANY ($1::bytea[])

-- name: event_forget
DELETE FROM event WHERE id = ANY (ARRAY(
    SELECT id FROM event WHERE folded AND polled = $1 AND received_at < $2
    ORDER BY received_at LIMIT $3
))

-- name: claim
WITH due AS MATERIALIZED (
    SELECT id, owner FROM episode
    WHERE state <> 'closed' AND due_at <= $3::float8
    ORDER BY severity_rank DESC, opened_at, id
    LIMIT $4
    FOR UPDATE SKIP LOCKED
)
UPDATE episode
SET owner = $1, epoch = epoch + 1, lease_until = $2::float8, wake_at = NULL
FROM due WHERE episode.id = due.id
RETURNING episode.id, due.owner AS before, episode.epoch, episode.doc

-- name: leases_end
WITH theirs AS MATERIALIZED (
    SELECT id FROM episode WHERE starts_with(owner, $1) AND state <> 'closed'
    ORDER BY id FOR UPDATE
)
UPDATE episode SET lease_until = 0 FROM theirs WHERE episode.id = theirs.id

-- name: renew
-- A lease that was asked to be longer for the sake of one step is never cut short.
WITH ours AS MATERIALIZED (
    SELECT id FROM episode
    JOIN unnest($2::text[], $3::text[], $4::bigint[]) AS held (id, owner, epoch)
        USING (id, owner, epoch)
    ORDER BY id
    FOR UPDATE OF episode
)
UPDATE episode SET lease_until = greatest(lease_until, $1::float8)
FROM ours WHERE episode.id = ours.id
RETURNING episode.id

-- name: commit_lock
-- Episodes by id, then targets and buckets by their numbers, one after the other.
WITH held AS MATERIALIZED (
    SELECT id, doc, owner, epoch, lease_until, wake_at FROM episode
    WHERE id = ANY ($1::text[]) ORDER BY id FOR UPDATE
), numbers AS MATERIALIZED (
    SELECT pg_advisory_xact_lock($3::int, number)
    FROM unnest($2::int[]) AS number WHERE (SELECT count(*) FROM held) >= 0
)
SELECT held.* FROM (SELECT count(*) FROM numbers) AS locked, held

-- name: commit_books
-- What else the changes look at, once that cannot change any more: one row of columns.
SELECT * FROM (
    SELECT array_agg(target) AS targets, array_agg(episode_id) AS holders FROM target_lock
    WHERE target = ANY ($1::text[]) OR episode_id = ANY ($2::text[])
) AS locks, (
    SELECT array_agg(key) AS keys, array_agg(tokens) AS tokens, array_agg(at) AS times FROM bucket
    WHERE key = ANY ($3::text[])
) AS buckets, (
    SELECT array_agg(id) AS runs, array_agg(seq) AS seqs, array_agg(history) AS histories,
        array_agg(doc) AS docs
    FROM (
        SELECT id, seq, false AS history, doc FROM run
        WHERE episode_id = ANY ($4::text[]) OR id = ANY ($5::text[])
        UNION ALL
        SELECT id, seq, true AS history, doc FROM run_history WHERE id = ANY ($5::text[])
    ) AS one
) AS runs, (
    SELECT array_agg(run_id ORDER BY place) AS step_runs, array_agg(doc ORDER BY place) AS steps
    FROM (
        SELECT step.run_id, step.place, step.doc FROM run JOIN step ON step.run_id = run.id
        WHERE run.episode_id = ANY ($4::text[]) OR run.id = ANY ($5::text[])
        UNION ALL
        SELECT run_id, place, doc FROM step_history WHERE run_id = ANY ($5::text[])
    ) AS one
) AS steps

-- name: commit_write
-- Everything but facts and what is rare. No row is touched by two of the parts: a run that is done
-- leaves `run` for `run_history`, and so do its steps.
WITH episodes AS (
    UPDATE episode SET
        state = one.state, severity_rank = one.severity_rank, next_at = one.next_at,
        playbook = one.playbook, target = one.target, zone = coalesce(one.zone, episode.zone),
        reason = one.reason, doc = one.doc, owner = one.owner, lease_until = one.lease_until
    FROM unnest(
        $1::text[], $2::text[], $3::int[], $4::float8[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::float8[]
    ) AS one (
        id, state, severity_rank, next_at, playbook, target, zone, reason, doc, owner, lease_until
    )
    WHERE episode.id = one.id
), gone AS (
    DELETE FROM run WHERE id = ANY ($12::text[])
), steps_gone AS (
    DELETE FROM step WHERE run_id = ANY ($12::text[])
), changed AS MATERIALIZED (
    SELECT * FROM unnest(
        $13::text[], $14::bigint[], $15::text[], $16::text[], $17::text[], $18::text[],
        $19::text[], $20::text[], $21::text[], $22::float8[], $23::float8[], $24::text[]
    ) AS one (
        id, seq, episode_id, playbook, target, lock, zone, phase, result, started_at, finished_at,
        doc
    )
), runs AS (
    INSERT INTO run (
        id, seq, episode_id, playbook, target, lock, zone, phase, result, started_at, finished_at,
        doc
    )
    SELECT id, coalesce(seq, nextval('run_order')), episode_id, playbook, target, lock, zone, phase,
        result, started_at, finished_at, doc
    FROM changed WHERE phase <> 'done'
    ON CONFLICT (id) DO UPDATE SET
        playbook = excluded.playbook, target = excluded.target, lock = excluded.lock,
        zone = excluded.zone, phase = excluded.phase, result = excluded.result,
        started_at = excluded.started_at, finished_at = excluded.finished_at, doc = excluded.doc
), finished AS (
    INSERT INTO run_history (
        id, seq, episode_id, playbook, target, lock, zone, phase, result, started_at, finished_at,
        doc
    )
    SELECT id, coalesce(seq, nextval('run_order')), episode_id, playbook, target, lock, zone, phase,
        result, started_at, finished_at, doc
    FROM changed WHERE phase = 'done'
    ON CONFLICT (id) DO UPDATE SET
        playbook = excluded.playbook, target = excluded.target, lock = excluded.lock,
        zone = excluded.zone, phase = excluded.phase, result = excluded.result,
        started_at = excluded.started_at, finished_at = excluded.finished_at, doc = excluded.doc
), tried AS MATERIALIZED (
    SELECT * FROM unnest(
        $25::bool[], $26::text[], $27::int[], $28::int[], $29::int[], $30::bool[], $31::text[],
        $32::text[]
    ) AS one (history, run_id, place, step, attempt, undo, outcome, doc)
), steps AS (
    INSERT INTO step (run_id, place, step, attempt, undo, outcome, doc)
    SELECT run_id, place, step, attempt, undo, outcome, doc FROM tried WHERE NOT history
    ON CONFLICT (run_id, step, attempt, undo) DO UPDATE SET
        outcome = excluded.outcome, doc = excluded.doc
), steps_finished AS (
    INSERT INTO step_history (run_id, place, step, attempt, undo, outcome, doc)
    SELECT run_id, place, step, attempt, undo, outcome, doc FROM tried WHERE history
    ON CONFLICT (run_id, step, attempt, undo) DO UPDATE SET
        outcome = excluded.outcome, doc = excluded.doc
), freed AS (
    DELETE FROM target_lock WHERE target = ANY ($33::text[])
), taken AS (
    INSERT INTO target_lock (target, episode_id, epoch, at)
    SELECT target, episode_id, epoch, $37::float8
    FROM unnest($34::text[], $35::text[], $36::bigint[]) AS one (target, episode_id, epoch)
    ON CONFLICT (target) DO UPDATE SET
        episode_id = excluded.episode_id, epoch = excluded.epoch, at = excluded.at
)
INSERT INTO bucket (key, tokens, at)
SELECT * FROM unnest($38::text[], $39::float8[], $40::float8[])
ON CONFLICT (key) DO UPDATE SET tokens = excluded.tokens, at = excluded.at

-- name: runs_reopened
-- A run that was done is not; its steps come with `commit_write`.
WITH steps AS (DELETE FROM step_history WHERE run_id = ANY ($1::text[]))
DELETE FROM run_history WHERE id = ANY ($1::text[])

-- name: lock_free_of
DELETE FROM target_lock WHERE episode_id = $1

-- name: lock_take
INSERT INTO target_lock (target, episode_id, epoch, at)
SELECT target, episode_id, epoch, $4::float8
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS one (target, episode_id, epoch)
ON CONFLICT (target) DO UPDATE SET
    episode_id = excluded.episode_id, epoch = excluded.epoch, at = excluded.at

-- name: bucket_write
INSERT INTO bucket (key, tokens, at)
SELECT * FROM unnest($1::text[], $2::float8[], $3::float8[])
ON CONFLICT (key) DO UPDATE SET tokens = excluded.tokens, at = excluded.at

-- name: message_add
INSERT INTO outbox (id, channel, body, attempts)
SELECT id, channel, body, attempts
FROM unnest($1::text[], $2::text[], $3::text[], $4::int[])
    WITH ORDINALITY AS one (id, channel, body, attempts, place)
ORDER BY place
ON CONFLICT (id) DO NOTHING

-- name: text_add
INSERT INTO playbook_text (sha256, text)
SELECT sha256, text FROM unnest($1::text[], $2::text[]) AS one (sha256, text)
WHERE NOT EXISTS (SELECT 1 FROM playbook_text AS known WHERE known.sha256 = one.sha256)
ORDER BY sha256
ON CONFLICT (sha256) DO NOTHING

-- name: flow_write
INSERT INTO flow (zone, held_at, recovered)
SELECT * FROM unnest($1::text[], $2::float8[], $3::int[]) AS one (zone) ORDER BY zone
ON CONFLICT (zone) DO UPDATE SET held_at = excluded.held_at, recovered = excluded.recovered

-- name: approval_used
INSERT INTO approval (episode_id, plan_digest, asked_at, doc, run_id) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (episode_id, plan_digest) DO UPDATE SET doc = excluded.doc, run_id = excluded.run_id

-- name: approval_ask
-- Asking again for the same plan keeps an answer that came in between; one that was used for a run
-- is not used again.
INSERT INTO approval AS old (episode_id, plan_digest, asked_at) VALUES ($1, $2, $3)
ON CONFLICT (episode_id, plan_digest) DO UPDATE SET
    asked_at = excluded.asked_at,
    doc = CASE WHEN old.run_id = '' THEN old.doc END,
    run_id = ''

-- name: approval_waiting
SELECT plan_digest, doc FROM approval
WHERE episode_id = $1 ORDER BY asked_at DESC, seq DESC LIMIT 1

-- name: approval_answer
UPDATE approval SET doc = $1, run_id = '' WHERE episode_id = $2 AND plan_digest = $3

-- name: episode_lock
SELECT doc FROM episode WHERE id = $1 FOR UPDATE

-- name: episode_close
UPDATE episode SET state = $1, doc = $2, owner = '', lease_until = 0, epoch = epoch + 1
WHERE id = $3

-- name: episode_wake
UPDATE episode SET next_at = $1, doc = $2, wake_at = $3 WHERE id = $4

-- name: pause_write
INSERT INTO pause (id, until, doc) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET until = excluded.until, doc = excluded.doc

-- name: pause_clear
DELETE FROM pause WHERE id = $1 RETURNING doc

-- name: breaker_reset
INSERT INTO breaker (playbook, reset_at, reset_by) VALUES ($1, $2, $3)
ON CONFLICT (playbook) DO UPDATE SET reset_at = excluded.reset_at, reset_by = excluded.reset_by

-- name: message_take
UPDATE outbox SET due_at = $1 WHERE id = $2 AND NOT done AND due_at <= $3 RETURNING id

-- name: message_done
UPDATE outbox SET done = true, attempts = attempts + 1 WHERE id = $1

-- name: message_again
UPDATE outbox SET due_at = $1, attempts = attempts + 1 WHERE id = $2 AND NOT done

-- name: fact_end
SELECT seq, hash FROM fact_end WHERE only_one FOR UPDATE

-- name: fact_add
INSERT INTO fact (seq, kind, at, episode_id, run_id, reason, body, previous, hash)
SELECT * FROM unnest(
    $1::bigint[], $2::text[], $3::float8[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[]
)

-- name: hint
SELECT pg_notify($1, '')

-- name: ledgers
-- One row for each question, all of one moment; what they share comes with the first.
SELECT
    asked.number,
    asked.now,
    CASE WHEN asked.number = 1 THEN ARRAY(
        SELECT doc FROM pause
        WHERE until IS NULL
            OR until > moment((SELECT min(given) FROM unnest($1::float8[]) AS given))
        ORDER BY id
    ) END AS pauses,
    CASE WHEN asked.number = 1 THEN ARRAY(
        SELECT json_build_array(bucket.key, bucket.tokens, bucket.at)::text FROM bucket
        WHERE bucket.key = ANY ($8::text[])
    ) END AS buckets,
    (SELECT episode_id FROM target_lock WHERE target_lock.target = asked.lock) AS locked_by,
    (
        SELECT max(finished_at) FROM run_history AS run
        WHERE run.playbook = asked.playbook AND run.target = asked.target AND EXISTS (
            SELECT 1 FROM step_history AS step WHERE step.run_id = run.id
                AND (step.outcome IS NULL OR step.outcome IN ('applied', 'unknown'))
        )
    ) AS last_run_ended_at,
    (
        SELECT count(*) FROM run
        WHERE run.lock = asked.lock AND phase <> 'guard' AND run.episode_id <> asked.episode_id
    ) AS in_flight_owner,
    (
        SELECT count(*) FROM run
        WHERE asked.zone <> '' AND run.zone = asked.zone AND phase <> 'guard'
            AND run.episode_id <> asked.episode_id
    ) AS in_flight_zone,
    flow.held_at,
    flow.recovered,
    (
        SELECT count(*) FROM episode AS other, episode AS mine
        WHERE asked.zone <> '' AND mine.id = asked.episode_id AND other.state = 'blocked'
            AND other.zone = asked.zone
            AND other.reason IN ('zone_degraded', 'owner_degraded', 'storm_paced')
            AND other.id <> mine.id
            AND (-other.severity_rank, other.opened_at, other.id)
                < (-mine.severity_rank, mine.opened_at, mine.id)
    ) AS queue_place,
    (
        SELECT count(*) FROM run_history AS run
        WHERE run.playbook = asked.playbook AND run.lock = asked.lock
            AND finished_at > asked.now - asked.recent AND EXISTS (
                SELECT 1 FROM step_history AS step WHERE step.run_id = run.id
                    AND (step.outcome IS NULL OR step.outcome IN ('applied', 'unknown'))
            )
    ) AS recent_runs,
    bad.number AS bad_outcomes,
    bad.last_at AS last_bad_at,
    (SELECT reset_at FROM breaker WHERE breaker.playbook = asked.playbook) AS breaker_reset_at,
    (
        SELECT doc FROM approval
        WHERE approval.episode_id = asked.episode_id AND doc IS NOT NULL AND run_id = ''
        ORDER BY asked_at DESC, seq DESC LIMIT 1
    ) AS approval
FROM (
    SELECT one.*, moment(one.given) AS now
    FROM unnest(
        $1::float8[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[]
    ) WITH ORDINALITY AS one (given, playbook, target, lock, zone, episode_id, recent, number)
) AS asked
LEFT JOIN flow ON flow.zone = asked.zone
CROSS JOIN LATERAL (
    SELECT count(*) AS number, max(finished_at) AS last_at FROM run_history AS run
    WHERE run.playbook = asked.playbook AND result = 'escalated'
        AND finished_at > coalesce(
            (
                SELECT max(finished_at) FROM run_history
                WHERE playbook = asked.playbook AND result = 'healed'
            ),
            '-infinity'
        )
        AND EXISTS (
            SELECT 1 FROM step_history AS step WHERE step.run_id = run.id
                AND (step.outcome IS NULL OR step.outcome IN ('applied', 'unknown'))
        )
) AS bad

-- name: pauses
SELECT doc FROM pause WHERE until IS NULL OR until > moment($1::float8) ORDER BY id

-- name: episode_look
SELECT doc FROM episode WHERE id = $1

-- name: episode_prefix
SELECT doc FROM episode WHERE id >= $1 AND id < $2 LIMIT 2

-- name: episodes
SELECT doc FROM episode
WHERE ($1::text[] = '{}' OR state = ANY ($1::text[]))
    AND starts_with(source, $2)
    AND ($3::bool IS NULL OR firing = $3)
    AND ($4 = '' OR playbook = $4)
    AND (
        $5 = '' OR strpos(lower(id), lower($5)) > 0 OR strpos(lower(name), lower($5)) > 0
        OR strpos(lower(target), lower($5)) > 0
    )
ORDER BY opened_at DESC, seq DESC
LIMIT $6

-- name: runs_unfinished
SELECT run.doc, ARRAY(
    SELECT step.doc FROM step WHERE step.run_id = run.id ORDER BY step.place
) AS steps
FROM run WHERE run.episode_id = ANY ($1::text[])

-- name: runs_all
SELECT run.doc, ARRAY(
    SELECT step.doc FROM step_all AS step WHERE step.run_id = run.id ORDER BY step.place
) AS steps
FROM (SELECT * FROM run_all ORDER BY started_at DESC, seq DESC LIMIT $1) AS run
ORDER BY run.started_at DESC, run.seq DESC

-- name: runs_of
SELECT run.doc, ARRAY(
    SELECT step.doc FROM step_all AS step WHERE step.run_id = run.id ORDER BY step.place
) AS steps
FROM run_all AS run WHERE run.episode_id = $1
ORDER BY run.started_at DESC, run.seq DESC LIMIT $2

-- name: facts_all
SELECT seq, kind, at, episode_id, run_id, reason, body, previous, hash
FROM fact WHERE seq > $1 ORDER BY seq LIMIT $2

-- name: facts_of
SELECT seq, kind, at, episode_id, run_id, reason, body, previous, hash
FROM fact WHERE episode_id = $1 AND seq > $2 ORDER BY seq LIMIT $3

-- name: messages_due
SELECT id, channel, body, attempts FROM outbox
WHERE NOT done AND due_at <= moment($1::float8) ORDER BY due_at, seq LIMIT $2

-- name: next_due
SELECT least(
    (SELECT min(due_at) FROM episode WHERE state <> 'closed'),
    (SELECT min(due_at) FROM outbox WHERE NOT done)
)

-- name: counts
SELECT 'inbox', count(*) FROM event WHERE NOT folded
UNION ALL SELECT 'outbox', count(*) FROM outbox WHERE NOT done
UNION ALL SELECT 'outbox_failing', count(*) FROM outbox WHERE NOT done AND attempts > 0
UNION ALL SELECT 'inbox_since', coalesce(floor(min(received_at)), 0)::bigint
    FROM event WHERE NOT folded
UNION ALL SELECT 'rejected', count(*) FROM rejected
UNION ALL SELECT 'episodes/' || state, count(*) FROM episode GROUP BY state
UNION ALL SELECT 'fact_seq', seq FROM fact_end WHERE seq > 0
UNION ALL SELECT 'fact_hash', ('x' || left(hash, 13))::bit(52)::bigint FROM fact_end WHERE seq > 0

-- name: text_look
SELECT text FROM playbook_text WHERE sha256 = $1
