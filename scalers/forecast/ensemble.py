"""Which models to trust for a series, by rolling-origin backtest, and what they say together.

For each horizon bucket the models are ranked by pinball loss at the quantile that will be served;
the weighted median of the best is the forecast. Its own backtest residuals, taken additively, make
the quantiles (split conformal: Vovk et al., Algorithmic Learning in a Random World, 2005).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scalers.forecast.buckets import edges
from scalers.forecast.contract import Forecaster, Parameters
from scalers.forecast.ladder import NEEDS_DAYS, Rung, rung_of, too_short
from scalers.forecast.pool import EVERY, YARDSTICK, able, suited, yardstick
from scalers.forecast.seasons import seasons
from scalers.series import Flags, Floats, Series

#: How far back the backtest looks, days.
BACKTEST_DAYS = 3.0
#: Distance of two origins of the backtest, seconds.
ORIGIN_SECONDS = 1800.0
#: So many of the best models of a bucket have a say.
MEMBERS = 4
#: The ensemble among the models' names, in tables of losses.
OURS = "ensemble"
#: Weights are the inverse of the loss to this power: the better half decides, none decides alone.
_SHARPNESS = 2.0
#: Quantiles at which the residuals of a bucket are remembered.
LEVELS = np.array(
    [0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75,
     0.8, 0.85, 0.875, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995]
)  # fmt: skip
#: A new set of members replaces the old one at once only if it is this much better.
_BETTER = 0.95
#: Below two days the backtest begins so many days in: the models of that rung need no more.
_YOUNG_BEGIN_DAYS = 0.25
#: Residuals of a series below two days are widened so: what one day shows, the next exceeds.
_YOUNG_WIDER = 1.5


@dataclass(frozen=True, slots=True)
class Learned:
    """All that is known of a series after a backtest; a plain value that survives a restart."""

    parameters: Mapping[str, Parameters]
    weights: tuple[Mapping[str, float], ...]  #: by bucket
    residuals: tuple[tuple[float, ...], ...]  #: by bucket: value - forecast, at LEVELS
    losses: tuple[Mapping[str, float], ...]  #: by bucket and model; `OURS` is the ensemble
    skill: float  #: 1 - loss / loss of the yardstick, up to an hour ahead
    fitted_at: float  #: Unix seconds, the last point known
    steps: int
    rung: Rung = Rung.DAY
    yardstick: str = YARDSTICK  #: yesterday's load; the last value where days do not repeat


@dataclass(frozen=True, slots=True)
class _Bucket:
    """What the backtest says of one horizon bucket."""

    weights: Mapping[str, float]
    residuals: tuple[float, ...]
    losses: Mapping[str, float]


class TooShortError(ValueError):
    """The series has not enough history to be forecast and judged."""


def learn(
    series: Series,
    steps: int,
    quantile: float,
    *,
    extra: Sequence[Forecaster] = (),
    before: Learned | None = None,
) -> Learned:
    """Backtest the pool on the last days of `series`, choose, and fit the chosen ones on all of it.

    `extra` are more models of the day's season. Raises TooShortError with less than a day: then
    only reactive scaling is honest. Costs some hundred milliseconds; meant for a worker process.
    """
    day, values = series.day, series.for_models()
    length = len(values)
    if length < round(NEEDS_DAYS[Rung.TREND] * day):
        raise TooShortError(too_short(length, day))
    found = seasons(series)
    young = length < round(NEEDS_DAYS[Rung.DAY] * day)
    begin = length - min(round(BACKTEST_DAYS * day), length // 2)
    if young:
        begin = round(_YOUNG_BEGIN_DAYS * day)
    origins = range(begin, length - 1, max(1, round(ORIGIN_SECONDS / series.step)))
    models = able(begin, day, (*suited(found), *(extra if found.day.shown else ())))
    actual, known = _targets(values, series.taught, origins, steps)
    paths = {}
    for model in models:
        early = model.fit(values[:begin], day)
        paths[model.name] = np.maximum(model.predict(early, values, origins, steps, day), 0.0)
    ranked = []
    for index, (first, last) in enumerate(edges(steps, day)):
        columns = slice(first, last)
        old = before.weights[index] if before and index < len(before.weights) else None
        ranked.append(
            _rank(
                {name: path[:, columns] for name, path in paths.items()},
                actual[:, columns], known[:, columns], quantile, old,
            )
        )  # fmt: skip
    if young:
        ranked = _widened(ranked, edges(steps, day))
    used = {name for bucket in ranked for name in bucket.weights}
    near = ranked[: len(edges(min(steps, day // 24), day))]
    measure = yardstick(found)
    ours, theirs = (sum(bucket.losses[name] for bucket in near) for name in (OURS, measure))
    return Learned(
        {model.name: model.fit(values, day) for model in models if model.name in used},
        tuple(bucket.weights for bucket in ranked),
        tuple(bucket.residuals for bucket in ranked),
        tuple(bucket.losses for bucket in ranked),
        1.0 - ours / theirs if theirs > 0 else 0.0,
        series.end,
        steps,
        rung_of(found),
        measure,
    )


def predict(
    learned: Learned,
    series: Series,
    origins: Sequence[int] | None = None,
    *,
    extra: Sequence[Forecaster] = (),
) -> Floats:
    """The central forecast from each origin (default: from the end), shape (origins, steps).

    `extra` as in `learn`.
    """
    day, values = series.day, series.for_models()
    origins = [len(values)] if origins is None else origins
    paths = {
        model.name: np.maximum(
            model.predict(learned.parameters[model.name], values, origins, learned.steps, day), 0.0
        )
        for model in (*EVERY, *extra)
        if model.name in learned.parameters
    }
    out = np.empty((len(origins), learned.steps))
    for chosen, (first, last) in zip(learned.weights, edges(learned.steps, day), strict=True):
        out[:, first:last] = combine({n: paths[n][:, first:last] for n in chosen}, chosen)
    return out


def combine(paths: Mapping[str, Floats], weights: Mapping[str, float]) -> Floats:
    """The weighted median of the paths, cell by cell: of two middle ones their mean."""
    names = list(weights)
    stack = np.stack([paths[name] for name in names])
    weight = np.array([weights[name] for name in names])
    order = np.argsort(stack, axis=0)
    ordered = np.take_along_axis(stack, order, axis=0)
    share = np.cumsum(weight[order], axis=0) / weight.sum()
    lower = np.take_along_axis(ordered, (share >= 0.5 - 1e-9).argmax(axis=0)[None], axis=0)[0]
    upper = np.take_along_axis(ordered, (share > 0.5 + 1e-9).argmax(axis=0)[None], axis=0)[0]
    return np.asarray((lower + upper) / 2.0, dtype=np.float64)


def pinball(residual: Floats, quantile: float) -> float:
    """Mean pinball loss of residuals (value - forecast) at `quantile`; 0 of nothing."""
    if residual.size == 0:
        return 0.0
    return float(np.maximum(quantile * residual, (quantile - 1.0) * residual).mean())


def _rank(
    paths: Mapping[str, Floats],
    actual: Floats,
    known: Flags,
    quantile: float,
    old: Mapping[str, float] | None,
) -> _Bucket:
    """The best models of a bucket; those of last time stay unless others are clearly better."""
    losses = {name: _loss(actual - path, known, quantile) for name, path in paths.items()}
    chosen: Mapping[str, float] = _choose(losses)
    rest = actual - combine(paths, chosen)
    ours = _loss(rest, known, quantile)
    if old is not None and set(old) <= set(paths) and set(old) != set(chosen):
        then = actual - combine(paths, old)
        loss_then = _loss(then, known, quantile)
        if ours > _BETTER * loss_then:
            chosen, rest, ours = old, then, loss_then
    cells = rest[known]
    table = np.quantile(cells, LEVELS) if cells.size else np.zeros(len(LEVELS))
    return _Bucket(dict(chosen), tuple(table.tolist()), {**losses, OURS: ours})


def _widened(ranked: Sequence[_Bucket], reach: Sequence[tuple[int, int]]) -> list[_Bucket]:
    """The buckets with residuals as far from zero as a short history cannot show them.

    They are stretched, and those of a farther bucket are at least the nearer one's times the root
    of how much farther it reaches, as of a random walk.
    """
    out: list[_Bucket] = []
    before, before_last = np.zeros(len(LEVELS)), 1
    for bucket, (_, last) in zip(ranked, reach, strict=True):
        far = before * np.sqrt(last / before_last)
        own = np.asarray(bucket.residuals) * _YOUNG_WIDER
        wide = np.where(LEVELS < 0.5, np.minimum(own, far), np.maximum(own, far))
        out.append(replace(bucket, residuals=tuple(wide.tolist())))
        before, before_last = wide, last
    return out


def _loss(residual: Floats, known: Flags, quantile: float) -> float:
    """Pinball loss of the model's own quantile: how sharp it is once it is calibrated."""
    cells = residual[known]
    if cells.size == 0:
        return 0.0
    return pinball(cells - np.quantile(cells, quantile), quantile)


def _choose(loss: Mapping[str, float]) -> dict[str, float]:
    best = sorted(loss, key=lambda name: (loss[name], name))[:MEMBERS]
    floor = max(loss[best[0]], 1e-12)
    raw = {name: (floor / max(loss[name], 1e-12)) ** _SHARPNESS for name in best}
    total = sum(raw.values())
    return {name: value / total for name, value in raw.items()}


def _targets(
    values: Floats, taught: Flags, origins: Sequence[int], steps: int
) -> tuple[Floats, Flags]:
    """What came true after each origin, and which of it is known and may judge."""
    cells = np.asarray(origins)[:, None] + np.arange(steps)
    inside = cells < len(values)
    cells = np.minimum(cells, len(values) - 1)
    return values[cells], inside & taught[cells]
