-- Every statement the engine runs, by name. A list of values is one JSON array, read by json_each.
-- Statements marked "rows" have one VALUES tuple and are repeated for many rows at once.

-- name: event_add
-- rows
INSERT INTO event (id, source, fingerprint, polled, received_at, body)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING

-- name: event_last
SELECT coalesce(max(seq), 0) FROM event

-- name: event_ids_after
SELECT group_concat(hex(id)) FROM event WHERE seq > ?

-- name: rejected_add
-- rows
INSERT INTO rejected (id, source, problem, payload, received_at)
VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING

-- name: rejected_trim
DELETE FROM rejected WHERE seq <= (SELECT max(seq) FROM rejected) - ?

-- name: fold_next
-- One JSON text for the whole batch: stepping through rows would hand over the interpreter lock
-- once a row, and a busy event loop gives it back late.
SELECT '[' || group_concat(
    '[' || seq || ',' || printf('%!.17g', received_at) || ',' || body || ',' || coalesce(doc, 'null') || ']'
) || ']'
FROM (
    SELECT event.seq, event.received_at, event.body, episode.doc
    FROM event
    LEFT JOIN episode
        ON episode.source = event.source
        AND episode.fingerprint = event.fingerprint
        AND episode.ordinal = (
            SELECT max(latest.ordinal) FROM episode AS latest
            WHERE latest.source = event.source AND latest.fingerprint = event.fingerprint
        )
    WHERE event.seq > (SELECT seq FROM folded)
    ORDER BY event.seq
    LIMIT ?
)

-- name: fold_mark
UPDATE folded SET seq = ?

-- name: fold_episode
-- rows
INSERT INTO episode (
    id, source, fingerprint, ordinal, name, state, firing, severity_rank, opened_at, next_at,
    playbook, target, doc, wake_at
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    firing = excluded.firing,
    next_at = excluded.next_at,
    doc = excluded.doc,
    wake_at = CASE WHEN excluded.firing <> firing THEN excluded.wake_at ELSE wake_at END

-- name: event_forget
-- The last folded row always stays: numbering continues from the highest that exists.
DELETE FROM event WHERE seq IN (
    SELECT seq FROM event
    WHERE polled = ? AND received_at < ? AND seq < (SELECT seq FROM folded)
    ORDER BY received_at
    LIMIT ?
)

-- name: claim_candidates
SELECT id, owner, epoch, doc FROM episode
WHERE id IN (
    SELECT id FROM episode
    WHERE state <> 'closed' AND due_at <= ?
    ORDER BY severity_rank DESC, opened_at, id
    LIMIT ?
)
ORDER BY severity_rank DESC, opened_at, id

-- name: claim_take
UPDATE episode SET owner = ?, epoch = epoch + 1, lease_until = ?, wake_at = NULL WHERE id = ?

-- name: leases_end
UPDATE episode SET lease_until = 0 WHERE owner <> '' AND state <> 'closed'

-- name: renew
-- A lease that was asked to be longer for the sake of one step is never cut short.
UPDATE episode SET lease_until = max(lease_until, ?) WHERE id = ? AND owner = ? AND epoch = ?

-- name: commit_look
SELECT doc, owner, epoch, lease_until, wake_at FROM episode WHERE id = ?

-- name: commit_look_all
-- One JSON text, as for `fold_next`.
SELECT '[' || group_concat(
    '[' || json_quote(id) || ',' || doc || ',' || json_quote(owner) || ',' || epoch || ','
    || printf('%!.17g', lease_until) || ','
    || CASE WHEN wake_at IS NULL THEN 'null' ELSE printf('%!.17g', wake_at) END || ']'
) || ']'
FROM episode WHERE id IN (SELECT value FROM json_each(?))

-- name: commit_write_all
-- rows: id, owner and epoch as claimed; state, rank, next_at, playbook, target, zone, doc; then the
-- owner and the end of the lease from now on.
UPDATE episode SET
    state = new.column4, severity_rank = new.column5, next_at = new.column6,
    playbook = new.column7, target = new.column8, zone = coalesce(new.column9, episode.zone),
    doc = new.column10, owner = new.column11, lease_until = new.column12
FROM (
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
) AS new
WHERE episode.id = new.column1 AND episode.owner = new.column2 AND episode.epoch = new.column3

-- name: commit_write
UPDATE episode SET
    state = ?, severity_rank = ?, next_at = ?, playbook = ?, target = ?, zone = coalesce(?, zone),
    doc = ?, owner = ?, lease_until = ?
WHERE id = ? AND owner = ? AND epoch = ?

-- name: episode_look
SELECT doc FROM episode WHERE id = ?

-- name: episode_close
UPDATE episode SET state = ?, doc = ?, owner = '', lease_until = 0, epoch = epoch + 1 WHERE id = ?

-- name: episode_wake
UPDATE episode SET next_at = ?, doc = ?, wake_at = ? WHERE id = ?

-- name: episode_prefix
SELECT doc FROM episode WHERE id >= ? AND id < ? LIMIT 2

-- name: episodes
SELECT doc FROM episode
WHERE (:states = '[]' OR state IN (SELECT value FROM json_each(:states)))
    AND substr(source, 1, length(:source)) = :source
    AND (:firing IS NULL OR firing = :firing)
    AND (:playbook = '' OR playbook = :playbook)
    AND (
        :text = '' OR instr(lower(id), lower(:text)) OR instr(lower(name), lower(:text))
        OR instr(lower(target), lower(:text))
    )
ORDER BY opened_at DESC, seq DESC
LIMIT :limit

-- name: run_write
INSERT INTO run (
    id, episode_id, playbook, target, lock, zone, phase, result, started_at, finished_at, doc
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    playbook = excluded.playbook, target = excluded.target, lock = excluded.lock,
    zone = excluded.zone, phase = excluded.phase, result = excluded.result,
    started_at = excluded.started_at, finished_at = excluded.finished_at, doc = excluded.doc
WHERE run.episode_id = excluded.episode_id

-- name: runs_unfinished
SELECT doc FROM run
WHERE phase <> 'done' AND episode_id IN (SELECT value FROM json_each(?))

-- name: runs_all
SELECT doc FROM run ORDER BY started_at DESC, seq DESC LIMIT ?

-- name: runs_of
SELECT doc FROM run WHERE episode_id = ? ORDER BY started_at DESC, seq DESC LIMIT ?

-- name: steps_of
-- One JSON text, as for `fold_next`.
SELECT '[' || group_concat('[' || seq || ',' || json_quote(run_id) || ',' || doc || ']') || ']'
FROM step WHERE run_id IN (SELECT value FROM json_each(?))

-- name: step_write
-- An outcome is never taken back: a late intent does not overwrite it.
INSERT INTO step (run_id, step, attempt, undo, outcome, doc)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, step, attempt, undo) DO UPDATE SET
    outcome = excluded.outcome, doc = excluded.doc
WHERE step.outcome IS NULL OR excluded.outcome IS NOT NULL

-- name: lock_holder
SELECT episode_id FROM target_lock WHERE target = ?

-- name: lock_holders
SELECT json_group_object(target, episode_id) FROM target_lock
WHERE target IN (SELECT value FROM json_each(?))

-- name: lock_take
-- rows
INSERT INTO target_lock (target, episode_id, epoch, at)
VALUES (?, ?, ?, ?)
ON CONFLICT (target) DO UPDATE SET epoch = excluded.epoch

-- name: lock_free
DELETE FROM target_lock WHERE episode_id IN (SELECT value FROM json_each(?))

-- name: bucket_look
SELECT tokens, at FROM bucket WHERE key = ?

-- name: buckets_all
-- One JSON text, as for `fold_next`.
SELECT '[' || group_concat(
    '[' || json_quote(key) || ',' || printf('%!.17g', tokens) || ',' || printf('%!.17g', at) || ']'
) || ']'
FROM bucket WHERE key IN (SELECT value FROM json_each(?))

-- name: bucket_write
-- rows
INSERT INTO bucket (key, tokens, at)
VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET tokens = excluded.tokens, at = excluded.at

-- name: approval_ask
-- Asking again for the same plan keeps an answer that came in between.
INSERT INTO approval (episode_id, plan_digest, asked_at) VALUES (?, ?, ?)
-- One that was used for a run is not used again.
ON CONFLICT (episode_id, plan_digest) DO UPDATE SET
    asked_at = excluded.asked_at,
    doc = CASE WHEN run_id = '' THEN doc END,
    run_id = ''

-- name: approval_waiting
SELECT plan_digest, doc FROM approval
WHERE episode_id = ? ORDER BY asked_at DESC, seq DESC LIMIT 1

-- name: approval_answer
UPDATE approval SET doc = ?, run_id = '' WHERE episode_id = ? AND plan_digest = ?

-- name: approval_used
INSERT INTO approval (episode_id, plan_digest, asked_at, doc, run_id) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (episode_id, plan_digest) DO UPDATE SET doc = excluded.doc, run_id = excluded.run_id

-- name: pause_write
INSERT INTO pause (id, until, doc) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET until = excluded.until, doc = excluded.doc

-- name: pause_look
SELECT doc FROM pause WHERE id = ?

-- name: pause_clear
DELETE FROM pause WHERE id = ?

-- name: pauses
SELECT doc FROM pause WHERE until IS NULL OR until > ? ORDER BY id

-- name: flow_write
INSERT INTO flow (zone, held_at, recovered) VALUES (?, ?, ?)
ON CONFLICT (zone) DO UPDATE SET held_at = excluded.held_at, recovered = excluded.recovered

-- name: breaker_reset
INSERT INTO breaker (playbook, reset_at, reset_by) VALUES (?, ?, ?)
ON CONFLICT (playbook) DO UPDATE SET reset_at = excluded.reset_at, reset_by = excluded.reset_by

-- name: ledgers
-- rows: playbook, target, lock, zone, episode, since, and a number that comes back with the answer.
SELECT
    asked.column7,
    (SELECT episode_id FROM target_lock WHERE target = asked.column3),
    (
        SELECT max(finished_at) FROM run
        WHERE target = asked.column2 AND playbook = asked.column1 AND finished_at IS NOT NULL
            AND EXISTS (
                SELECT 1 FROM step
                WHERE step.run_id = run.id
                    AND (step.outcome IS NULL OR step.outcome IN ('applied', 'unknown'))
            )
    ),
    (
        SELECT count(*) FROM run
        WHERE lock = asked.column3 AND phase NOT IN ('guard', 'done')
            AND episode_id <> asked.column5
    ),
    CASE WHEN asked.column4 = '' THEN 0 ELSE (
        SELECT count(*) FROM run
        WHERE zone = asked.column4 AND phase NOT IN ('guard', 'done')
            AND episode_id <> asked.column5
    ) END,
    (SELECT held_at FROM flow WHERE zone = asked.column4),
    (SELECT recovered FROM flow WHERE zone = asked.column4),
    CASE WHEN asked.column4 = '' THEN 0 ELSE (
        SELECT count(*) FROM episode AS other, episode AS mine
        WHERE mine.id = asked.column5 AND other.state = 'blocked' AND other.zone = asked.column4
            AND json_extract(other.doc, '$.reason')
                IN ('zone_degraded', 'owner_degraded', 'storm_paced')
            AND other.id <> mine.id
            AND (-other.severity_rank, other.opened_at, other.id)
                < (-mine.severity_rank, mine.opened_at, mine.id)
    ) END,
    (
        SELECT count(*) FROM run
        WHERE lock = asked.column3 AND playbook = asked.column1 AND finished_at > asked.column6
            AND EXISTS (
                SELECT 1 FROM step
                WHERE step.run_id = run.id
                    AND (step.outcome IS NULL OR step.outcome IN ('applied', 'unknown'))
            )
    ),
    (
        SELECT printf('%d %!.17g', count(*), max(finished_at)) FROM run
        WHERE playbook = asked.column1 AND result = 'escalated'
            AND finished_at > coalesce(
                (
                    SELECT max(finished_at) FROM run
                    WHERE playbook = asked.column1 AND result = 'healed'
                        AND finished_at IS NOT NULL
                ),
                -1e18
            )
            AND EXISTS (
                SELECT 1 FROM step
                WHERE step.run_id = run.id
                    AND (step.outcome IS NULL OR step.outcome IN ('applied', 'unknown'))
            )
    ),
    (SELECT reset_at FROM breaker WHERE playbook = asked.column1),
    (
        SELECT doc FROM approval
        WHERE episode_id = asked.column5 AND doc IS NOT NULL AND run_id = ''
        ORDER BY asked_at DESC, seq DESC LIMIT 1
    )
FROM (
VALUES (?, ?, ?, ?, ?, ?, ?)
) AS asked

-- name: message_add
INSERT INTO outbox (id, channel, body, attempts) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING

-- name: messages_due
SELECT id, channel, body, attempts FROM outbox
WHERE done = 0 AND due_at <= ? ORDER BY due_at, seq LIMIT ?

-- name: message_take
UPDATE outbox SET due_at = ? WHERE id = ? AND done = 0 AND due_at <= ?

-- name: message_done
UPDATE outbox SET done = 1, attempts = attempts + 1 WHERE id = ?

-- name: message_again
UPDATE outbox SET due_at = ?, attempts = attempts + 1 WHERE id = ? AND done = 0

-- name: next_due
SELECT min(due_at) FROM (
    SELECT min(due_at) AS due_at FROM episode WHERE state <> 'closed'
    UNION ALL
    SELECT min(due_at) FROM outbox WHERE done = 0
)

-- name: counts
SELECT 'inbox', count(*) FROM event WHERE seq > (SELECT seq FROM folded)
UNION ALL SELECT 'outbox', count(*) FROM outbox WHERE done = 0
UNION ALL SELECT 'outbox_failing', count(*) FROM outbox WHERE done = 0 AND attempts > 0
UNION ALL SELECT 'inbox_since', CAST(coalesce(min(received_at), 0) AS INTEGER)
    FROM event WHERE seq > (SELECT seq FROM folded)
UNION ALL SELECT 'rejected', count(*) FROM rejected
UNION ALL SELECT 'episodes/' || state, count(*) FROM episode GROUP BY state

-- name: text_add
-- rows
INSERT INTO playbook_text (sha256, text)
VALUES (?, ?)
ON CONFLICT (sha256) DO NOTHING

-- name: text_look
SELECT text FROM playbook_text WHERE sha256 = ?

-- name: fact_last
SELECT seq, hash FROM fact ORDER BY seq DESC LIMIT 1

-- name: fact_add
-- rows
INSERT INTO fact (seq, kind, at, episode_id, run_id, reason, detail, data, previous, hash)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: facts_all
SELECT seq, kind, at, episode_id, run_id, reason, detail, data, previous, hash
FROM fact WHERE seq > ? ORDER BY seq LIMIT ?

-- name: facts_of
SELECT seq, kind, at, episode_id, run_id, reason, detail, data, previous, hash
FROM fact WHERE episode_id = ? AND seq > ? ORDER BY seq LIMIT ?

-- name: future_episodes
-- A clock that was set back while nobody served: what was written later than now moves with it.
UPDATE episode SET next_at = next_at - :ahead, doc = json_replace(
    doc,
    '$.next_at', json_extract(doc, '$.next_at') - :ahead,
    '$.opened_at', json_extract(doc, '$.opened_at') - :ahead,
    '$.updated_at', json_extract(doc, '$.updated_at') - :ahead,
    '$.last_seen_at', json_extract(doc, '$.last_seen_at') - :ahead,
    '$.waiting_since', json_extract(doc, '$.waiting_since') - :ahead
)
WHERE state <> 'closed' AND json_extract(doc, '$.updated_at') > :now

-- name: future_runs
UPDATE run SET finished_at = finished_at - :ahead WHERE finished_at > :now

-- name: future_verifications
UPDATE run SET doc = json_replace(
    doc,
    '$.verify_until', json_extract(doc, '$.verify_until') - :ahead,
    '$.stable_since', json_extract(doc, '$.stable_since') - :ahead,
    '$.unknown_since', json_extract(doc, '$.unknown_since') - :ahead
)
WHERE phase <> 'done' AND json_extract(doc, '$.verify_until') > :now

-- name: future_buckets
UPDATE bucket SET at = at - :ahead WHERE at > :now

-- name: future_messages
UPDATE outbox SET due_at = due_at - :ahead WHERE done = 0 AND due_at > :now

-- name: future_by
SELECT at - :now FROM fact ORDER BY seq DESC LIMIT 1
