"""A service whose pods take time to become ready, scaled by many policies at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scalers.hpa import DEFAULT_DOWN, DEFAULT_UP, SYNC_SECONDS, Rules
from scalers.series import Floats
from scalers.simulate.lanes import Counts, Lanes

#: Syncs between two calls of who wants to know how far it is.
_TOLD = 960


@dataclass(frozen=True, slots=True)
class Workload:
    """What is scaled. `capacity` is the load that one ready pod serves, in the demand's unit."""

    capacity: float
    minimum: int = 2
    maximum: int = 300
    ready_seconds: float = 300.0  #: from the pod's creation until it serves
    #: `--horizontal-pod-autoscaler-cpu-initialization-period`: a younger pod's CPU counts only
    #: when it has been ready for the window of a sample.
    initialisation_seconds: float = 300.0
    sample_seconds: float = 60.0
    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN

    @property
    def counted_seconds(self) -> float:
        """From a pod's creation until its CPU counts."""
        young = min(self.initialisation_seconds, self.ready_seconds + self.sample_seconds)
        return max(self.ready_seconds, young)

    def __post_init__(self) -> None:
        if not self.capacity > 0:
            raise ValueError(f"capacity {self.capacity} must be above zero")
        if not 1 <= self.minimum <= self.maximum:
            raise ValueError(f"minimum {self.minimum} and maximum {self.maximum} must be in order")
        if self.ready_seconds < 0:
            raise ValueError(f"{self.ready_seconds} s until ready must not be negative")


@dataclass(frozen=True, slots=True)
class Lane:
    """One policy: which metric it is scaled by, and the share of `capacity` it aims at.

    With `cpu` the metric is spread over the ready pods, none of which can use more than its
    capacity, and the autoscaler sees their utilisation.
    """

    metric: int
    target: float
    cpu: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one lane. A violation is a moment at which load exceeds ready capacity."""

    violation_minutes: float
    unserved: float  #: share of all demand that found no capacity
    pod_hours: float  #: of pods that exist, ready or not
    actions: int
    highest: int  #: most pods at once


@dataclass(frozen=True, slots=True)
class Run:
    """Outcomes by lane; `pods` and `ready` (ticks, lanes) of the lanes that were to be traced."""

    outcomes: tuple[Outcome, ...]
    pods: Counts
    ready: Counts


class Pods:
    """Pods of each lane: those that serve, and those that will, by when."""

    def __init__(self, first: Counts, ready_seconds: float) -> None:
        self.ready = first.copy()
        self._delay = round(ready_seconds / SYNC_SECONDS)
        self._coming = np.zeros((self._delay, len(first)), dtype=np.int64)
        self._tick = 0

    def wait(self) -> None:
        """One sync passes: who was made `ready_seconds` ago serves."""
        if self._delay:
            slot = self._tick % self._delay
            self.ready += self._coming[slot]
            self._coming[slot] = 0
        self._tick += 1

    def change(self, change: Counts) -> None:
        """Make pods, or remove some: those that do not serve yet go first, the youngest of them."""
        added = np.maximum(change, 0)
        removed = np.maximum(-change, 0)
        if not self._delay:
            self.ready += added - removed
            return
        newest = (self._tick - 1) % self._delay
        self._coming[newest] += added
        for lane in np.flatnonzero(removed):
            left = int(removed[lane])
            for age in range(self._delay):
                slot = (newest - age) % self._delay
                gone = min(left, int(self._coming[slot, lane]))
                self._coming[slot, lane] -= gone
                left -= gone
                if not left:
                    break
            self.ready[lane] -= left


def run(
    workload: Workload,
    demand: Floats,
    metrics: Floats,
    lanes: Sequence[Lane],
    *,
    traced: Sequence[int] = (),
    told: Callable[[float], None] | None = None,
) -> Run:
    """Live through `demand` (ticks,) with each lane scaled by its row of `metrics` (rows, ticks).

    NaN in a metric is a metric that is missing at that sync; NaN in the demand is not judged. Each
    lane begins with the pods its first metric asks for, all ready. `told` hears the share done.
    """
    rows = np.array([lane.metric for lane in lanes])
    targets = np.array([lane.target for lane in lanes]) * workload.capacity
    scalers = Lanes(
        workload.minimum, workload.maximum, targets.tolist(), workload.up, workload.down
    )
    by_tick = np.ascontiguousarray(metrics.T)
    first = np.nan_to_num(by_tick[0][rows], nan=0.0)
    current = np.clip(np.ceil(first / targets), workload.minimum, workload.maximum).astype(np.int64)
    pods = Pods(current, workload.ready_seconds)
    counted = Pods(current, workload.counted_seconds)
    cpu = np.array([lane.cpu for lane in lanes])
    short = np.zeros(len(lanes))
    missed, existed, actions = short.copy(), short.copy(), short.copy()
    highest = current.copy()
    seen_pods = np.zeros((len(demand), len(traced)), dtype=np.int64)
    seen_ready = seen_pods.copy()
    chosen = list(traced)
    for tick, load in enumerate(demand.tolist()):
        pods.wait()
        counted.wait()
        value = by_tick[tick][rows]
        missing = np.isnan(value)
        wish = scalers.wish(current, value)
        if cpu.any():
            each = np.minimum(
                np.nan_to_num(value) / np.maximum(pods.ready, 1), workload.capacity
            )  # fmt: skip
            by_cpu = scalers.wish_of_cpu(current, counted.ready, each, workload.capacity)
            wish = np.where(cpu, by_cpu, wish)
            missing |= cpu & (counted.ready == 0)
        after = scalers.settle(current, wish, missing)
        change = after - current
        if change.any():
            pods.change(change)
            counted.change(change)
            actions += change != 0
            current = after
            np.maximum(highest, current, out=highest)
        existed += current
        lack = load - pods.ready * workload.capacity
        over = lack > 0  # never of NaN
        short += over
        missed += np.where(over, lack, 0.0)
        if chosen:
            seen_pods[tick], seen_ready[tick] = current[chosen], pods.ready[chosen]
        if told and tick % _TOLD == 0:
            told(tick / len(demand))
    total = float(np.nansum(demand)) or 1.0
    outcomes = tuple(
        Outcome(s * SYNC_SECONDS / 60, m / total, e * SYNC_SECONDS / 3600, int(a), int(h))
        for s, m, e, a, h in zip(
            short.tolist(), missed.tolist(), existed.tolist(), actions.tolist(), highest.tolist(),
            strict=True,
        )
    )  # fmt: skip
    return Run(outcomes, seen_pods, seen_ready)
