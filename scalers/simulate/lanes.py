"""Many autoscalers side by side: the arithmetic of `scalers.hpa`, one array element for each.

All lanes look at the same moments and share bounds and behaviour; metric and target differ. Held to
`scalers.hpa.Hpa`, step by step, by tests.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scalers.hpa import DEFAULT_DOWN, DEFAULT_UP, SYNC_SECONDS, Rules, Select, Unit
from scalers.series import Flags, Floats

Counts = npt.NDArray[np.int64]

_NOTHING = -1  # no wish was recorded at that sync
_ENDLESS = np.iinfo(np.int32).max


def _past(seconds: float) -> int:
    """Syncs before this one that are younger than `seconds`."""
    return max(0, math.ceil(seconds / SYNC_SECONDS) - 1)


class Lanes:
    """One autoscaler a lane, with metrics of target type AverageValue, at a steady sync."""

    def __init__(
        self,
        minimum: int,
        maximum: int,
        targets: Sequence[float],
        up: Rules = DEFAULT_UP,
        down: Rules = DEFAULT_DOWN,
    ) -> None:
        if not 1 <= minimum <= maximum:
            raise ValueError(f"minimum {minimum} and maximum {maximum} must be in order")
        if min(targets) <= 0:
            raise ValueError(f"target {min(targets)} must be above zero")
        self.minimum, self.maximum = minimum, maximum
        self.up, self.down = up, down
        self.targets = np.asarray(targets, dtype=np.float64)
        self._milli = np.round(self.targets * 1000)
        lanes = len(self.targets)
        self._lows = np.full((_past(up.window_seconds), lanes), _ENDLESS)
        self._highs = np.full((_past(down.window_seconds), lanes), _NOTHING)
        longest = max(_past(p.period_seconds) for r in (up, down) for p in r.policies)
        self._changes = np.zeros((longest, lanes), dtype=np.int64)
        self._tick = 0

    def sync(self, current: Counts, value: Floats) -> Counts:
        """Replicas after this sync, of `current` within bounds; NaN: the metric is missing."""
        return self.settle(current, self.wish(current, value), np.isnan(value))

    def wish(self, current: Counts, value: Floats) -> Counts:
        """What a metric of type AverageValue asks for; of NaN nothing that counts."""
        known = np.nan_to_num(value)
        ratio = known / (self.targets * current)
        asked = np.ceil(np.round(known * 1000) / self._milli)
        return np.where(
            self._inside(ratio), current, np.minimum(asked, _ENDLESS)
        ).astype(np.int64)  # fmt: skip

    def wish_of_cpu(
        self, current: Counts, counted: Counts, usage: Floats, request: float
    ) -> Counts:
        """What a target of CPU utilisation asks for.

        `usage` is that of each pod whose sample counts; `counted` of them do, the rest of `current`
        are not ready or too young (`--horizontal-pod-autoscaler-cpu-initialization-period`). When
        more is asked for they are taken to use nothing (replica_calculator.go,
        GetResourceReplicas), which is why such an autoscaler waits for its new pods.
        """
        goal = 100.0 * self.targets / request
        ratio = np.floor(100.0 * usage / request + 1e-9) / goal
        alone = np.where(self._inside(ratio), current, np.ceil(ratio * counted))
        shared = np.floor(100.0 * usage * counted / (request * current) + 1e-9) / goal
        more = np.ceil(shared * current)
        stays = self._inside(shared) | (shared < 1.0) | (more < current)
        rising = np.where(stays, current, more)
        return np.where((ratio > 1.0) & (counted < current), rising, alone).astype(np.int64)

    def _inside(self, ratio: Floats) -> Flags:
        return (1.0 - self.down.tolerance <= ratio) & (ratio <= 1.0 + self.up.tolerance)

    def settle(self, current: Counts, wish: Counts, missing: Flags) -> Counts:
        """Replicas after windows, pace and bounds; a `missing` metric leaves them as they are."""
        low = np.where(missing, _ENDLESS, wish)
        high = np.where(missing, _NOTHING, wish)
        if self._tick == 0:  # the controller's initial recommendation
            low = np.minimum(low, current) if self.up.window_seconds else low
            high = np.maximum(high, current) if self.down.window_seconds else high
        after = self._paced(current, self._stable(current, low, high))
        after = np.where(missing, current, after)
        self._remember(low, high, after - current)
        return after

    def _stable(self, current: Counts, low: Counts, high: Counts) -> Counts:
        """Within the windows: not above the lowest wish, not below the highest."""
        if len(self._lows):
            low = np.minimum(low, self._lows.min(axis=0))
        if len(self._highs):
            high = np.maximum(high, self._highs.max(axis=0))
        return np.minimum(np.maximum(current, low), high)

    def _newest(self, past: int) -> slice | Counts:
        """Where the changes of the newest `past` syncs stand."""
        size = len(self._changes)
        return slice(None) if past == size else (self._tick - 1 - np.arange(past)) % size

    def _paced(self, current: Counts, wish: Counts) -> Counts:
        most = np.minimum(self._limit(current, self.up, rising=True), self.maximum)
        least = np.maximum(self._limit(current, self.down, rising=False), self.minimum)
        risen = np.maximum(current, np.minimum(wish, most))
        fallen = np.minimum(current, np.maximum(wish, least))
        return np.where(wish > current, risen, np.where(wish < current, fallen, current))

    def _limit(self, current: Counts, rules: Rules, *, rising: bool) -> Counts:
        if rules.select is Select.DISABLED:
            return current
        limits = []
        for policy in rules.policies:
            start = current
            past = _past(policy.period_seconds)
            if past:
                start = current - self._changes[self._newest(past)].sum(axis=0)
            if policy.unit is Unit.PODS:
                limits.append(start + policy.value if rising else start - policy.value)
            elif rising:
                limits.append(np.ceil(start * (1 + policy.value / 100)).astype(np.int64))
            else:
                limits.append(np.floor(start * (1 - policy.value / 100)).astype(np.int64))
        furthest = (rules.select is Select.MAX) == rising
        out = limits[0]
        for limit in limits[1:]:
            out = np.maximum(out, limit) if furthest else np.minimum(out, limit)
        return out

    def _remember(self, low: Counts, high: Counts, change: Counts) -> None:
        for ring, newest in ((self._lows, low), (self._highs, high), (self._changes, change)):
            if len(ring):
                ring[self._tick % len(ring)] = newest
        self._tick += 1
