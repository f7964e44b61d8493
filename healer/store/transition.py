"""What a worker's change means, the same for every engine: pure."""

from dataclasses import replace

from healer.domain.episode import Episode
from healer.domain.journal import Fact, FactKind
from healer.domain.run import Run
from healer.errors import Fenced
from healer.ports import Claim


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
