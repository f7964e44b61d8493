"""What the storm tests count: effects over time, from the fake cluster's own writes."""

from collections import defaultdict
from typing import Any

from healer.domain.target import TargetRef
from tests.engine.stage import Stage


class Effects:
    """When each target was really acted on, and how many runs were in flight at once."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.at: list[tuple[float, TargetRef]] = []
        delete = stage.cluster.delete

        async def watched(ref: TargetRef, **named: Any) -> None:
            await delete(ref, **named)
            self.at.append((stage.clock.now(), ref))

        stage.cluster.delete = watched  # type: ignore[method-assign]

    def most_within(self, seconds: float) -> int:
        """The most effects in any window so long."""
        times = [at for at, _ in self.at]
        return max(
            (sum(begin <= at < begin + seconds for at in times) for begin in times), default=0
        )

    def most_on_one_owner(self, seconds: float) -> int:
        """The same, of the pods of one workload."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for at, ref in self.at:
            found[ref.name.rsplit("-", 2)[0]].append(at)
        return max(
            (sum(b <= at < b + seconds for at in times) for times in found.values() for b in times),
            default=0,
        )
