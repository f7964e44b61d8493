"""The HorizontalPodAutoscaler's arithmetic, step by step as the controller does it.

Source: kubernetes 1.36, pkg/controller/podautoscaler (replica_calculator.go, horizontal.go), for
metrics of target type AverageValue. Readiness of pods plays no part for those: the controller
divides the sum by the pods that exist. Held to the real controller's answers by
`tests/scalers/test_real_hpa.py`.

One oddity is left out: the controller forgets a change that is older than the longest period of its
own direction once another change takes its place, though the other direction may count longer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

#: Ratios this near to one change nothing (`--horizontal-pod-autoscaler-tolerance`).
TOLERANCE = 0.1
#: Time between two looks (`--horizontal-pod-autoscaler-sync-period`), seconds.
SYNC_SECONDS = 15.0


class Unit(StrEnum):
    """What a scaling policy counts in."""

    PODS = "Pods"
    PERCENT = "Percent"


class Select(StrEnum):
    """Which of several policies holds."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `value` of `unit` within `period_seconds`."""

    unit: Unit
    value: int
    period_seconds: float


@dataclass(frozen=True, slots=True)
class Rules:
    """How fast one direction may go."""

    policies: tuple[Policy, ...]
    window_seconds: float = 0.0
    select: Select = Select.MAX
    tolerance: float = TOLERANCE


#: Defaults of `spec.behavior`.
DEFAULT_UP = Rules((Policy(Unit.PERCENT, 100, 15.0), Policy(Unit.PODS, 4, 15.0)))
DEFAULT_DOWN = Rules((Policy(Unit.PERCENT, 100, 15.0),), window_seconds=300.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric at one sync: the sum over all pods, or None when it could not be had."""

    value: float | None
    target_average: float


@dataclass(slots=True)
class Hpa:
    """One autoscaler and what it remembers between syncs."""

    minimum: int
    maximum: int
    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN
    #: False: the object has no `spec.behavior`; then `up` says nothing, and of `down` the window
    #: and the tolerance count. Wishes are then higher and paces lower than with the defaults.
    written: bool = True
    _wishes: list[tuple[float, int]] = field(default_factory=list)
    _ups: list[tuple[float, int]] = field(default_factory=list)
    _downs: list[tuple[float, int]] = field(default_factory=list)
    _seen: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.maximum:
            raise ValueError(f"minimum {self.minimum} and maximum {self.maximum} must be in order")

    def sync(self, now: float, current: int, readings: Sequence[Reading]) -> int:
        """Replicas after this sync at `now` (seconds), with `current` replicas existing."""
        if current == 0:
            return 0  # autoscaling is disabled at zero
        if not self._seen:
            self._seen = True
            self._wishes.append((now, current))  # the controller's initial recommendation
        if current > self.maximum:
            return self._done(now, current, self.maximum)
        if current < self.minimum:
            return self._done(now, current, self.minimum)
        wish = self._wish(current, readings)
        if wish is None:
            return current
        if not self.written:
            return self._done(now, current, self._unwritten(now, current, wish))
        return self._done(now, current, self._paced(now, current, self._stable(now, current, wish)))

    def _unwritten(self, now: float, current: int, wish: int) -> int:
        """Without behaviour: the highest wish of the window, at most double or four."""
        since = now - self.down.window_seconds
        self._wishes = [(at, past) for at, past in self._wishes if at > since]
        high = max([wish, *(past for _, past in self._wishes)])
        self._wishes.append((now, wish))
        most = min(self.maximum, max(2 * current, 4))
        return min(max(high, self.minimum), most)

    def _wish(self, current: int, readings: Sequence[Reading]) -> int | None:
        """The largest of the metrics' wishes; a missing one forbids scaling down, not up."""
        wishes = [self._of(current, reading) for reading in readings]
        known = [wish for wish in wishes if wish is not None]
        if not known or (len(known) < len(wishes) and max(known) < current):
            return None
        return max(known)

    def _of(self, current: int, reading: Reading) -> int | None:
        if reading.value is None:
            return None
        ratio = reading.value / (reading.target_average * current)
        if 1.0 - self.down.tolerance <= ratio <= 1.0 + self.up.tolerance:
            return current
        # Milli units: the controller divides whole numbers of them and rounds up.
        return math.ceil(round(reading.value * 1000) / round(reading.target_average * 1000))

    def _stable(self, now: float, current: int, wish: int) -> int:
        """Within the windows: not above the lowest wish, not below the highest."""
        low = high = wish
        for at, past in self._wishes:
            if at > now - self.up.window_seconds:
                low = min(low, past)
            if at > now - self.down.window_seconds:
                high = max(high, past)
        self._wishes = [
            (at, past)
            for at, past in self._wishes
            if at > now - max(self.up.window_seconds, self.down.window_seconds)
        ]
        self._wishes.append((now, wish))
        return min(max(current, low), high)

    def _paced(self, now: float, current: int, wish: int) -> int:
        if wish > current:
            limit = self._limit(now, current, self.up, self._ups, self._downs, rising=True)
            return max(current, min(wish, limit, self.maximum))
        if wish < current:
            limit = self._limit(now, current, self.down, self._downs, self._ups, rising=False)
            return min(current, max(wish, limit, self.minimum))
        return current

    def _limit(
        self, now: float, current: int, rules: Rules, same: list[tuple[float, int]],
        other: list[tuple[float, int]], *, rising: bool,
    ) -> int:  # fmt: skip
        """How far this direction may go now, by what was changed within each policy's period."""
        if rules.select is Select.DISABLED:
            return current
        limits = []
        for policy in rules.policies:
            since = now - policy.period_seconds
            ours = sum(change for at, change in same if at > since)
            theirs = sum(change for at, change in other if at > since)
            start = current - ours + theirs if rising else current + ours - theirs
            if policy.unit is Unit.PODS:
                limits.append(start + policy.value if rising else start - policy.value)
            elif rising:
                limits.append(math.ceil(start * (1 + policy.value / 100)))
            else:
                limits.append(math.floor(start * (1 - policy.value / 100)))
        furthest = (rules.select is Select.MAX) == rising
        return max(limits) if furthest else min(limits)

    def _done(self, now: float, current: int, wish: int) -> int:
        if wish > current:
            self._ups.append((now, wish - current))
        elif wish < current:
            self._downs.append((now, current - wish))
        longest = max(p.period_seconds for r in (self.up, self.down) for p in r.policies)
        self._ups = [(at, change) for at, change in self._ups if at > now - longest]
        self._downs = [(at, change) for at, change in self._downs if at > now - longest]
        return wish
