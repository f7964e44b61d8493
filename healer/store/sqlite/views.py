"""What can be read: each function looks at one snapshot and changes nothing."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

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
    decode_buckets,
    decode_episode,
    decode_pause,
    decode_run,
    decode_sealed,
    encode,
)
from healer.store.sqlite import runs
from healer.store.sqlite.statements import SQL, select_rows

_SHORTEST_PREFIX = 6


def ledgers(
    connection: sqlite3.Connection, asked: Sequence[tuple[LedgerQuery, float]]
) -> list[Ledger]:
    """The persistent facts for each guard; see `healer.ports.Ledger` for what each means."""
    in_force = pauses(connection, min(now for _, now in asked))
    keys = {key for query, _ in asked for key in query.bucket_keys}
    text = connection.execute(SQL["buckets_all"], (encode(list(keys)),)).fetchone()[0]
    buckets = decode_buckets(text) if text else {}
    rows = [
        (q.playbook, q.target, q.lock, q.zone, q.episode_id, now - q.recent_seconds, number)
        for number, (q, now) in enumerate(asked)
    ]
    found = {row[0]: row[1:] for row in select_rows(connection, "ledgers", rows)}
    return [
        _ledger(query, now, found[number], in_force, buckets)
        for number, (query, now) in enumerate(asked)
    ]


def _ledger(
    query: LedgerQuery,
    now: float,
    row: tuple[Any, ...],
    in_force: Sequence[Pause],
    buckets: Mapping[str, Bucket],
) -> Ledger:
    lock, ended, in_lock, in_zone, held_at, recovered, place, recent, bad, reset, approval = row
    failures, _, last_bad_at = bad.partition(" ")
    return Ledger(
        pauses=tuple(each for each in in_force if each.until is None or each.until > now),
        buckets={key: buckets[key] for key in query.bucket_keys if key in buckets},
        locked_by=lock,
        last_run_ended_at=ended,
        in_flight_owner=in_lock,
        in_flight_zone=in_zone,
        flow=Flow() if recovered is None else Flow(held_at, recovered),
        queue_place=place,
        recent_runs=recent,
        bad_outcomes=int(failures),
        last_bad_at=float(last_bad_at) if int(failures) else None,
        breaker_reset_at=reset,
        approval=decode_approval(approval) if approval else None,
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
