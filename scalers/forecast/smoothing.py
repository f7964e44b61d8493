"""Exponential smoothing: Holt-Winters with a daily season, and Theta; parameters by statsmodels.

A fit finds the smoothing factors; a prediction runs the recursions over the series again with the
factors it is given, which takes a millisecond or two and needs no statsmodels.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalers.forecast.contract import Parameters, number
from scalers.series import Floats

#: Days a fit looks at.
_DAYS = 15


@dataclass(frozen=True, slots=True)
class HoltWinters:
    """Additive daily season and level, no trend.

    A trend fitted at five minutes runs away within hours; the level follows fast enough.
    Source: Hyndman et al., Forecasting with Exponential Smoothing (2008), model ETS(A,N,A).
    """

    name: str = "holt_winters"

    def needs(self, day: int) -> int:
        """Two days: statsmodels starts from two seasons."""
        return 2 * day

    def fit(self, values: Floats, day: int) -> Parameters:
        """Smoothing factors of level and season with the least squared one-step error."""
        from statsmodels.tsa.holtwinters import ExponentialSmoothing

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that did not converge is judged by backtest
            model = ExponentialSmoothing(
                values[-_DAYS * day :], seasonal="add", seasonal_periods=day,
                initialization_method="heuristic",
            )  # fmt: skip
            found = model.fit(optimized=True).params
        return {
            "level": float(np.clip(found["smoothing_level"], 0.0, 1.0)),
            "season": float(np.clip(found["smoothing_seasonal"], 0.0, 1.0)),
        }

    def predict(
        self, learned: Parameters, values: Floats, origins: Sequence[int], steps: int, day: int
    ) -> Floats:
        """See `Forecaster.predict`."""
        start = max(0, min(origins) - _DAYS * day)
        levels, seasons = _states(
            values[start:].tolist(), day, number(learned, "level"), number(learned, "season"),
            [origin - start for origin in origins],
        )  # fmt: skip
        phase = np.arange(steps) % day
        out = np.empty((len(origins), steps))
        for row, origin in enumerate(origins):
            out[row] = levels[row] + np.roll(seasons[row], -((origin - start) % day))[phase]
        return out


def _states(
    values: list[float], day: int, alpha: float, gamma: float, origins: list[int]
) -> tuple[list[float], list[Floats]]:
    """Level and season just before each origin."""
    level = sum(values[:day]) / day
    season = [value - level for value in values[:day]]
    kept: dict[int, tuple[float, Floats]] = {}
    wanted = set(origins)
    for index in range(day, max(origins)):
        if index in wanted:
            kept[index] = (level, np.array(season))
        phase = index % day
        value, usual = values[index], season[phase]
        before = level
        level = alpha * (value - usual) + (1.0 - alpha) * level
        season[phase] = gamma * (value - before) + (1.0 - gamma) * usual
    kept[max(origins)] = (level, np.array(season))
    return [kept[origin][0] for origin in origins], [kept[origin][1] for origin in origins]


@dataclass(frozen=True, slots=True)
class Theta:
    """Theta on the series without its daily season: half a drift, and simple smoothing.

    Source: Assimakopoulos & Nikolopoulos (2000), as in statsmodels' ThetaModel.
    """

    name: str = "theta"

    def needs(self, day: int) -> int:
        """Two days."""
        return 2 * day

    def fit(self, values: Floats, day: int) -> Parameters:
        """Season, smoothing factor and drift a step."""
        from statsmodels.tsa.forecasting.theta import ThetaModel

        days = min(_DAYS, len(values) // day)
        window = values[-days * day :]
        season = window.reshape(days, day).mean(axis=0)
        season = season - season.mean()
        plain = window - np.tile(season, days)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ThetaModel(plain, deseasonalize=False).fit().params
        # The season begins at the first point of the window; it is kept by absolute index.
        offset = (len(values) - days * day) % day
        return {
            "season": np.roll(season, offset).tolist(),
            "alpha": float(np.clip(found["alpha"], 0.01, 1.0)),
            # statsmodels' own slope is wrong for a series that never changes (1.17 for sevens).
            "drift": float(np.polyfit(np.arange(len(plain)), plain, 1)[0]) / 2.0,
        }

    def predict(
        self, learned: Parameters, values: Floats, origins: Sequence[int], steps: int, day: int
    ) -> Floats:
        """See `Forecaster.predict`."""
        alpha = number(learned, "alpha")
        season = np.asarray(learned["season"])
        plain = values - season[np.arange(len(values)) % day]
        level = float(plain[:day].mean())
        wanted = set(origins)
        kept = {}
        for index, value in enumerate(plain.tolist()):
            if index in wanted:
                kept[index] = level
            level += alpha * (value - level)
        kept[len(values)] = level
        ahead = np.arange(steps)
        # A drift is bounded to a day: beyond it the season carries the forecast.
        drift = number(learned, "drift") * np.minimum(ahead + 1, day)
        return np.stack([kept[at] + season[(at + ahead) % day] + drift for at in origins])
