"""`make bench-forecast`: accuracy, calibration and cost of the forecasts, on the last five days.

Each trace is replayed as it would be lived: refitted every six hours, refreshed every five minutes,
knowing nothing of the future. Errors are divided by the mean absolute error of the seasonal naive
(day) over the history known at that moment (MASE; Hyndman & Koehler 2006), then averaged over
origins and traces.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.report import tell
from scalers.forecast.pool import POOL, YARDSTICK
from scalers.forecast.service import QUANTILES, SeriesForecaster
from scalers.series import Floats, Series, on_grid
from tests.scalers.loads import a_load

DAY = 288
TEST_DAYS = 5
HOUR = 12
REFIT_POINTS = 72
#: Members of the pool are asked every half hour: they are many.
MEMBER_POINTS = 6
OURS = "healer"
WEEK = "seasonal_naive_week"

BARS: Mapping[str, tuple[float, bool]] = {
    "error_1h_of_seasonal_naive_day": (0.55, True),
    "best_single_model_better_1h": (0.03, True),
    "error_24h_of_seasonal_naive_week": (1.0, True),
    "coverage_error_080": (0.03, True),
    "coverage_error_090": (0.03, True),
    "coverage_error_095": (0.03, True),
    "cpu_per_refresh_ms": (50.0, True),
    "thousand_series_s": (60.0, True),
}


@dataclass
class Replay:
    """What came of one trace."""

    name: str
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)  #: 1 h, 24 h ahead
    coverage: dict[float, float] = field(default_factory=dict)
    refresh_s: list[float] = field(default_factory=list)
    refit_s: list[float] = field(default_factory=list)


def traces(folder: Path | None) -> dict[str, Floats]:
    """Loads each five minutes by name, from `folder` or generated."""
    if folder is None:
        return {f"made-{seed}": a_load(15, seed, noise=0.02 * (seed + 1)) for seed in range(6)}
    out = {}
    for path in sorted(folder.glob("*.csv")):
        rows = np.loadtxt(path, delimiter=",", skiprows=1)
        out[path.stem] = on_grid([(float(at), float(value)) for at, value in rows]).values
    if not out:
        raise SystemExit(f"{folder}: no *.csv; name a folder of files with columns ts,value")
    return out


def replay(name: str, values: Floats) -> Replay:
    """Live through the last days of one trace."""
    done = Replay(name)
    first = len(values) - TEST_DAYS * DAY
    forecaster = SeriesForecaster(DAY)
    scales = _scales(values, first)
    ours: list[tuple[float, float]] = []
    theirs: dict[str, list[tuple[float, float]]] = {model.name: [] for model in POOL}
    covered: dict[float, list[bool]] = {quantile: [] for quantile in QUANTILES}
    for origin in range(first, len(values)):
        series = Series(0.0, values[:origin], np.ones(origin, dtype=bool))
        refit = (origin - first) % REFIT_POINTS == 0
        if refit:
            began = time.process_time()
            forecaster.refit(series)
            done.refit_s.append(time.process_time() - began)
            fits = {m.name: m.fit(values[:origin], DAY) for m in POOL if m.needs(DAY) <= origin}
        began = time.process_time()
        forecast = forecaster.refresh(series)
        done.refresh_s.append(time.process_time() - began)
        actual = values[origin : origin + DAY]
        if len(actual) < HOUR:
            continue
        for quantile in QUANTILES:
            path = np.asarray(forecast.quantiles[quantile][:HOUR])
            covered[quantile] += (actual[:HOUR] <= path).tolist()
        if (origin - first) % MEMBER_POINTS:
            continue
        scale = scales[origin - first]
        ours.append(_errors(np.asarray(forecaster.centre), actual, scale))
        for model in POOL:
            if model.name in fits:
                path = model.predict(fits[model.name], values[:origin], [origin], DAY, DAY)[0]
                theirs[model.name].append(_errors(np.maximum(path, 0.0), actual, scale))
    done.errors = {
        name: (float(np.nanmean([e[0] for e in some])), float(np.nanmean([e[1] for e in some])))
        for name, some in {OURS: ours, **theirs}.items()
        if len(some) == len(ours)
    }
    done.coverage = {quantile: float(np.mean(hits)) for quantile, hits in covered.items()}
    return done


def _errors(path: Floats, actual: Floats, scale: float) -> tuple[float, float]:
    error = np.abs(path[: len(actual)] - actual) / scale
    return float(error[:HOUR].mean()), float(error.mean()) if len(actual) == DAY else float("nan")


def _scales(values: Floats, first: int) -> Floats:
    """Mean absolute error of the seasonal naive over the history before each origin."""
    gaps = np.abs(values[DAY:] - values[:-DAY])
    means = np.cumsum(gaps) / np.arange(1, len(gaps) + 1)
    return np.asarray(means[first - DAY - 1 :], dtype=np.float64)


def summary(replays: list[Replay]) -> dict[str, float]:
    """The figures of all traces together."""
    names = [name for name in replays[0].errors if all(name in r.errors for r in replays)]
    hour = {name: np.mean([r.errors[name][0] for r in replays]) for name in names}
    day = {name: np.mean([r.errors[name][1] for r in replays]) for name in names}
    best = min(value for name, value in hour.items() if name != OURS)
    weekly = [r for r in replays if WEEK in r.errors]
    long = [np.mean([r.errors[name][1] for r in weekly]) for name in (OURS, WEEK)]
    refresh = float(np.mean([np.mean(r.refresh_s) for r in replays]))
    refit = float(np.mean([np.mean(r.refit_s) for r in replays]))
    coverage = {q: float(np.mean([r.coverage[q] for r in replays])) for q in QUANTILES}
    return {
        "traces": float(len(replays)),
        "mase_1h": round(float(hour[OURS]), 3),
        "mase_24h": round(float(day[OURS]), 3),
        "error_1h_of_seasonal_naive_day": round(float(hour[OURS] / hour[YARDSTICK]), 3),
        "best_single_model_better_1h": round(float(1 - best / hour[OURS]), 3),
        "error_24h_of_seasonal_naive_week": round(float(long[0] / long[1]), 3) if weekly else 0.0,
        **{f"coverage_{round(100 * q):03}": round(c, 3) for q, c in coverage.items()},
        **{
            f"coverage_error_{round(100 * q):03}": round(abs(coverage[q] - q), 3)
            for q in QUANTILES
            if q > 0.5
        },
        "refresh_cpu_ms": round(1000 * refresh, 1),
        "refit_cpu_ms": round(1000 * refit, 1),
        "cpu_per_refresh_ms": round(1000 * (refresh + refit / REFIT_POINTS), 1),
        "thousand_series_s": round(1000 * (refresh + refit / REFIT_POINTS), 1),
    }


def show(replays: list[Replay]) -> None:
    """A table of models and traces: error an hour and a day ahead."""
    grid = Table(title="MASE 1 h / 24 h ahead, last five days", header_style="bold")
    grid.add_column("model")
    for each in replays:
        grid.add_column(each.name, justify="right")
    for name in [OURS, *(model.name for model in POOL)]:
        cells = [
            "{:.2f} / {:.2f}".format(*each.errors[name]) if name in each.errors else "-"
            for each in replays
        ]
        grid.add_row(name, *cells, style="bold" if name == OURS else "")
    grid.add_row(
        "coverage .8 .9 .95",
        *(" ".join(f"{r.coverage[q]:.2f}" for q in (0.8, 0.9, 0.95)) for r in replays),
    )
    Console(width=200).print(grid)


def main() -> int:
    """Replay every trace, show, judge."""
    parser = argparse.ArgumentParser(prog="make bench-forecast")
    parser.add_argument("--traces", type=Path, help="folder of CSV files with columns ts,value")
    parser.add_argument("--only", nargs="*", default=(), help="names of traces")
    options = parser.parse_args()
    found = traces(options.traces)
    chosen = {k: v for k, v in found.items() if not options.only or k in options.only}
    replays = [replay(k, v) for k, v in track(chosen.items(), "replaying", transient=True)]
    show(replays)
    return tell(summary(replays), BARS)


if __name__ == "__main__":
    raise SystemExit(main())
