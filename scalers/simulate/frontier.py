"""Target and quantile: what each policy costs in violations and in pods, and which one to take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scalers.forecast.service import QUANTILES
from scalers.hpa import SYNC_SECONDS
from scalers.series import Floats
from scalers.simulate.demand import Demand
from scalers.simulate.foresight import Foresight, foresee, lead_seconds, steps_for
from scalers.simulate.plant import Lane, Outcome, Run, Workload, run

REACTIVE = "reactive"
ORACLE = "oracle"
#: Plain HPA on CPU utilisation, where a pod that serves all it can uses all it requests.
CPU = "cpu"
#: Targets of a frontier: shares of a pod's capacity.
TARGETS = tuple(round(0.5 + 0.05 * step, 2) for step in range(11))
#: What plain HPA is commonly told, and what others are compared with.
USUAL_TARGET = 0.7


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to make the metric: plain, forecast at a quantile of means or peaks, or oracle."""

    name: str
    quantile: float | None = None
    peaks: bool = False

    @property
    def words(self) -> str:
        """As people read it."""
        if self.quantile is None:
            return self.name
        return f"forecast of {'peaks' if self.peaks else 'means'}, q{round(100 * self.quantile)}"


@dataclass(frozen=True, slots=True)
class Point:
    """One policy and what came of it; `cost` when a price was given."""

    kind: Kind
    target: float
    outcome: Outcome
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Frontier:
    """Every policy over the same load. `better` is the one to take; None: plain HPA is best."""

    points: tuple[Point, ...]
    baseline: Point
    better: Point | None
    days: float
    start: float
    gaps: float  #: share of the time that was not measured
    demand: Floats
    traced: Run  #: pods of the baseline, and of the better one if there is one

    def of(self, kind: Kind) -> list[Point]:
        """The points of one kind by target."""
        return [point for point in self.points if point.kind == kind]

    def undominated(self) -> list[Point]:
        """Forecasts that no other forecast beats in violation minutes and in pod-hours."""
        mine = [point for point in self.points if point.kind.quantile is not None]
        mine.sort(key=lambda p: (p.outcome.pod_hours, p.outcome.violation_minutes))
        out: list[Point] = []
        for point in mine:
            least = out[-1].outcome.violation_minutes if out else float("inf")
            if point.outcome.violation_minutes < least:
                out.append(point)
        return out

    @property
    def kinds(self) -> list[Kind]:
        """In the order in which they were asked for."""
        return list(dict.fromkeys(point.kind for point in self.points))


def metric_rows(
    demand: Demand,
    workload: Workload,
    first: float,
    *,
    quantiles: Sequence[float] = QUANTILES,
    peaks: Sequence[bool] = (False, True),
    foreseen: Mapping[bool, Foresight] | None = None,
    told: Callable[[float], None] | None = None,
) -> tuple[float, Floats, dict[Kind, Floats]]:
    """When the replay begins, its demand (ticks,), and the metric of each kind (ticks,).

    A predictive metric is the larger of the reactive mean and the highest forecast at the quantile
    until a pod made now would be ready; only the reactive one when there is no forecast.
    """
    lead = lead_seconds(workload.ready_seconds)
    skip = max(0, round((first - demand.start) / SYNC_SECONDS))
    start, load = demand.start + skip * SYNC_SECONDS, demand.values[skip:]
    reactive = demand.reactive()[skip:]
    rows = {Kind(REACTIVE): reactive, Kind(CPU): reactive}
    for share, peak in enumerate(peaks):
        if foreseen is not None:
            seen = foreseen[peak]
        else:
            series = demand.series(peaks=peak)
            seen = foresee(series, start, steps_for(lead, series.step), told=_part(
                told, share, len(peaks)))  # fmt: skip
        for quantile in quantiles:
            ahead = seen.metric(quantile, start, len(load), lead)
            missing = np.isnan(reactive)  # without a measurement there is no forecast either
            rows[Kind("forecast", quantile, peak)] = np.where(
                missing, np.nan, np.fmax(reactive, ahead)
            )
    rows[Kind(ORACLE)] = np.fmax(reactive, demand.ahead(lead)[skip:])
    return start, load, rows


def frontier(
    demand: Demand,
    workload: Workload,
    first: float,
    *,
    targets: Sequence[float] = TARGETS,
    quantiles: Sequence[float] = QUANTILES,
    usual: float = USUAL_TARGET,
    price: float | None = None,
    told: Callable[[float], None] | None = None,
) -> Frontier:
    """Replay `demand` from `first` on with each target and quantile.

    `told` hears the share done.
    """
    start, load, rows = metric_rows(
        demand, workload, first, quantiles=quantiles, told=_part(told, 0, 1, 0.8)
    )
    kinds = list(rows)
    all_targets = sorted({*targets, usual})
    plan = [(kind, target) for kind in kinds for target in all_targets]
    lanes = [Lane(kinds.index(kind), target, kind.name == CPU) for kind, target in plan]
    metrics = np.stack([rows[kind] for kind in kinds])
    done = run(workload, load, metrics, lanes, told=_part(told, 4, 5))
    points = tuple(
        Point(kind, target, outcome, None if price is None else outcome.pod_hours * price)
        for (kind, target), outcome in zip(plan, done.outcomes, strict=True)
    )
    baseline = next(p for p in points if p.kind.name == REACTIVE and p.target == usual)
    better = recommend(points, baseline)
    chosen = [baseline] if better is None else [baseline, better]
    traced = run(
        workload, load, metrics, [Lane(kinds.index(p.kind), p.target) for p in chosen],
        traced=range(len(chosen)),
    )  # fmt: skip
    if told:
        told(1.0)
    return Frontier(
        points, baseline, better, len(load) * SYNC_SECONDS / 86400, start,
        float(np.isnan(load).mean()), load, traced,
    )  # fmt: skip


def recommend(points: Sequence[Point], baseline: Point) -> Point | None:
    """The fewest violation minutes for no more pod-hours than plain HPA has at the usual target.

    Among equals the fewest pod-hours. None when no forecast is better than the baseline itself.
    """
    allowed = [
        point
        for point in points
        if point.kind.quantile is not None
        and point.outcome.pod_hours <= baseline.outcome.pod_hours
        and _rank(point) < _rank(baseline)
    ]
    return min(allowed, key=_rank, default=None)


def _rank(point: Point) -> tuple[float, float]:
    return point.outcome.violation_minutes, point.outcome.pod_hours


def at_pod_hours(points: Sequence[Point], pod_hours: float) -> float:
    """Violation minutes of these points (one kind, many targets) where they take `pod_hours`.

    Between two targets by a straight line; NaN when no target reaches there.
    """
    ordered = sorted(points, key=lambda point: point.outcome.pod_hours)
    hours = [point.outcome.pod_hours for point in ordered]
    if not hours[0] <= pod_hours <= hours[-1]:
        return float("nan")
    return float(np.interp(pod_hours, hours, [p.outcome.violation_minutes for p in ordered]))


def totals(each: Sequence[Sequence[Point]]) -> list[Point]:
    """The same policies over several loads, point by point: sums (the share unserved: mean)."""
    out = []
    for same in zip(*each, strict=True):
        outcomes = [point.outcome for point in same]
        out.append(
            replace(
                same[0],
                outcome=Outcome(
                    sum(o.violation_minutes for o in outcomes),
                    float(np.mean([o.unserved for o in outcomes])),
                    sum(o.pod_hours for o in outcomes),
                    sum(o.actions for o in outcomes),
                    max(o.highest for o in outcomes),
                ),
                cost=None,
            )
        )
    return out


def _part(
    told: Callable[[float], None] | None, index: int, parts: int, whole: float = 1.0
) -> Callable[[float], None] | None:
    """Progress of one of several parts, as a share of all."""
    if told is None:
        return None
    return lambda share: told((index + share) / parts * whole)
