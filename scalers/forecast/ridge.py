"""Ridge regression on waves and lags, one for each horizon bucket, straight lines between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalers.forecast.contract import Parameters, number
from scalers.series import Floats

#: Steps ahead that have a regression of their own.
HORIZONS = (1, 3, 6, 12, 24, 72, 288)
_DAILY_WAVES = 8
_WEEKLY_WAVES = 3
_LAGS = 12
_PENALTY = 1.0
#: Rows a regression is fitted on at most; more cost time and teach little.
_ROWS = 1500


@dataclass(frozen=True, slots=True)
class RidgeDirect:
    """Waves, the last hour, and the same time a day and a week ago; one fit for each horizon.

    Source: "direct" multi-step forecasting, one regression a horizon, as in Hyndman &
    Athanasopoulos, Forecasting: Principles and Practice (3rd ed.), section 13.
    """

    name: str = "ridge"
    season: int = 7  #: the longest season it knows of, in days; 0: lags alone, 1: the day's

    def needs(self, day: int) -> int:
        """Three days; half a day of lags alone."""
        return 3 * day if self.season else max(day // 2, 4 * _LAGS)

    def fit(self, values: Floats, day: int) -> Parameters:
        """Coefficients for each horizon, on standardised values."""
        centre, spread = float(values.mean()), float(values.std()) + 1e-12
        scaled = (values - centre) / spread
        weekly = self.season == 7 and len(values) >= 9 * day
        learned: dict[str, float | list[float]] = {
            "centre": centre, "spread": spread, "weekly": float(weekly),
        }  # fmt: skip
        first = (8 if weekly else 2) * day if self.season else _LAGS
        for ahead in _horizons(day):
            origins = np.arange(first, len(values) - ahead + 1)
            origins = origins[:: max(1, len(origins) // _ROWS)]
            if len(origins) < 2 * _LAGS:
                continue
            rows = self._features(scaled, origins, ahead, day, weekly=weekly)
            square = rows.T @ rows + _PENALTY * np.eye(rows.shape[1])
            solved = np.linalg.solve(square, rows.T @ scaled[origins + ahead - 1])
            learned[str(ahead)] = solved.tolist()
        return learned

    def predict(
        self, learned: Parameters, values: Floats, origins: Sequence[int], steps: int, day: int
    ) -> Floats:
        """See `Forecaster.predict`."""
        centre, spread = number(learned, "centre"), number(learned, "spread")
        scaled = (values - centre) / spread
        weekly = bool(number(learned, "weekly"))
        at = np.asarray(origins)
        horizons = [ahead for ahead in _horizons(day) if str(ahead) in learned]
        if not horizons:
            return np.repeat(values[at - 1][:, None], steps, axis=1)
        known = [
            self._features(scaled, at, ahead, day, weekly=weekly) @ np.asarray(learned[str(ahead)])
            for ahead in horizons
        ]
        columns = np.asarray(known).T
        ahead = np.arange(1, steps + 1)
        out = np.stack([np.interp(ahead, horizons, row) for row in columns])
        return np.asarray(out * spread + centre, dtype=np.float64)

    def _features(
        self,
        scaled: Floats,
        origins: "np.ndarray[tuple[int], np.dtype[np.int64]]",
        ahead: int,
        day: int,
        *,
        weekly: bool,
    ) -> Floats:
        """One row an origin; the target is point `origin + ahead - 1`."""
        target = origins + ahead - 1
        lags = [scaled[origins - lag] for lag in range(1, _LAGS + 1)]
        if not self.season:
            return np.stack([np.ones(len(origins)), *lags], axis=1)
        columns = [np.ones(len(origins))]
        for wave in range(1, _DAILY_WAVES + 1):
            angle = 2 * np.pi * wave * target / day
            columns += [np.sin(angle), np.cos(angle)]
        if weekly:
            for wave in range(1, _WEEKLY_WAVES + 1):
                angle = 2 * np.pi * wave * target / (7 * day)
                columns += [np.sin(angle), np.cos(angle)]
        columns += lags
        columns += [scaled[target - day * ((ahead - 1) // day + 1)], scaled[origins - 1 - day]]
        if weekly:
            columns.append(scaled[target - 7 * day * ((ahead - 1) // (7 * day) + 1)])
        return np.stack(columns, axis=1)


def _horizons(day: int) -> list[int]:
    return sorted({max(1, round(ahead * day / 288)) for ahead in HORIZONS})
