"""The models that compete: those the history is long enough for and whose season it shows."""

from collections.abc import Sequence

from scalers.forecast.contract import Forecaster
from scalers.forecast.plain import DampedTrend, Smoothed, Usual
from scalers.forecast.profile import MedianProfile
from scalers.forecast.ridge import RidgeDirect
from scalers.forecast.seasons import Seasons
from scalers.forecast.simple import Naive, SeasonalNaive, ShiftedSeasonalNaive
from scalers.forecast.smoothing import HoltWinters, Theta

#: What skill is measured against where days repeat.
YARDSTICK = "seasonal_naive_day"
#: … and where they do not.
PLAIN_YARDSTICK = "naive"

_NAIVE = Naive()
_DAY_NAIVE = SeasonalNaive(YARDSTICK, 1)
_DAILY: tuple[Forecaster, ...] = (
    ShiftedSeasonalNaive("shifted_day", 1),
    HoltWinters(),
    Theta(),
)
#: Of the week, and used as long as the week's season is not known to be absent.
_WEEKLY: tuple[Forecaster, ...] = (
    SeasonalNaive("seasonal_naive_week", 7),
    ShiftedSeasonalNaive("shifted_week", 7),
)
#: Of the day, and of the week too once there is a week.
_BOTH: tuple[Forecaster, ...] = (MedianProfile(), RidgeDirect())
#: The same without a week.
_DAY_ONLY: tuple[Forecaster, ...] = (
    MedianProfile("profile_day", weekly=False),
    RidgeDirect("ridge_day", season=1),
)
#: Of no season; where there is one, they would only be noise among the members.
_PLAIN: tuple[Forecaster, ...] = (
    Smoothed(),
    DampedTrend(),
    Usual(),
    RidgeDirect("ridge_lags", season=0),
)

#: Of the week, where days do not repeat.
_WEEK_ONLY: tuple[Forecaster, ...] = (Usual("usual_week", weekly=True),)

#: Every model that a load with both seasons is forecast by.
POOL: tuple[Forecaster, ...] = (_NAIVE, _DAY_NAIVE, *_WEEKLY, *_DAILY[:1], *_BOTH, *_DAILY[1:])
#: Every model there is.
EVERY: tuple[Forecaster, ...] = (*POOL, *_DAY_ONLY, *_WEEK_ONLY, *_PLAIN)


def suited(found: Seasons) -> tuple[Forecaster, ...]:
    """Models that use no season that is absent.

    A season that there was not time to show is tried: the backtest compares what there is of its
    second cycle with the first, and hears only those models that win it.
    """
    if not found.day.shown:
        weekly = () if found.week.absent else (*_WEEKLY, *_WEEK_ONLY)
        return (_NAIVE, *weekly, *_PLAIN)
    if found.week.absent:
        return (_NAIVE, _DAY_NAIVE, *_DAILY, *_DAY_ONLY)
    return POOL


def yardstick(found: Seasons) -> str:
    """Name of the model that skill is measured against: yesterday's load, or the last value."""
    return YARDSTICK if found.day.shown else PLAIN_YARDSTICK


def able(length: int, day: int, pool: Sequence[Forecaster] = POOL) -> list[Forecaster]:
    """Models that can be asked with `length` points of history."""
    return [model for model in pool if model.needs(day) <= length]
