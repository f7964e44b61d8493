"""Every model of the pool: it knows only the past, and each origin is as good as a fresh start."""

import numpy as np
import pytest

from scalers.forecast.contract import Forecaster
from scalers.forecast.pool import EVERY, POOL
from tests.scalers.loads import DAY, a_load

MODELS = pytest.mark.parametrize("model", EVERY, ids=lambda model: model.name)


@MODELS
def test_the_future_is_unknown(model: Forecaster) -> None:
    """What comes after an origin changes nothing that is said at it."""
    values = a_load(12, seed=1)
    learned = model.fit(values[: 10 * DAY], DAY)
    origins = [10 * DAY, 10 * DAY + 7, 11 * DAY]
    other = values.copy()
    other[11 * DAY :] += 1000.0
    one = model.predict(learned, values, origins, 48, DAY)
    two = model.predict(learned, other, origins, 48, DAY)
    assert one.shape == (3, 48)
    assert np.array_equal(one, two)


@MODELS
def test_an_origin_is_as_good_as_the_end(model: Forecaster) -> None:
    """Many origins at once say what the model says at the end of each shorter series."""
    values = a_load(12, seed=2)
    learned = model.fit(values[: 10 * DAY], DAY)
    origins = [10 * DAY + 5, 11 * DAY - 1, 12 * DAY]
    together = model.predict(learned, values, origins, 30, DAY)
    for row, origin in enumerate(origins):
        alone = model.predict(learned, values[:origin], [origin], 30, DAY)
        assert together[row] == pytest.approx(alone[0], abs=1e-9)


@pytest.mark.parametrize("model", POOL[1:], ids=lambda model: model.name)
def test_a_load_that_repeats_is_foreseen(model: Forecaster) -> None:
    """A day that repeats exactly is forecast exactly by all that know of days."""
    values = a_load(16, noise=0.0, weekly=False)
    values = np.tile(values[DAY : 2 * DAY], 16)
    learned = model.fit(values, DAY)
    path = model.predict(learned, values, [len(values)], DAY, DAY)[0]
    error = np.abs(path[:12] - values[:12]).mean() / values.mean()
    assert error < 0.02, error


@MODELS
def test_the_shortest_history_is_enough(model: Forecaster) -> None:
    """A model works with exactly what it says it needs, and on a load that never changes."""
    length = max(model.needs(DAY), DAY)
    flat = np.full(length, 7.0)
    learned = model.fit(flat, DAY)
    path = model.predict(learned, flat, [length], 24, DAY)
    assert path == pytest.approx(np.full((1, 24), 7.0), abs=0.1)
