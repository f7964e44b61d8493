"""What folding a batch of alerts changes: pure, between one engine's read and its write."""

from collections.abc import Callable, Iterable

from healer.domain.alert import Alert
from healer.domain.episode import Episode, Fold, FoldKind
from healer.domain.journal import Fact, FactKind
from healer.domain.verdict import Reason

Decide = Callable[[Episode | None, Alert, float], Fold]

#: Polls are facts of their own every time; folded ones are forgotten after this.
POLLS_KEPT_SECONDS = 3600.0
#: A delivery is known again (and is a no-op) this long after it was folded.
DELIVERIES_KEPT_SECONDS = 30 * 86400.0


def fold_batch(
    batch: Iterable[tuple[float, Alert, Episode | None]], decide: Decide, now: float
) -> tuple[list[tuple[Alert, Fold]], list[Episode], list[Fact]]:
    """What was folded, the episodes as they are now, and the facts of it.

    The batch is in order: when each alert was accepted, the alert, and its latest stored episode.
    """
    latest: dict[tuple[str, str], Episode | None] = {}
    changed: dict[str, Episode] = {}
    facts: list[Fact] = []
    folded: list[tuple[Alert, Fold]] = []
    for accepted_at, alert, stored in batch:
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
    return folded, list(changed.values()), facts


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
