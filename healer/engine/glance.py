"""Looks at targets that the episodes of one moment share: in a storm many alerts name one object.

A shared look is good enough to wait by, and for nothing else: whoever would act, refuse or give up
because of one looks again by itself (`deciding`). Reads that fail are never shared.
"""

import asyncio
from dataclasses import dataclass, field

from healer.domain.target import Observation, TargetRef
from healer.kernel.clock import Clock
from healer.ports import Cluster

#: A look that began longer ago than this is not shared. Seconds.
SHARED_SECONDS = 1.0
#: Looks too old to be shared are dropped when there are more than this many.
_MANY = 1024


@dataclass(slots=True, eq=False)
class _Look:
    began: float  #: monotonic seconds
    over: asyncio.Event = field(default_factory=asyncio.Event)
    seen: Observation | None = None  #: None once it is over: it failed, or found nothing


class Glances:
    """What this process has seen of targets within the last moment."""

    def __init__(self) -> None:
        self._looks: dict[TargetRef, _Look] = {}

    async def observe(
        self, cluster: Cluster, clock: Clock, ref: TargetRef, *, share: bool
    ) -> tuple[Observation, bool]:
        """What is seen of `ref`, and whether another's look saw it. Raises as `Cluster.observe`.

        With `share`, a look that began at most `SHARED_SECONDS` ago will do, and one under way is
        waited for. Without, it is always a look of one's own.
        """
        now = clock.monotonic()
        known = self._looks.get(ref)
        if share and known is not None and 0 <= now - known.began <= SHARED_SECONDS:
            await known.over.wait()
            if known.seen is not None:
                return known.seen, True
        look = self._looks[ref] = _Look(clock.monotonic())
        if len(self._looks) > _MANY:
            self._looks = {
                each: kept
                for each, kept in self._looks.items()
                if look.began - kept.began <= SHARED_SECONDS
            }
        try:
            look.seen = await cluster.observe(ref)
        finally:
            look.over.set()
        return look.seen, False
