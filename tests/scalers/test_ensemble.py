"""Choosing models by backtest, and saying how sure one is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalers.forecast.calibration import Calibration
from scalers.forecast.ensemble import LEVELS, OURS, combine, learn, pinball, predict
from scalers.forecast.pool import YARDSTICK
from scalers.forecast.service import QUANTILES, REFIT_SECONDS, SeriesForecaster
from tests.scalers.loads import DAY, a_load, as_series


def test_the_weighted_median_is_between_its_members() -> None:
    """More than half the weight decides; two equal halves meet in the middle."""
    paths = {"a": np.array([1.0]), "b": np.array([2.0]), "c": np.array([9.0])}
    assert combine(paths, {"a": 0.2, "b": 0.2, "c": 0.6})[0] == 9.0
    assert combine(paths, {"a": 0.3, "b": 0.4, "c": 0.3})[0] == 2.0
    assert combine(paths, {"a": 0.5, "b": 0.5})[0] == 1.5


def test_the_chosen_are_the_best_of_the_backtest() -> None:
    """Weights are of the models with the least loss in each bucket and sum to one."""
    learned = learn(as_series(a_load(14, seed=3)), DAY, 0.9)
    for weights, losses in zip(learned.weights, learned.losses, strict=True):
        assert sum(weights.values()) == pytest.approx(1.0)
        models = sorted((loss, name) for name, loss in losses.items() if name != OURS)
        assert set(weights) == {name for _, name in models[: len(weights)]}
        assert losses[OURS] <= 1.1 * models[0][0]
    assert learned.skill > 0.2


def test_an_outage_does_not_judge() -> None:
    """Masked hours count neither for nor against a model."""
    values = a_load(10, seed=4)
    broken = values.copy()
    broken[-DAY : -DAY + 60] *= 3.0
    at = (10 * DAY - DAY) * 300.0
    masked = as_series(broken).masked([(at, at + 59 * 300.0)])
    plain = learn(as_series(broken), 12, 0.9).losses[0][YARDSTICK]
    spared = learn(masked, 12, 0.9).losses[0][YARDSTICK]
    assert spared < 0.7 * plain


def test_members_stay_unless_others_are_clearly_better() -> None:
    """A slightly different backtest does not change who is heard."""
    values = a_load(13, seed=5)
    first = learn(as_series(values[:-72]), 12, 0.9)
    second = learn(as_series(values), 12, 0.9, before=first)
    for weights, losses, old in zip(second.weights, second.losses, first.weights, strict=True):
        if set(weights) != set(old):
            assert losses[OURS] > 0.0


@given(st.lists(st.floats(-100, 100), min_size=30, max_size=200), st.floats(0.05, 0.95))
def test_the_quantile_has_the_least_pinball_loss(values: list[float], quantile: float) -> None:
    """No other constant has a lower pinball loss than the empirical quantile."""
    cells = np.array(values)
    best = pinball(cells - np.quantile(cells, quantile, method="inverted_cdf"), quantile)
    for other in (cells.min(), cells.mean(), cells.max()):
        assert best <= pinball(cells - other, quantile) + 1e-9


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.8, 0.9, 0.95]))
def test_calibration_repairs_a_biased_margin(seed: int, quantile: float) -> None:
    """Residuals twice as large as remembered are covered as promised in the long run."""
    dice = np.random.default_rng(seed)
    table = np.quantile(dice.normal(0.0, 1.0, 4000), LEVELS).tolist()
    calibration = Calibration()
    columns = np.zeros(1, dtype=np.int64)
    covered = []
    for _ in range(3000):
        margin = calibration.margins([table], columns, quantile)[0]
        covered.append(bool(dice.normal(0.0, 2.0) <= margin))
        calibration.outcome(0, quantile, covered=covered[-1])
    assert np.mean(covered[1000:]) == pytest.approx(quantile, abs=0.03)


def test_quantiles_are_ordered_and_never_negative() -> None:
    """A higher quantile is never below a lower one, at any step."""
    series = as_series(a_load(9, seed=6, noise=0.5))
    forecaster = SeriesForecaster(36)
    forecaster.refit(series)
    forecast = forecaster.refresh(series)
    paths = np.array([forecast.quantiles[quantile] for quantile in QUANTILES])
    assert (np.diff(paths, axis=0) >= 0).all()
    assert (paths >= 0).all()
    assert forecast.highest(0.9, 1.0) == forecast.quantiles[0.9][0]
    assert forecast.highest(0.9, 3600.0) == max(forecast.quantiles[0.9][:12])


def test_a_restart_forgets_nothing() -> None:
    """State read back gives the same forecast and judges the same pending ones."""
    values = a_load(9, seed=7)
    forecaster = SeriesForecaster(24)
    forecaster.refit(as_series(values[:-12]))
    for left in range(12, 0, -1):
        forecaster.refresh(as_series(values[:-left]))
    again = SeriesForecaster.from_state(forecaster.to_state())
    assert again.refresh(as_series(values)) == forecaster.refresh(as_series(values))
    assert again.calibration == forecaster.calibration
    assert forecaster.calibration.levels
    with pytest.raises(ValueError, match="not the state of a forecaster"):
        SeriesForecaster.from_state(b"{}")


def test_a_refit_is_due_after_six_hours() -> None:
    """The choice is used for six hours of new points, then made again."""
    values = a_load(9, seed=8)
    forecaster = SeriesForecaster(12)
    series = as_series(values[:-72])
    assert forecaster.due(series)
    forecaster.refit(series)
    assert not forecaster.due(as_series(values[:-1]))
    assert forecaster.due(as_series(values))
    assert REFIT_SECONDS == 72 * 300.0


def test_a_forecast_from_the_end_is_one_of_many_origins() -> None:
    """Predicting from the end is predicting from the last origin."""
    series = as_series(a_load(8, seed=9))
    learned = learn(series, 12, 0.9)
    assert (
        predict(learned, series)[0].tolist() == predict(learned, series, [len(series)])[0].tolist()
    )
