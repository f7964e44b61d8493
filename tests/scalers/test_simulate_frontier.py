"""Foresight knows nothing of the future, and the frontier recommends what its points say."""

import numpy as np
import pytest

from scalers.forecast.simple import SeasonalNaive
from scalers.series import Series
from scalers.simulate.demand import Demand, demand
from scalers.simulate.foresight import CAP, foresee, foresee_alone, steps_for
from scalers.simulate.frontier import (
    Kind,
    Point,
    at_pod_hours,
    frontier,
    metric_rows,
    recommend,
    totals,
)
from scalers.simulate.plant import Outcome, Workload
from tests.scalers.loads import a_load, as_series

DAY = 86400.0


def a_demand(days: int = 4, seed: int = 1) -> Demand:
    """A load that rises by half within an hour each morning, sampled each five minutes."""
    values = a_load(days, seed, noise=0.01, weekly=False)
    return demand([(300.0 * index, float(value)) for index, value in enumerate(values)])


def test_foresight_does_not_know_the_future() -> None:
    """Whatever comes after a refresh, the forecast made then is the same."""
    values = a_load(4, 2)
    other = values.copy()
    other[3 * 288 + 20 :] *= 5.0
    first = 3 * DAY
    one = foresee(as_series(values), first, 4)
    two = foresee(as_series(other), first, 4)
    same = one.paths[0.9][:21]
    assert np.isfinite(same).all()
    assert np.array_equal(same, two.paths[0.9][:21])
    assert not np.array_equal(one.paths[0.9][21:], two.paths[0.9][21:])


def test_without_history_there_is_no_forecast() -> None:
    """In its first day a load is scaled by the reactive metric alone."""
    load = a_demand()
    _, values, rows = metric_rows(load, Workload(3.0), load.start, peaks=[False])
    day = slice(0, 5760)
    predicted, reactive = rows[Kind("forecast", 0.9)], rows[Kind("reactive")]
    assert np.array_equal(predicted[day], reactive[day], equal_nan=True)
    assert (predicted[-5760:] > reactive[-5760:]).mean() > 0.5
    assert len(values) == len(predicted)


def test_the_metric_reads_the_forecast_until_the_lead_is_over() -> None:
    """At a sync four minutes after a refresh, 330 s ahead reach into the second cell."""
    seen = foresee_alone(SeasonalNaive("day", 1), as_series(np.arange(288.0 * 3)), 2 * DAY, 4)
    metric = seen.metric(0.5, 2 * DAY, 21, 330.0)
    assert metric[0] == 289.0  # cells of yesterday 288 and 289
    assert metric[16] == 289.0  # 240 s + 330 s = 570 s
    assert metric[18] == 290.0  # 270 s + 330 s = 600 s
    assert metric[20] == 290.0  # the next refresh: one further
    assert steps_for(330.0, 300.0) == 3


def test_a_forecast_is_capped_by_the_highest_load_of_a_week() -> None:
    """However high a quantile is, it asks for no more than a tenth above what was."""
    values = np.full(288 * 3, 10.0)
    values[::7] = 1000.0
    values[288 * 2 :] = 10.0
    seen = foresee(Series(0.0, values, np.ones(len(values), dtype=bool)), 2.5 * DAY, 4)
    assert np.nanmax(seen.paths[0.95]) <= CAP * 1000.0


def test_the_frontier_pays_on_a_load_that_repeats() -> None:
    """A daily wave is served with fewer violations at no more pod-hours, and the oracle is best."""
    load = a_demand()
    told: list[float] = []
    found = frontier(
        load, Workload(5.0, ready_seconds=600.0), load.end - DAY / 2,
        targets=(0.7, 0.8, 0.9, 1.0), price=0.5, told=told.append,
    )  # fmt: skip
    assert found.better is not None
    assert found.better.outcome.violation_minutes <= found.baseline.outcome.violation_minutes
    assert found.better.outcome.pod_hours <= found.baseline.outcome.pod_hours
    assert found.better.cost == pytest.approx(found.better.outcome.pod_hours * 0.5)
    assert found.traced.pods.shape == (len(found.demand), 2)
    assert found.traced.pods[:, 0].sum() * 15 / 3600 == pytest.approx(
        found.baseline.outcome.pod_hours
    )
    assert told == sorted(told)
    assert told[-1] == 1.0


def a_point(name: str, quantile: float | None, minutes: float, hours: float) -> Point:
    return Point(Kind(name, quantile), 0.7, Outcome(minutes, 0.0, hours, 1, 5))


def test_the_recommended_point_costs_no_more_than_the_baseline() -> None:
    """The fewest violations within the baseline's pod-hours; nothing when none is better."""
    base = a_point("reactive", None, 10.0, 100.0)
    dear, good, cheap = (
        a_point("forecast", 0.9, 1.0, 101.0), a_point("forecast", 0.8, 4.0, 99.0),
        a_point("forecast", 0.5, 9.0, 50.0),
    )  # fmt: skip
    oracle = a_point("oracle", None, 0.0, 90.0)
    assert recommend([base, dear, good, cheap, oracle], base) == good
    assert recommend([base, dear, oracle], base) is None


def test_violations_at_equal_pod_hours_lie_between_two_targets() -> None:
    """By a straight line, and nowhere outside of what was tried."""
    points = [a_point("forecast", 0.9, 10.0, 100.0), a_point("forecast", 0.9, 20.0, 80.0)]
    assert at_pod_hours(points, 90.0) == 15.0
    assert np.isnan(at_pod_hours(points, 79.0))


def test_totals_are_sums() -> None:
    """Two loads under the same policy have the sum of their minutes and hours."""
    (total,) = totals([[a_point("forecast", 0.9, 10.0, 100.0)]] * 2)
    assert (total.outcome.violation_minutes, total.outcome.pod_hours) == (20.0, 200.0)
