"""The lease on an episode outlives what is begun under it, measured on the monotonic clock."""

from dataclasses import dataclass

from healer.domain.plan import PlannedStep
from healer.engine.world import World
from healer.errors import Fenced
from healer.kernel.clock import Clock
from healer.ports import Claim


@dataclass(frozen=True, slots=True)
class Lease:
    """Until when this worker alone may act on the episode."""

    until: float  #: monotonic seconds
    need: float  #: how much of it must be left when the effect begins
    length: float  #: seconds from the moment it was asked for

    def lasts(self, clock: Clock) -> bool:
        """Whether enough of it is left; asked right before the effect."""
        return clock.monotonic() + self.need <= self.until


def cover(world: World, step: PlannedStep) -> Lease:
    """The lease that `step` needs: it holds once a change that asks for its `length` is on disk.

    It lasts at least twice as long as the step may take. A step whose identical repetition is
    harmless is covered for twice the usual lease at most, so that a long drain does not keep others
    out for hours after a crash: the worker renews it as it goes.
    """
    need = step.timeout_seconds
    if step.idempotent:
        need = min(need, world.options.lease_seconds)
    length = max(world.options.lease_seconds, 2 * need)
    return Lease(world.clock.monotonic() + length, need, length)


async def hold(world: World, claim: Claim, step: PlannedStep) -> Lease:
    """Renew the claim as `step` needs it. Raises Fenced when another worker owns the episode."""
    lease = cover(world, step)
    ours = await world.store.renew([claim], world.clock.now(), lease.length)
    if claim.episode.id not in ours:
        raise Fenced(f"{claim.episode.id} is no longer {claim.owner}'s: nothing was done")
    return lease
