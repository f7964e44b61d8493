"""`make bench-replay`: the last five days of each trace again, scaled by each policy.

Pods are ready after five minutes, a pod serves a thirtieth of the trace's 99 % quantile, and the
autoscaler is the HPA with its defaults. Plain HPA scales by the mean of the last two minutes at a
target of 70 %. Every other policy may run hotter or cooler, with one target for all traces, until
it takes the same pod-hours in total; its violation minutes are read there (between two targets by a
straight line). Quantile and target are those of no trace: one of each for all of them. The figure
`each` is stricter: every trace for itself at the pod-hours that plain HPA takes on it.
"""

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.report import tell
from scalers.forecast.pool import POOL
from scalers.forecast.service import QUANTILES
from scalers.simulate.demand import Demand, demand, read_csv
from scalers.simulate.foresight import foresee_alone, lead_seconds, steps_for
from scalers.simulate.frontier import (
    CPU,
    ORACLE,
    REACTIVE,
    USUAL_TARGET,
    Kind,
    Point,
    at_pod_hours,
    metric_rows,
    totals,
)
from scalers.simulate.plant import Lane, Workload, run
from tests.scalers.loads import a_load

TEST_SECONDS = 5 * 86400.0
READY_SECONDS = 300.0
PODS_AT_P99 = 30.0
TARGETS = tuple(round(0.5 + 0.02 * step, 2) for step in range(46))
#: The policy that is judged: the quantile that forecasts are ranked at, of five-minute means.
OURS = Kind("forecast", 0.9, peaks=False)

BARS = {"violations_of_reactive": (0.5, True), "violations_of_reactive_each": (0.5, True)}


@dataclass(frozen=True)
class Replayed:
    """One trace: every kind at every target."""

    name: str
    points: tuple[Point, ...]
    seconds: float

    def of(self, kind: Kind) -> list[Point]:
        """Points of one kind, by target."""
        return [point for point in self.points if point.kind == kind]


def loads(folder: Path | None) -> dict[str, Demand]:
    """Loads by name, from the CSV files of `folder` or generated."""
    if folder is None:
        return {f"made-{seed}": _made(seed) for seed in range(4)}
    out = {path.stem: read_csv(path) for path in sorted(folder.glob("*.csv"))}
    if not out:
        raise SystemExit(f"{folder}: no *.csv; name a folder of files with columns ts,value")
    return out


def _made(seed: int) -> Demand:
    """A service that opens and closes at fixed hours and has a job each hour, minute by minute.

    Jumps of this kind are what plain HPAs miss and what can be foreseen; bursts are neither.
    """
    values = a_load(12, seed, noise=0.02 * (seed + 1), weekly=False)
    minutes = np.arange(5 * (len(values) - 1))
    smooth = np.interp(minutes, 5 * np.arange(len(values)), values)
    of_day, of_hour = minutes % 1440, (minutes + 7 * seed) % 60
    opened = (of_day >= 420 + 30 * seed) & (of_day < 1080)
    load = smooth * (1.0 + 1.2 * opened) + 60.0 * (of_hour < 10)
    return demand(list(zip((60.0 * minutes).tolist(), load.tolist(), strict=True)))


def replay(name: str, load: Demand) -> Replayed:
    """All policies over the last days of one trace."""
    began = time.process_time()
    workload = Workload(
        float(np.nanquantile(load.values, 0.99)) / PODS_AT_P99, ready_seconds=READY_SECONDS
    )
    start, values, rows = metric_rows(load, workload, load.end - TEST_SECONDS)
    lead = lead_seconds(READY_SECONDS)
    series = load.series(peaks=False)
    reactive = rows[Kind(REACTIVE)]
    for model in POOL:
        seen = foresee_alone(model, series, start, steps_for(lead, series.step))
        ahead = seen.metric(0.5, start, len(values), lead)
        rows[Kind(model.name)] = np.where(
            np.isnan(reactive), np.nan, np.fmax(reactive, ahead)
        )  # fmt: skip
    kinds = list(rows)
    plan = [(kind, target) for kind in kinds for target in TARGETS]
    lanes = [Lane(kinds.index(kind), target, kind.name == CPU) for kind, target in plan]
    done = run(workload, values, np.stack([rows[kind] for kind in kinds]), lanes)
    points = tuple(
        Point(kind, target, outcome)
        for (kind, target), outcome in zip(plan, done.outcomes, strict=True)
    )
    return Replayed(name, points, time.process_time() - began)


def usual(points: Sequence[Point]) -> Point:
    """Plain HPA at the usual target."""
    return next(p for p in points if p.kind.name == REACTIVE and p.target == USUAL_TARGET)


def matching(points: Sequence[Point], pod_hours: float) -> Point:
    """The point of one kind that takes most of `pod_hours` without taking more."""
    fitting = [point for point in points if point.outcome.pod_hours <= pod_hours]
    return max(fitting, key=lambda p: p.outcome.pod_hours, default=points[-1])


def show(all_traces: list[Replayed]) -> None:
    """A table of policies: in total at equal pod-hours, and by trace at that one target."""
    total = totals([each.points for each in all_traces])
    base = usual(total).outcome
    grid = Table(
        title=f"violation minutes (pod-hours relative to plain HPA at {USUAL_TARGET:.0%}), "
        "one target for all traces, chosen for equal pod-hours in total",
        header_style="bold",
    )
    grid.add_column("policy")
    for name in ("target", "total", "of plain", "unserved %", "actions"):
        grid.add_column(name, justify="right")
    for each in all_traces:
        grid.add_column(each.name.removeprefix("trace-"), justify="right")
    for kind in dict.fromkeys(point.kind for point in total):
        mine = [point for point in total if point.kind == kind]
        chosen = matching(mine, base.pod_hours)
        minutes = at_pod_hours(mine, base.pod_hours)
        cells = []
        for each in all_traces:
            point = next(p for p in each.of(kind) if p.target == chosen.target)
            share = point.outcome.pod_hours / usual(each.points).outcome.pod_hours
            cells.append(f"{point.outcome.violation_minutes:.0f} ({share:.2f})")
        grid.add_row(
            kind.words, f"{chosen.target:.0%}", f"{minutes:.0f}",
            f"{minutes / base.violation_minutes:.1%}", f"{100 * chosen.outcome.unserved:.2f}",
            str(chosen.outcome.actions), *cells, style="bold" if kind == OURS else "",
        )  # fmt: skip
    Console(width=200).print(grid)


def summary(all_traces: list[Replayed]) -> dict[str, float]:
    """The figures of all traces together; each `<policy>_of_reactive` at equal pod-hours."""
    total = totals([each.points for each in all_traces])
    base = usual(total).outcome
    figures = {
        "traces": float(len(all_traces)),
        "reactive_violation_minutes": round(base.violation_minutes, 1),
        "reactive_pod_hours": round(base.pod_hours, 1),
    }

    def share(kind: Kind) -> float:
        mine = [point for point in total if point.kind == kind]
        return round(at_pod_hours(mine, base.pod_hours) / base.violation_minutes, 3)

    figures["violations_of_reactive"] = share(OURS)
    figures["violations_of_reactive_each"] = each_alone(all_traces, OURS)
    for quantile in QUANTILES:
        for peaks in (False, True):
            name = f"{'peaks' if peaks else 'means'}_q{round(100 * quantile)}_of_reactive"
            kind = Kind("forecast", quantile, peaks)
            figures[name] = share(kind)
            figures[f"{name}_each"] = each_alone(all_traces, kind)
    for name in (ORACLE, CPU, *(model.name for model in POOL)):
        figures[f"{name}_of_reactive"] = share(Kind(name))
    figures["cpu_s"] = round(sum(each.seconds for each in all_traces), 1)
    return figures


def each_alone(all_traces: list[Replayed], kind: Kind) -> float:
    """Violation minutes relative to plain HPA, with every trace at the pod-hours it takes there.

    A trace on which no target gets as low counts with its cheapest point.
    """
    ours = theirs = 0.0
    for each in all_traces:
        base = usual(each.points).outcome
        mine = each.of(kind)
        cheapest = min(point.outcome.pod_hours for point in mine)
        ours += at_pod_hours(mine, max(base.pod_hours, cheapest))
        theirs += base.violation_minutes
    return round(ours / theirs, 3)


def main() -> int:
    """Replay every trace, show, judge."""
    parser = argparse.ArgumentParser(prog="make bench-replay")
    parser.add_argument("--traces", type=Path, help="folder of CSV files with columns ts,value")
    parser.add_argument("--only", nargs="*", default=(), help="names of traces")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    found = loads(options.traces)
    chosen = {k: v for k, v in found.items() if not options.only or k in options.only}
    with ProcessPoolExecutor(options.processes) as workers:
        under_way = [workers.submit(replay, name, load) for name, load in chosen.items()]
        done = [one.result() for one in track(under_way, "replaying", transient=True)]
    show(done)
    return tell(summary(done), BARS)


if __name__ == "__main__":
    raise SystemExit(main())
