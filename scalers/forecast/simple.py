"""Models without a fit worth the name: the last value, the last day or week, and their level."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalers.forecast.contract import Parameters, number
from scalers.series import Floats

#: Points whose median says how far the load is from the day before.
_LEVEL_POINTS = 6
#: How much of a level shift is left a step later; the fit takes the best of these.
_DECAYS = (1.0, 0.998, 0.99, 0.97, 0.9)
#: Steps ahead at which the decay is judged.
_JUDGED_STEPS = (1, 3, 6, 12, 36)


def season_back(
    origins: Sequence[int], steps: int, season: int
) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    """Index of the newest known point of the same phase, for every origin and step ahead."""
    ahead = np.arange(steps)
    start = np.asarray(origins, dtype=np.int64)[:, None]
    return np.asarray(start + ahead - season * (ahead // season + 1), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Naive:
    """The last value for ever."""

    name: str = "naive"

    def needs(self, day: int) -> int:
        """One point."""
        return 1

    def fit(self, values: Floats, day: int) -> Parameters:
        """Nothing to learn."""
        return {}

    def predict(
        self, learned: Parameters, values: Floats, origins: Sequence[int], steps: int, day: int
    ) -> Floats:
        """See `Forecaster.predict`."""
        last = values[np.asarray(origins) - 1]
        return np.repeat(last[:, None], steps, axis=1)


@dataclass(frozen=True, slots=True)
class SeasonalNaive:
    """The same time one season ago; the season is so many days."""

    name: str
    days: int

    def needs(self, day: int) -> int:
        """One season."""
        return self.days * day

    def fit(self, values: Floats, day: int) -> Parameters:
        """Nothing to learn."""
        return {}

    def predict(
        self, learned: Parameters, values: Floats, origins: Sequence[int], steps: int, day: int
    ) -> Floats:
        """See `Forecaster.predict`."""
        return values[season_back(origins, steps, self.days * day)]


@dataclass(frozen=True, slots=True)
class ShiftedSeasonalNaive:
    """The same time one season ago, moved by how far the load is from it just now.

    The shift fades by a factor a step that the fit chooses from the past.
    """

    name: str
    days: int

    def needs(self, day: int) -> int:
        """One season and the points the level is taken from."""
        return self.days * day + _LEVEL_POINTS

    def fit(self, values: Floats, day: int) -> Parameters:
        """How long a shift lasts: the decay with the least absolute error so far."""
        season = self.days * day
        if len(values) < season + 2 * day:
            return {"decay": 1.0}
        gap = values[season:] - values[:-season]
        shift = _moving_median(gap)
        best = (np.inf, 1.0)
        for decay in _DECAYS:
            error = sum(
                float(
                    np.abs(gap[_LEVEL_POINTS - 1 + ahead :] - shift[:-ahead] * decay**ahead).mean()
                )
                for ahead in _JUDGED_STEPS
            )
            best = min(best, (error, decay))
        return {"decay": best[1]}

    def predict(
        self, learned: Parameters, values: Floats, origins: Sequence[int], steps: int, day: int
    ) -> Floats:
        """See `Forecaster.predict`."""
        season = self.days * day
        decay = number(learned, "decay")
        recent = np.asarray(origins)[:, None] - np.arange(1, _LEVEL_POINTS + 1)
        shift = np.median(values[recent] - values[recent - season], axis=1)
        fading = np.power(decay, np.arange(1, steps + 1))
        return values[season_back(origins, steps, season)] + shift[:, None] * fading


def _moving_median(values: Floats) -> Floats:
    """Median of each `_LEVEL_POINTS` points in a row, shape (n - _LEVEL_POINTS + 1,)."""
    windows = np.lib.stride_tricks.sliding_window_view(values, _LEVEL_POINTS)
    return np.asarray(np.median(windows, axis=1), dtype=np.float64)
