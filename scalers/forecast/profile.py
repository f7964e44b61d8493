"""The usual day: the median of the last days, half of it last week's day, and a fading residual."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalers.forecast.contract import Parameters, number
from scalers.forecast.simple import season_back
from scalers.series import Floats

_DAYS = 7
#: Newest points whose mean residual says how unusual the day is just now.
_RESIDUAL_POINTS = 3


@dataclass(frozen=True, slots=True)
class MedianProfile:
    """Median of the last seven days by time of day, with an autoregressive residual.

    From eight days on, half of it is the same day of last week, unless `weekly` is off.
    """

    name: str = "profile"
    weekly: bool = True

    def needs(self, day: int) -> int:
        """Two days."""
        return 2 * day

    def fit(self, values: Floats, day: int) -> Parameters:
        """How fast the residual fades: its lag-one autocorrelation, below one."""
        days = min(_DAYS, len(values) // day)
        window = values[-days * day :].reshape(days, day)
        rest = (window - np.median(window, axis=0)).ravel()
        power = float(rest[:-1] @ rest[:-1])
        fade = float(rest[:-1] @ rest[1:]) / power if power > 0 else 0.0
        return {"fade": min(max(fade, 0.0), 0.999)}

    def predict(
        self, learned: Parameters, values: Floats, origins: Sequence[int], steps: int, day: int
    ) -> Floats:
        """See `Forecaster.predict`."""
        fading = np.power(number(learned, "fade"), np.arange(1, steps + 1))
        phase = np.arange(steps) % day
        out = np.empty((len(origins), steps))
        for row, origin in enumerate(origins):
            days = min(_DAYS, origin // day)
            window = values[origin - days * day : origin].reshape(days, day)
            usual = np.median(window, axis=0)
            shift = float((window[-1] - usual)[-_RESIDUAL_POINTS:].mean())
            path = usual[phase]
            if self.weekly and origin >= 8 * day:
                last_week = values[season_back([origin], steps, 7 * day)[0]]
                path = 0.5 * (path + last_week)
            out[row] = path + shift * fading
        return out
