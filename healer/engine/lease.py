"""The lease on an episode outlives what is begun under it, measured on the monotonic clock."""

import math
from dataclasses import dataclass

from healer.domain.plan import PlannedStep
from healer.engine.world import World
from healer.errors import Fenced
from healer.kernel.clock import Clock
from healer.ports import Claim

#: How long ago a guard's look may have begun when its effect begins: the answers of all who are
#: asked, and the journal's write, lie between. Seconds.
LOOK_SECONDS = 12.0


@dataclass(frozen=True, slots=True)
class Lease:
    """Until when this worker alone may act on the episode."""

    until: float  #: monotonic seconds
    need: float  #: how much of it must be left when the effect begins
    length: float  #: seconds from the moment it was asked for
    seen_until: float = math.inf  #: monotonic seconds until which the guard's look is fresh enough

    def lapsed(self, clock: Clock) -> str:
        """Why the effect must not begin now, in words; empty when it may. Asked right before it.

        A process that was frozen after its look wakes to another world: the alert may have ended.
        """
        now = clock.monotonic()
        if now + self.need > self.until:
            return "the lease on the episode was too short by then; nothing was done"
        if now > self.seen_until:
            return f"the last look was over {LOOK_SECONDS:g} s old by then; nothing was done"
        return ""


def cover(world: World, step: PlannedStep, looked: float = math.inf) -> Lease:
    """The lease that `step` needs: it holds once a change that asks for its `length` is on disk.

    It lasts at least twice as long as the step may take. A step whose identical repetition is
    harmless is covered for twice the usual lease at most, so that a long drain does not keep others
    out for hours after a crash: the worker renews it as it goes. `looked` is when the guard's look
    began, monotonic seconds.
    """
    need = step.timeout_seconds
    if step.idempotent:
        need = min(need, world.options.lease_seconds)
    length = max(world.options.lease_seconds, 2 * need)
    return Lease(world.clock.monotonic() + length, need, length, looked + LOOK_SECONDS)


async def hold(world: World, claim: Claim, step: PlannedStep) -> Lease:
    """Renew the claim as `step` needs it. Raises Fenced when another worker owns the episode."""
    lease = cover(world, step)
    ours = await world.store.renew([claim], world.clock.now(), lease.length)
    if claim.episode.id not in ours:
        raise Fenced(f"{claim.episode.id} is no longer {claim.owner}'s: nothing was done")
    return lease
