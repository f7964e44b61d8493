"""A made-up load that comes back each day, and when its single requests are due.

Made up means foreseeable: what is shown with it is how forecast, autoscaler and starting pods play
together, not that prediction pays for a load that nobody has measured.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Day:
    """Quiet, then within minutes busy for some hours; each day a little otherwise.

    `opens` is Unix seconds of one opening: the others are whole days before and after it.
    """

    opens: float
    quiet: float = 20.0  #: requests a second
    busy: float = 90.0
    rise_seconds: float = 360.0  #: from a tenth to nine tenths of the way up
    hours: float = 3.0
    seed: int = 1

    def rate(self, at: float) -> float:
        """Requests a second at a moment, before chance."""
        number = math.floor((at - self.opens) / DAY + 0.5)
        # The first draws of neighbouring seeds are much alike, so the seed is a text.
        dice = random.Random(f"{self.seed}/{number}")
        late, size = dice.gauss(0.0, 60.0), dice.gauss(1.0, 0.05)
        scale = self.rise_seconds / 4.4  # of a logistic curve, from a tenth to nine tenths
        since = at - (self.opens + number * DAY) - late
        up = _logistic(since / scale)
        down = _logistic((since - 3600.0 * self.hours) / (4 * scale))
        return max(0.0, size * (self.quiet + (self.busy - self.quiet) * (up - down)))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, x))))


def arrivals(
    rate: Callable[[float], float], start: float, seconds: float, most: float, seed: int
) -> Iterator[float]:
    """When requests are due: a Poisson process of that rate, by thinning one of rate `most`.

    Raises ValueError where the rate is above `most`.
    """
    dice = random.Random(seed)
    at = start
    while (at := at + dice.expovariate(most)) < start + seconds:
        now = rate(at)
        if now > most:
            raise ValueError(f"{now:.6g} requests a second at {at:.0f}; raise `most` ({most:.6g})")
        if dice.random() * most < now:
            yield at
