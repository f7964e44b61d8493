"""When to kill: at named points and at random times, all drawn from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

POINTS = tuple(
    f"{when}:{what}"
    for what in (
        "accept-commit", "fold", "claim", "intent", "effect", "outcome", "commit", "write",
    )
    for when in ("before", "after")
)  # fmt: skip
#: Points that come late in a life or seldom are tried more often.
_WEIGHTS = {"intent": 3, "effect": 4, "outcome": 3}


@dataclass(frozen=True)
class Kill:
    """One plan. A point that is not reached within `seconds` becomes a kill at that time."""

    point: str  #: empty: at a random time
    nth: int
    seconds: float

    @property
    def variable(self) -> str:
        """For HEALER_CRASH_POINT."""
        return f"{self.point}#{self.nth}" if self.point else ""


def plans(seed: str, longest: float) -> Iterator[Kill]:
    """Kills without end; the same for the same seed. `longest` is the longest life. Seconds."""
    chance = random.Random(seed)
    weights = [_WEIGHTS.get(point.partition(":")[2], 1) for point in POINTS]
    while True:
        if chance.random() < 0.5:
            yield Kill("", 0, chance.uniform(0.0, longest))
        else:
            [point] = chance.choices(POINTS, weights)
            yield Kill(point, chance.choice((1, 1, 1, 2, 3, 5)), longest)
