"""What can be read: each function looks at one snapshot and changes nothing."""

import sqlite3
from collections.abc import Sequence

from healer.domain.budget import Bucket
from healer.domain.episode import Episode
from healer.domain.journal import Sealed
from healer.domain.pause import Pause
from healer.domain.run import Run
from healer.domain.storm import Flow
from healer.ports import EpisodeFilter, Ledger, LedgerQuery, Message
from healer.store.rows import (
    decode_any,
    decode_approval,
    decode_episode,
    decode_pause,
    decode_run,
    decode_sealed,
    encode,
)
from healer.store.sqlite import runs
from healer.store.sqlite.statements import SQL

_SHORTEST_PREFIX = 6


def ledger(connection: sqlite3.Connection, query: LedgerQuery, now: float) -> Ledger:
    """The persistent facts for a guard; see `healer.ports.Ledger` for what each means."""
    run = connection.execute
    keys = encode(list(query.bucket_keys))
    lock = run(SQL["lock_holder"], (query.lock,)).fetchone()
    flow = run(SQL["flow_look"], (query.zone,)).fetchone()
    bad, last_bad_at = run(SQL["bad_outcomes"], {"playbook": query.playbook}).fetchone()
    reset = run(SQL["breaker_look"], (query.playbook,)).fetchone()
    approval = run(SQL["approval_latest"], (query.episode_id,)).fetchone()
    place = 0
    in_flight_zone = 0
    if query.zone:
        in_flight_zone = run(SQL["in_flight_zone"], (query.zone, query.episode_id)).fetchone()[0]
        named = {"episode": query.episode_id, "zone": query.zone}
        place = run(SQL["queue_place"], named).fetchone()[0]
    return Ledger(
        pauses=tuple(pauses(connection, now)),
        buckets={key: Bucket(tokens, at) for key, tokens, at in run(SQL["buckets"], (keys,))},
        locked_by=lock[0] if lock else None,
        last_run_ended_at=run(SQL["last_run_ended"], (query.playbook, query.target)).fetchone()[0],
        in_flight_owner=run(SQL["in_flight_lock"], (query.lock, query.episode_id)).fetchone()[0],
        in_flight_zone=in_flight_zone,
        flow=Flow(*flow) if flow else Flow(),
        queue_place=place,
        recent_runs=run(
            SQL["recent_runs"], (query.playbook, query.lock, now - query.recent_seconds)
        ).fetchone()[0],
        bad_outcomes=bad,
        last_bad_at=last_bad_at,
        breaker_reset_at=reset[0] if reset else None,
        approval=decode_approval(approval[0]) if approval else None,
    )


def pauses(connection: sqlite3.Connection, now: float) -> list[Pause]:
    """All pauses in force."""
    return [decode_pause(doc) for (doc,) in connection.execute(SQL["pauses"], (now,))]


def episode(connection: sqlite3.Connection, id_: str) -> Episode | None:
    """One episode by its id, or by an unambiguous prefix of it."""
    row = connection.execute(SQL["episode_look"], (id_,)).fetchone()
    if row is not None:
        return decode_episode(row[0])
    if len(id_) < _SHORTEST_PREFIX:
        return None
    found = connection.execute(SQL["episode_prefix"], (id_, id_ + "\U0010ffff")).fetchall()
    return decode_episode(found[0][0]) if len(found) == 1 else None


def episodes(connection: sqlite3.Connection, which: EpisodeFilter) -> list[Episode]:
    """Episodes, newest first."""
    rows = connection.execute(
        SQL["episodes"],
        {
            "states": encode(list(which.states)),
            "source": which.source_prefix,
            "firing": which.firing,
            "playbook": which.playbook,
            "text": which.text,
            "limit": which.limit,
        },
    )
    return [decode_episode(doc) for (doc,) in rows]


def list_runs(connection: sqlite3.Connection, episode_id: str, limit: int) -> list[Run]:
    """Runs with their steps, newest first; of one episode when named."""
    if episode_id:
        rows = connection.execute(SQL["runs_of"], (episode_id, limit))
    else:
        rows = connection.execute(SQL["runs_all"], (limit,))
    return runs.complete(connection, [decode_run(doc) for (doc,) in rows])


def facts(connection: sqlite3.Connection, episode_id: str, after: int, limit: int) -> list[Sealed]:
    """Facts in order; of one episode when named."""
    if episode_id:
        rows = connection.execute(SQL["facts_of"], (episode_id, after, limit))
    else:
        rows = connection.execute(SQL["facts_all"], (after, limit))
    return [decode_sealed(row) for row in rows]


def messages_due(connection: sqlite3.Connection, now: float, limit: int) -> Sequence[Message]:
    """Messages to be delivered now, the longest waiting first."""
    rows = connection.execute(SQL["messages_due"], (now, limit))
    return [Message(id_, channel, decode_any(body), tries) for id_, channel, body, tries in rows]


def next_due(connection: sqlite3.Connection) -> float | None:
    """When there is next something to do: an episode, the end of a lease, or a message."""
    due: float | None = connection.execute(SQL["next_due"]).fetchone()[0]
    return due


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Numbers for the metrics page."""
    found: dict[str, int] = dict(connection.execute(SQL["counts"]).fetchall())
    head = connection.execute(SQL["fact_last"]).fetchone()
    if head is not None:
        found["fact_seq"], found["fact_hash"] = head[0], int(head[1][:13], 16)
    return found


def playbook_text(connection: sqlite3.Connection, sha256: str) -> str | None:
    """The YAML a run began with."""
    row = connection.execute(SQL["text_look"], (sha256,)).fetchone()
    return row[0] if row else None
