"""The in-memory inbox: alerts accepted once each, and folded in the order they came."""

from collections.abc import Callable, Iterable, Sequence

from healer.domain.alert import Alert, Rejected
from healer.domain.episode import Episode, Fold, FoldKind
from healer.domain.journal import Fact, FactKind
from healer.domain.verdict import Reason
from healer.kernel.ids import digest
from healer.ports import Receipt
from healer.testing.store_journal import MemoryJournal, Received, finite, written

#: Polls are facts of their own every time; folded ones are forgotten after this. Seconds.
POLLS_KEPT_SECONDS = 3600.0
#: A delivery is known again (and is a no-op) this long after it was folded. Seconds.
DELIVERIES_KEPT_SECONDS = 30 * 86400.0
_REJECTED_KEPT = 10_000


def accept(
    journal: MemoryJournal, alerts: Sequence[Alert], rejected: Sequence[Rejected], at: float
) -> Receipt:
    """Keep every alert that is not known by its event id."""
    for each in rejected:
        journal.rejected.setdefault(digest(each.source, each.problem, each.payload), each)
    while len(journal.rejected) > _REJECTED_KEPT:
        del journal.rejected[next(iter(journal.rejected))]
    new = 0
    for alert in alerts:
        event_id = alert.event_id
        if event_id not in journal.known:
            journal.known.add(event_id)
            journal.inbox.append(Received(at, alert, event_id))
            new += 1
    return Receipt(new, len(alerts) - new, len(rejected))


def fold(
    journal: MemoryJournal,
    decide: Callable[[Episode | None, Alert, float], Fold],
    now: float,
    limit: int,
) -> list[tuple[Alert, Fold]]:
    """Fold the oldest `limit` events; see `healer.ports.Store.fold`."""
    batch = [journal.inbox[place] for place in range(min(limit, len(journal.inbox)))]
    latest: dict[tuple[str, str], Episode | None] = {}
    changed: dict[str, Episode] = {}
    facts: list[Fact] = []
    folded: list[tuple[Alert, Fold]] = []
    for received in batch:
        alert = received.alert
        key = (alert.source, alert.fingerprint)
        if key not in latest:
            row = journal.latest.get(key)
            latest[key] = row.episode if row is not None else None
        before = latest[key]
        result = decide(before, alert, min(now, received.at))
        folded.append((alert, result))
        if result.kind in {FoldKind.OPENED, FoldKind.RESOLVED, FoldKind.STALE}:
            facts.append(_accepted(before, alert, result, now))
        if result.episode is not None:
            latest[key] = changed[result.episode.id] = finite(result.episode)
    texts = written(facts)
    # Nothing below raises: from here on it happens, above nothing has.
    for episode in changed.values():
        _put(journal, episode, now)
    journal.append(texts)
    for received in batch:
        journal.inbox.popleft()
        journal.folded[received.alert.polled_at is not None].append(received)
    _forget(journal, now)
    return folded


def _put(journal: MemoryJournal, episode: Episode, now: float) -> None:
    row = journal.episodes.get(episode.id)
    if row is None:
        journal.add(episode).wake_at = now
        return
    if row.episode.firing != episode.firing:
        row.wake_at = now
    journal.put(row, episode)


def _forget(journal: MemoryJournal, now: float) -> None:
    """What was folded long ago; the last one always stays."""
    kept = {True: POLLS_KEPT_SECONDS, False: DELIVERIES_KEPT_SECONDS}
    for polled, events in journal.folded.items():
        while len(events) > 1 and events[0].at < now - kept[polled]:
            journal.known.discard(events.popleft().event_id)


def _accepted(before: Episode | None, alert: Alert, result: Fold, now: float) -> Fact:
    episode = result.episode or before
    return Fact(
        FactKind.ACCEPTED,
        now,
        episode_id=episode.id if episode else "",
        run_id=episode.run_id if episode else "",
        reason=Reason.STALE if result.kind is FoldKind.STALE else None,
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


def since(events: Iterable[Received]) -> int:
    """When the oldest of them was accepted, whole Unix seconds; 0 for none."""
    return int(min((event.at for event in events), default=0.0))
