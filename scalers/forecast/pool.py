"""The models that compete for a series, and which of them its history is long enough for."""

from scalers.forecast.contract import Forecaster
from scalers.forecast.profile import MedianProfile
from scalers.forecast.ridge import RidgeDirect
from scalers.forecast.simple import Naive, SeasonalNaive, ShiftedSeasonalNaive
from scalers.forecast.smoothing import HoltWinters, Theta

#: What skill is measured against.
YARDSTICK = "seasonal_naive_day"

POOL: tuple[Forecaster, ...] = (
    Naive(),
    SeasonalNaive(YARDSTICK, 1),
    SeasonalNaive("seasonal_naive_week", 7),
    ShiftedSeasonalNaive("shifted_day", 1),
    ShiftedSeasonalNaive("shifted_week", 7),
    MedianProfile(),
    RidgeDirect(),
    HoltWinters(),
    Theta(),
)


def able(length: int, day: int, pool: tuple[Forecaster, ...] = POOL) -> list[Forecaster]:
    """Models that can be asked with `length` points of history."""
    return [model for model in pool if model.needs(day) <= length]
