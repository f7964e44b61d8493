"""The inbox: alerts made durable as they came, and folded into episodes in the order they came."""

import sqlite3
from collections.abc import Iterable, Sequence

from healer.domain.alert import Alert, Rejected
from healer.domain.episode import Episode, Fold
from healer.kernel.ids import digest
from healer.store.folding import DELIVERIES_KEPT_SECONDS, POLLS_KEPT_SECONDS, Decide, fold_batch
from healer.store.rows import decode_fold_rows, encode, encode_episode
from healer.store.sqlite import chain
from healer.store.sqlite.statements import SQL, insert_rows

EventRow = tuple[bytes, str, str, bool, float, str]

_FORGET_AT_ONCE = 500
_REJECTED_KEPT = 10_000


def event_rows(alerts: Iterable[Alert], at: float) -> list[EventRow]:
    """Rows for `event_add`."""
    return [
        (
            bytes.fromhex(alert.event_id),
            alert.source,
            alert.fingerprint,
            alert.polled_at is not None,
            at,
            encode(alert),
        )
        for alert in alerts
    ]


def accept(connection: sqlite3.Connection, groups: Sequence[list[EventRow]]) -> list[int]:
    """Add the events of several callers; returns how many of each were new."""
    rows = [row for group in groups for row in group]
    last = connection.execute(SQL["event_last"]).fetchone()[0]
    added = insert_rows(connection, "event_add", rows)
    if added == len(rows):
        return [len(group) for group in groups]
    if added == 0:
        return [0] * len(groups)
    listed = connection.execute(SQL["event_ids_after"], (last,)).fetchone()[0]
    fresh = {bytes.fromhex(text) for text in listed.split(",")}
    counts = []
    for group in groups:
        mine = {row[0] for row in group} & fresh
        fresh -= mine
        counts.append(len(mine))
    return counts


def reject(connection: sqlite3.Connection, rejected: Sequence[Rejected], at: float) -> None:
    """Keep what could not be understood; the same again is kept once, the oldest are dropped."""
    rows = [
        (
            bytes.fromhex(digest(each.source, each.problem, each.payload)),
            each.source,
            each.problem,
            each.payload,
            at,
        )
        for each in rejected
    ]
    insert_rows(connection, "rejected_add", rows)
    connection.execute(SQL["rejected_trim"], (_REJECTED_KEPT,))


def fold(
    connection: sqlite3.Connection, decide: Decide, now: float, limit: int
) -> list[tuple[Alert, Fold]]:
    """Fold the oldest `limit` events; see `healer.ports.Store.fold`."""
    text = connection.execute(SQL["fold_next"], (limit,)).fetchone()[0]
    if text is None:
        return []
    batch = sorted(decode_fold_rows(text), key=lambda row: row[0])
    folded, changed, facts = fold_batch([row[1:] for row in batch], decide, now)
    insert_rows(connection, "fold_episode", [_episode_row(e, now) for e in changed])
    chain.append(connection, facts)
    connection.execute(SQL["fold_mark"], (batch[-1][0],))
    for polled, kept in ((True, POLLS_KEPT_SECONDS), (False, DELIVERIES_KEPT_SECONDS)):
        connection.execute(SQL["event_forget"], (polled, now - kept, _FORGET_AT_ONCE))
    return folded


def _episode_row(episode: Episode, now: float) -> tuple[object, ...]:
    return (
        episode.id,
        episode.source,
        episode.fingerprint,
        episode.ordinal,
        episode.name,
        episode.state,
        episode.firing,
        episode.severity_rank,
        episode.opened_at,
        episode.next_at,
        episode.playbook,
        episode.target,
        encode_episode(episode),
        now,
    )
