"""The inbox: alerts made durable as they came, and folded into episodes in the order they came."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from healer.domain.alert import Alert, Rejected
from healer.domain.episode import Episode, Fold, FoldKind
from healer.domain.journal import Fact, FactKind
from healer.domain.verdict import Reason
from healer.kernel.ids import digest
from healer.store.sqlite import chain
from healer.store.sqlite.rows import decode_fold_rows, encode, encode_episode
from healer.store.sqlite.statements import SQL, insert_rows

Decide = Callable[[Episode | None, Alert, float], Fold]
EventRow = tuple[bytes, str, str, bool, float, str]

#: Polls are facts of their own every time; folded ones are forgotten after this.
POLLS_KEPT_SECONDS = 3600.0
#: A delivery is known again (and is a no-op) this long after it was folded.
DELIVERIES_KEPT_SECONDS = 30 * 86400.0
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
    latest: dict[tuple[str, str], Episode | None] = {}
    changed: dict[str, Episode] = {}
    facts: list[Fact] = []
    folded: list[tuple[Alert, Fold]] = []
    batch = sorted(decode_fold_rows(text), key=lambda row: row[0])
    for _, accepted_at, alert, stored in batch:
        key = (alert.source, alert.fingerprint)
        before = latest.setdefault(key, stored)
        # What waited here, over a restart perhaps, is as old as its acceptance and not fresh.
        result = decide(before, alert, min(now, accepted_at))
        folded.append((alert, result))
        if result.kind in {FoldKind.OPENED, FoldKind.RESOLVED, FoldKind.STALE}:
            facts.append(_accepted(before, alert, result, now))
        if result.episode is not None:
            latest[key] = result.episode
            changed[result.episode.id] = result.episode
    insert_rows(connection, "fold_episode", [_episode_row(e, now) for e in changed.values()])
    chain.append(connection, facts)
    connection.execute(SQL["fold_mark"], (batch[-1][0],))
    for polled, kept in ((True, POLLS_KEPT_SECONDS), (False, DELIVERIES_KEPT_SECONDS)):
        connection.execute(SQL["event_forget"], (polled, now - kept, _FORGET_AT_ONCE))
    return folded


def _accepted(before: Episode | None, alert: Alert, result: Fold, now: float) -> Fact:
    episode = result.episode or before
    reason = Reason.STALE if result.kind is FoldKind.STALE else None
    return Fact(
        FactKind.ACCEPTED,
        now,
        episode_id=episode.id if episode else "",
        run_id=episode.run_id if episode else "",
        reason=reason,
        detail=f"{result.kind}: {alert.name}" + (f", {result.detail}" if result.detail else ""),
        data={
            "fold": result.kind.value,
            "event": alert.event_id,
            "source": alert.source,
            "fingerprint": alert.fingerprint,
            "starts_at": alert.starts_at,
            "ends_at": alert.ends_at,
            "polled_at": alert.polled_at,
        },
    )


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
