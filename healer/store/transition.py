"""What a worker's change means, the same for every engine: pure."""

from dataclasses import dataclass, replace

from healer.domain.episode import Episode
from healer.domain.journal import Fact, FactKind
from healer.domain.run import Run
from healer.errors import Fenced
from healer.ports import Change, Claim


def merge(change: Episode, stored: Episode) -> Episode:
    """The worker's view, with what `fold` alone may say: whether, since when and how it fires."""
    return replace(
        change,
        firing=stored.firing,
        ends_at=stored.ends_at,
        end_inferred=stored.end_inferred,
        last_seen_at=stored.last_seen_at,
        annotations=stored.annotations,
    )


@dataclass(frozen=True, slots=True)
class Stored:
    """An episode as the journal has it, with the claim on it."""

    episode: Episode
    owner: str
    epoch: int
    lease_until: float
    wake_at: float | None


def judged(held: Claim, change: Change, now: float, stored: Stored | None) -> tuple[Episode, float]:
    """The episode and the end of its lease as `change` leaves them, if the claim still holds.

    Raises Fenced, or ValueError for a change of another episode.
    """
    if change.episode.id != held.episode.id:
        raise ValueError(f"the claim is on {held.episode.id}, the change on {change.episode.id}")
    if stored is None:
        raise fenced(held, "", 0)
    if stored.owner != held.owner or stored.epoch != held.epoch:
        raise fenced(held, stored.owner, stored.epoch)
    episode = merge(change.episode, stored.episode)
    lease_until = stored.lease_until
    if change.lease_seconds:
        lease_until = max(lease_until, now + change.lease_seconds)
    if change.release:
        lease_until = 0.0
        if stored.wake_at is not None and stored.wake_at < episode.next_at:
            episode = replace(episode, next_at=stored.wake_at)
    return episode, lease_until


def fenced(held: Claim, owner: object, epoch: object) -> Fenced:
    """The error for a claim that is over; `owner` and `epoch` are whose the episode is now."""
    who = f"{owner} (epoch {epoch})" if owner else "nobody"
    return Fenced(
        f"{held.episode.id} is no longer {held.owner}'s (epoch {held.epoch}): {who} has it; "
        "stop and write nothing more"
    )


def took_over(
    episode_id: str, run: Run | None, before: str, owner: str, epoch: int, now: float
) -> Fact:
    """The fact that a worker resumes what another one left."""
    return Fact(
        FactKind.TOOK_OVER,
        now,
        episode_id=episode_id,
        run_id=run.id if run else "",
        detail=f"{owner} took over what {before} left",
        data={"from": before, "to": owner, "epoch": epoch},
    )
