"""Models that know of no season: for young series, and for loads that repeat nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalers.forecast.contract import Parameters, number
from scalers.forecast.simple import season_back
from scalers.series import Floats

#: Factors of smoothing that a fit tries.
_ALPHAS = (1.0, 0.5, 0.3, 0.15, 0.07, 0.03, 0.01)
#: How much of a trend is left a step later; the fit takes the best of these. Never 1: a trend that
#: does not fade runs away within hours.
_DAMPINGS = (0.98, 0.95, 0.9, 0.7)
#: Points whose straight line is the trend of now: two hours.
_TREND_POINTS = 24
_USUAL_DAYS = 7
#: Steps ahead at which a fit is judged.
_JUDGED_STEPS = (1, 6, 12)


@dataclass(frozen=True, slots=True)
class Smoothed:
    """One level for ever, the exponentially weighted mean of the past.

    Source: simple exponential smoothing, ETS(A,N,N) of Hyndman et al. (2008).
    """

    name: str = "smoothed"

    def needs(self, day: int) -> int:
        """An eighth of a day."""
        return max(2, day // 8)

    def fit(self, values: Floats, day: int) -> Parameters:
        """The factor with the least absolute error up to an hour ahead."""
        best = (np.inf, 1.0)
        for alpha in _ALPHAS:
            levels = _levels(values, alpha)
            error = sum(
                float(np.abs(values[ahead:] - levels[:-ahead]).mean())
                for ahead in _JUDGED_STEPS
                if ahead < len(values)
            )
            best = min(best, (error, alpha))
        return {"alpha": best[1]}

    def predict(
        self, learned: Parameters, values: Floats, origins: Sequence[int], steps: int, day: int
    ) -> Floats:
        """See `Forecaster.predict`."""
        levels = _levels(values[: max(origins)], number(learned, "alpha"))
        return np.repeat(levels[np.asarray(origins) - 1][:, None], steps, axis=1)


@dataclass(frozen=True, slots=True)
class DampedTrend:
    """The last value and the trend of the last two hours, which fades.

    Source: damped trends, Gardner & McKenzie, Management Science 31 (1985).
    """

    name: str = "damped_trend"

    def needs(self, day: int) -> int:
        """The points of a trend."""
        return _TREND_POINTS

    def fit(self, values: Floats, day: int) -> Parameters:
        """How fast a trend fades: the factor with the least absolute error up to an hour ahead."""
        slopes = _slopes(values)
        last = values[_TREND_POINTS - 1 :]
        best = (np.inf, _DAMPINGS[-1])
        for damping in _DAMPINGS:
            error = sum(
                float(
                    np.abs(last[ahead:] - last[:-ahead] - slopes[:-ahead] * _sum(damping, ahead))
                    .mean()
                )
                for ahead in _JUDGED_STEPS
                if ahead < len(last)
            )  # fmt: skip
            best = min(best, (error, damping))
        return {"damping": best[1]}

    def predict(
        self, learned: Parameters, values: Floats, origins: Sequence[int], steps: int, day: int
    ) -> Floats:
        """See `Forecaster.predict`."""
        damping = number(learned, "damping")
        at = np.asarray(origins)
        windows = values[at[:, None] - _TREND_POINTS + np.arange(_TREND_POINTS)]
        slopes = windows @ _weights()
        reach = np.array([_sum(damping, ahead) for ahead in range(1, steps + 1)])
        return np.asarray(values[at - 1][:, None] + slopes[:, None] * reach, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Usual:
    """The median of the last seven days, and what the load is away from it just now, which fades.

    What `profile` is where days repeat: far ahead the usual level is the best that can be said.
    With `weekly`, half of it is the same day of last week, as there.
    """

    name: str = "usual"
    weekly: bool = False

    def needs(self, day: int) -> int:
        """Two days: the median of less is that of one night. With a week in it, eight."""
        return 8 * day if self.weekly else 2 * day

    def fit(self, values: Floats, day: int) -> Parameters:
        """How fast a distance fades: its lag-one autocorrelation, below one."""
        window = values[-_USUAL_DAYS * day :]
        rest = window - np.median(window)
        power = float(rest[:-1] @ rest[:-1])
        fade = float(rest[:-1] @ rest[1:]) / power if power > 0 else 0.0
        return {"fade": min(max(fade, 0.0), 0.999)}

    def predict(
        self, learned: Parameters, values: Floats, origins: Sequence[int], steps: int, day: int
    ) -> Floats:
        """See `Forecaster.predict`."""
        fading = np.power(number(learned, "fade"), np.arange(1, steps + 1))
        out = np.empty((len(origins), steps))
        for row, origin in enumerate(origins):
            usual = float(np.median(values[max(0, origin - _USUAL_DAYS * day) : origin]))
            path = np.full(steps, usual)
            if self.weekly:
                path = 0.5 * (path + values[season_back([origin], steps, 7 * day)[0]])
            out[row] = path + (values[origin - 1] - usual) * fading
        return out


def _levels(values: Floats, alpha: float) -> Floats:
    """The smoothed level after each point."""
    out = np.empty(len(values))
    level = float(values[0])
    for index, value in enumerate(values.tolist()):
        level += alpha * (value - level)
        out[index] = level
    return out


def _sum(damping: float, ahead: int) -> float:
    """damping + damping² + … of so many steps."""
    return damping * (1.0 - damping**ahead) / (1.0 - damping)


def _weights() -> Floats:
    """What a window is multiplied with for the slope of its least-squares line."""
    at = np.arange(_TREND_POINTS) - (_TREND_POINTS - 1) / 2.0
    return np.asarray(at / float((at**2).sum()), dtype=np.float64)


def _slopes(values: Floats) -> Floats:
    """Slope a step of each window of `_TREND_POINTS`."""
    windows = np.lib.stride_tricks.sliding_window_view(values, _TREND_POINTS)
    return np.asarray(windows @ _weights(), dtype=np.float64)
