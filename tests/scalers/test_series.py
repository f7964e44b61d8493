"""The grid that forecasts stand on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalers.series import KEPT_DAYS, Series, on_grid
from tests.scalers.loads import DAY, a_load, as_series


def test_points_are_means_of_their_cells() -> None:
    """Samples of the same five minutes become their mean, at a multiple of the step."""
    series = on_grid([(10.0, 1.0), (290.0, 3.0), (300.0, 5.0)])
    assert series.start == 0.0
    assert series.values.tolist() == [2.0, 5.0]


@given(st.integers(0, 599), st.integers(0, 599))
def test_replicas_make_the_same_grid(first: int, second: int) -> None:
    """Where a replica begins to look does not move the points that two replicas share."""
    samples = [(float(at), float(at % 77)) for at in range(0, 6000, 30)]
    one = on_grid([s for s in samples if s[0] >= first // 300 * 300])
    two = on_grid([s for s in samples if s[0] >= second // 300 * 300])
    shared = min(len(one), len(two))
    assert one.values[-shared:].tolist() == two.values[-shared:].tolist()


def test_what_is_not_finite_was_not_measured() -> None:
    """NaN and infinity are gaps, and nothing at all is an error."""
    series = on_grid([(0.0, 1.0), (300.0, float("nan")), (600.0, float("inf")), (900.0, 4.0)])
    assert series.values.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert series.gaps == 2
    with pytest.raises(ValueError, match="at least one finite sample"):
        on_grid([(0.0, float("nan"))])


def test_the_present_cell_waits_until_it_is_over() -> None:
    """A cell that has not ended is left out: its mean would change."""
    assert len(on_grid([(0.0, 1.0), (310.0, 9.0)], now=599.0)) == 1
    assert len(on_grid([(0.0, 1.0), (310.0, 9.0)], now=600.0)) == 2


def test_long_gaps_are_filled_and_teach_nothing() -> None:
    """Half an hour is bridged by a line; a longer gap is masked."""
    short = on_grid([(0.0, 1.0), (7 * 300.0, 8.0)])
    assert short.taught.all()
    long = on_grid([(0.0, 1.0), (8 * 300.0, 9.0)])
    assert long.taught.tolist() == [True, *[False] * 7, True]


def test_an_outage_is_replaced_by_the_day_before() -> None:
    """What an incident did to the load is not what models learn from."""
    values = a_load(4)
    values[3 * DAY : 3 * DAY + 40] = 0.0
    series = as_series(values).masked([(3 * DAY * 300.0, (3 * DAY + 39) * 300.0)])
    cleaned = series.for_models()
    assert cleaned[3 * DAY : 3 * DAY + 40] == pytest.approx(values[2 * DAY : 2 * DAY + 40], rel=0.2)


def test_a_jump_just_now_is_not_clipped() -> None:
    """The newest half hour counts as measured, however high; an old spike is clipped."""
    values = a_load(8)
    values[-3:] = 10_000.0
    values[-200] = 10_000.0
    cleaned = as_series(values).for_models()
    assert cleaned[-3:].tolist() == [10_000.0] * 3
    assert cleaned[-200] < 10_000.0


@given(st.integers(KEPT_DAYS - 2, 40), st.integers(0, DAY))
def test_trimming_keeps_phases(days: int, more: int) -> None:
    """Whole weeks are dropped: three weeks stay, and a point keeps its place in day and week."""
    values = np.arange(days * DAY + more, dtype=float)
    trimmed = as_series(values).trimmed()
    dropped = len(values) - len(trimmed)
    assert dropped % (7 * DAY) == 0
    assert trimmed.start == dropped * 300.0
    assert len(trimmed) >= min(len(values), KEPT_DAYS * DAY)
    assert len(trimmed) < (KEPT_DAYS + 7) * DAY + 1


def test_a_series_refuses_what_is_not_finite() -> None:
    """NaN never gets into a series."""
    with pytest.raises(ValueError, match="finite"):
        Series(0.0, np.array([1.0, np.nan]), np.array([True, True]))
