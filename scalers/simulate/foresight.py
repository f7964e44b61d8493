"""What would have been forecast at each moment of a past load, knowing nothing of its future."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scalers.forecast.contract import Forecaster
from scalers.forecast.ensemble import TooShortError
from scalers.forecast.service import QUANTILES, REFIT_SECONDS, Forecast, SeriesForecaster
from scalers.hpa import SYNC_SECONDS
from scalers.series import Floats, Series

#: A pod must be wanted this long before the load comes, beyond the time it takes to be ready.
MARGIN_SECONDS = 30.0
#: A forecast never asks for more than so many times the highest load of the last seven days.
CAP = 1.1
_CAP_DAYS = 7


@dataclass(frozen=True, slots=True)
class Foresight:
    """Forecasts refreshed each step: `paths[q][r]` was made at `first + r * step`.

    Shapes: each path (refreshes, steps); element j is the load from `j * step` after the refresh,
    one step long. NaN where no forecast was served: too little history, or one that is degraded.
    """

    first: float
    step: float
    paths: dict[float, Floats]
    last: Forecast | None = None  #: the newest one, as it would be served

    def metric(self, quantile: float, start: float, ticks: int, lead: float) -> Floats:
        """At each of `ticks` syncs from `start` the highest forecast until `lead` s later."""
        path = self.paths[quantile]
        refreshes, steps = path.shape
        at = start + SYNC_SECONDS * np.arange(ticks) - self.first
        refresh = np.floor(at / self.step).astype(np.int64)
        known = (refresh >= 0) & (refresh < refreshes)
        last = np.floor((at + lead) / self.step).astype(np.int64) - refresh
        highest = np.maximum.accumulate(path, axis=1)  # NaN rows stay NaN
        out = highest[np.clip(refresh, 0, refreshes - 1), np.clip(last, 0, steps - 1)]
        return np.where(known, out, np.nan)


def lead_seconds(ready_seconds: float) -> float:
    """How far ahead a forecast is read."""
    return ready_seconds + MARGIN_SECONDS


def steps_for(lead: float, step: float) -> int:
    """Steps of a forecast that is read until `lead` seconds after any moment of its life."""
    return math.floor(lead / step) + 2


def foresee(
    series: Series,
    first: float,
    steps: int,
    *,
    serving: float = 0.9,
    told: Callable[[float], None] | None = None,
) -> Foresight:
    """Forecasts from `first` (Unix seconds) to the end: refitted each 6 h, refreshed each step."""
    forecaster = SeriesForecaster(steps, serving)
    begin = _index(series, first)
    paths = {q: np.full((len(series) - begin + 1, steps), np.nan) for q in QUANTILES}
    forecast = None
    for row, origin in enumerate(range(begin, len(series) + 1)):
        known = series.until(origin)
        try:
            if forecaster.due(known):
                forecaster.refit(known)
            forecast = forecaster.refresh(known)
        except TooShortError:
            continue  # no forecast yet: only reactive scaling
        if not forecast.degraded:
            cap = CAP * known.values[-_CAP_DAYS * series.day :].max()
            for quantile, path in forecast.quantiles.items():
                paths[quantile][row] = np.minimum(path, cap)
        if told and row % 12 == 0:
            told(row / (len(series) - begin + 1))
    return Foresight(series.start + begin * series.step, series.step, paths, forecast)


def foresee_alone(
    model: Forecaster, series: Series, first: float, steps: int
) -> Foresight:  # fmt: skip
    """The same by one model of the pool, its central forecast at every quantile."""
    begin = _index(series, first)
    values, day = series.for_models(), series.day
    path = np.full((len(series) - begin + 1, steps), np.nan)
    each = round(REFIT_SECONDS / series.step)
    for origin in range(begin, len(series) + 1, each):
        if origin < model.needs(day):
            continue
        learned = model.fit(values[:origin], day)
        origins: Sequence[int] = range(origin, min(origin + each, len(series) + 1))
        ahead = model.predict(learned, values, origins, steps, day)
        cap = CAP * values[max(0, origin - _CAP_DAYS * day) : origin].max()
        path[origin - begin : origin - begin + len(origins)] = np.clip(ahead, 0.0, cap)
    return Foresight(
        series.start + begin * series.step, series.step, dict.fromkeys(QUANTILES, path)
    )


def coverage(series: Series, seen: Foresight, seconds: float = 3600.0) -> dict[float, float]:
    """Share of the points up to `seconds` ahead that each quantile covered; NaN: none was judged.

    Points that teach nothing (gaps, incidents) judge nobody.
    """
    begin = round((seen.first - series.start) / series.step)
    reach = max(1, round(seconds / series.step))
    out = {}
    for quantile, path in seen.paths.items():
        rows, steps = path.shape
        index = begin + np.arange(rows)[:, None] + np.arange(min(reach, steps))
        inside = np.minimum(index, len(series) - 1)
        judged = (index < len(series)) & series.taught[inside] & np.isfinite(path[:, :reach])
        hits = series.values[inside] <= path[:, :reach]
        out[quantile] = float(hits[judged].mean()) if judged.any() else math.nan
    return out


def _index(series: Series, first: float) -> int:
    """Points that are over at `first`, at least one."""
    return min(len(series), max(1, math.floor((first - series.start) / series.step)))
