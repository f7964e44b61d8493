"""What a young series gets, and which seasons are used: only those that the numbers show."""

import numpy as np
import pytest

from scalers.forecast.ensemble import TooShortError, learn
from scalers.forecast.ladder import Rung, next_rung
from scalers.forecast.seasons import seasons
from scalers.forecast.service import QUANTILES, SeriesForecaster
from scalers.series import Floats
from tests.scalers.loads import DAY, a_load, as_series

HOUR = 12
SEEDS = range(12)


def _wandering(days: int, seed: int) -> Floats:
    """A load that repeats nothing: what is, stays, and moves by chance."""
    dice = np.random.default_rng(seed)
    return np.asarray(1000.0 + np.cumsum(dice.normal(0.0, 2.0, days * DAY)))


@pytest.mark.parametrize(
    ("points", "said"), [(HOUR, "1.0 hours .* needs 24 .23.0 more"), (DAY - 1, "0.1 more")]
)
def test_less_than_a_day_is_not_forecast(points: int, said: str) -> None:
    """The refusal says how much history there is and how much the next rung needs."""
    with pytest.raises(TooShortError, match=said):
        learn(as_series(a_load(2)[:points]), HOUR, 0.9)


@pytest.mark.parametrize(
    ("days", "rung"),
    [(1, Rung.TREND), (2, Rung.DAY), (3, Rung.DAY), (7, Rung.DAY), (10, Rung.DAY), (15, Rung.WEEK)],
)
def test_history_climbs_the_ladder(days: int, rung: Rung) -> None:
    """A day gives a trend, two days the day's season, two weeks the week's; it is told."""
    series = as_series(a_load(days, seed=3))
    forecaster = SeriesForecaster(HOUR)
    forecaster.refit(series)
    assert forecaster.refresh(series).rung is rung
    assert SeriesForecaster.from_state(forecaster.to_state()).refresh(series).rung is rung


def test_people_are_told_of_the_next_rung() -> None:
    """What more history brings is one sentence at every age."""
    assert "trend needs 1" in next_rung(HOUR, DAY)
    assert "day needs 2" in next_rung(DAY, DAY)
    assert "week needs 14" in next_rung(5 * DAY, DAY)
    assert "every rung" in next_rung(14 * DAY, DAY)


def test_the_bands_of_the_first_day_are_honest() -> None:
    """Of loads a day old each quantile covers at least its share of the day that follows."""
    for quantile in QUANTILES[1:]:
        covered = []
        for seed in SEEDS:
            values = a_load(2, seed=seed, weekly=False)
            forecaster = SeriesForecaster(HOUR)
            forecaster.refit(as_series(values[:DAY]))
            for origin in range(DAY, 2 * DAY - HOUR, 12):
                path = forecaster.refresh(as_series(values[:origin])).quantiles[quantile]
                covered += (values[origin : origin + HOUR] <= np.asarray(path)).tolist()
        assert np.mean(covered) >= quantile


def test_a_band_of_the_first_day_widens_with_reach() -> None:
    """What is farther ahead is never surer, even where one day could not judge it."""
    learned = learn(as_series(a_load(1, seed=2)), DAY, 0.9)
    highest = [table[-1] for table in learned.residuals]
    assert highest == sorted(highest)
    assert highest[-1] > 3 * highest[0]


@pytest.mark.parametrize("days", [2, 3, 8, 15])
def test_a_day_that_repeats_is_found(days: int) -> None:
    """Loads with a daily wave show the day's season from two cycles on."""
    for seed in SEEDS:
        found = seasons(as_series(a_load(days, seed, weekly=False)))
        assert found.day.shown, (seed, found)
        assert found.day.strength > 0.5


def test_a_week_is_shown_by_two_of_them() -> None:
    """Quiet weekends are a season after two weeks, and not known before."""
    for seed in SEEDS:
        assert seasons(as_series(a_load(14, seed))).week.shown
        week = seasons(as_series(a_load(13, seed))).week
        assert not week.known
        assert not week.absent


@pytest.mark.parametrize("days", [2, 4, 15])
def test_what_wanders_has_no_season(days: int) -> None:
    """Of 60 random walks no more show a day or week than chance allows."""
    found = [seasons(as_series(_wandering(days, seed))) for seed in range(60)]
    # The 99 % quantile of 60 draws at one in twenty is eight.
    assert sum(one.day.shown for one in found) <= 8
    assert sum(one.week.shown for one in found) <= 8


def test_a_flat_or_masked_load_shows_nothing() -> None:
    """No variance and no taught point are no evidence, and no error."""
    flat = as_series(np.full(5 * DAY, 3.0))
    assert seasons(flat).day.absent
    masked = as_series(a_load(5)).masked([(0.0, 1e9)])
    assert seasons(masked).day.absent
    assert learn(flat, HOUR, 0.9).rung is Rung.TREND


def test_a_masked_outage_hides_no_season() -> None:
    """A day of outage that teaches nothing does not take the day's season away."""
    values = a_load(4, seed=5, weekly=False)
    values[DAY + 40 : DAY + 200] = 0.0
    series = as_series(values).masked([((DAY + 40) * 300.0, (DAY + 199) * 300.0)])
    assert seasons(series).day.shown


def test_a_load_without_season_does_not_suffer() -> None:
    """On random walks the forecast is as good as the last value, and no model of a day is heard."""
    for seed in range(4):
        series = as_series(_wandering(5, seed + 100))
        assert seasons(series).day.absent, seed
        learned = learn(series, HOUR, 0.9)
        assert learned.rung is Rung.TREND
        assert learned.yardstick == "naive"
        assert learned.skill > -0.05
        heard = {name for bucket in learned.weights for name in bucket}
        assert heard <= {"naive", "smoothed", "damped_trend", "usual", "ridge_lags"}


def test_a_load_without_week_is_heard_by_no_model_of_it() -> None:
    """Two weeks of equal days leave out what would repeat last week's noise."""
    learned = learn(as_series(a_load(15, seed=7, weekly=False)), DAY, 0.9)
    assert learned.rung is Rung.DAY
    heard = {name for bucket in learned.losses for name in bucket}
    assert not {name for name in heard if "week" in name}
    assert {"profile_day", "ridge_day"} <= heard
