"""The autoscaler's arithmetic, held to what its controller's source says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalers.hpa import Hpa, Policy, Reading, Rules, Select, Unit


def a_sync(current: int, value: float | None, target: float = 10.0, **named: int) -> int:
    """One sync of an autoscaler that has looked once, long ago, and could not see."""
    hpa = Hpa(**{"minimum": 1, "maximum": 100, **named})
    hpa.sync(-900.0, current, [Reading(None, target)])
    return hpa.sync(0.0, current, [Reading(value, target)])


@pytest.mark.parametrize(
    ("current", "value", "wanted"),
    [
        (4, 40.0, 4),  # on target
        (4, 43.9, 4),  # within the tolerance of a tenth
        (4, 44.1, 5),
        (4, 36.1, 4),
        (4, 35.0, 4),  # ceil(3.5)
        (4, 30.0, 3),
        (4, 81.0, 8),  # nine are wanted, twice as many are allowed in 15 s
        (1, 1000.0, 5),  # or four more, whichever is more
        (0, 1000.0, 0),  # switched off
        (4, None, 4),  # nothing is known: nothing is done
    ],
)  # fmt: skip
def test_one_sync(current: int, value: float | None, wanted: int) -> None:
    """Ratio, tolerance, rounding up and the default pace."""
    assert a_sync(current, value) == wanted


def test_bounds_hold() -> None:
    """Outside of minimum and maximum the metric is not even asked."""
    assert a_sync(1, None, minimum=3) == 3
    assert a_sync(30, None, maximum=20) == 20
    with pytest.raises(ValueError, match="in order"):
        Hpa(3, 2)


def test_a_fresh_autoscaler_waits_before_it_scales_down() -> None:
    """The replicas it finds at its first look count as wished then, for the whole window."""
    hpa = Hpa(1, 100)
    assert hpa.sync(0.0, 4, [Reading(10.0, 10.0)]) == 4
    assert hpa.sync(285.0, 4, [Reading(10.0, 10.0)]) == 4
    assert hpa.sync(300.0, 4, [Reading(10.0, 10.0)]) == 1


def test_a_missing_metric_forbids_scaling_down_and_not_up() -> None:
    """With one of two metrics missing the other may still ask for more."""
    missing = Reading(None, 10.0)
    hpa = Hpa(1, 100)
    hpa.sync(-900.0, 4, [missing])
    assert hpa.sync(0.0, 4, [Reading(10.0, 10.0), missing]) == 4
    assert Hpa(1, 100).sync(0.0, 4, [Reading(60.0, 10.0), missing]) == 6


def test_the_window_holds_the_highest_wish_of_five_minutes() -> None:
    """Scaling down waits until the last higher wish is five minutes old."""
    hpa = Hpa(1, 100)
    assert hpa.sync(0.0, 6, [Reading(60.0, 10.0)]) == 6
    assert hpa.sync(285.0, 6, [Reading(20.0, 10.0)]) == 6
    assert hpa.sync(300.0, 6, [Reading(20.0, 10.0)]) == 2


def test_a_policy_counts_what_its_period_changed() -> None:
    """One pod a minute is one pod a minute, however often it is asked."""
    slow = Rules((Policy(Unit.PODS, 1, 60.0),))
    hpa = Hpa(1, 100, up=slow)
    current = 2
    for second in range(0, 121, 15):
        current = hpa.sync(float(second), current, [Reading(1000.0, 10.0)])
    assert current == 5  # at 0, 60 and 120 s


def test_a_disabled_direction_stays() -> None:
    """`selectPolicy: Disabled` keeps what there is."""
    hpa = Hpa(1, 100, down=Rules((Policy(Unit.PODS, 9, 15.0),), select=Select.DISABLED))
    assert hpa.sync(0.0, 6, [Reading(10.0, 10.0)]) == 6


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 5000)), min_size=1, max_size=80),
    st.integers(1, 5), st.integers(5, 60),
)  # fmt: skip
def test_it_never_leaves_its_bounds_nor_shrinks_blind(
    values: list[float | None], minimum: int, maximum: int
) -> None:
    """Whatever the metric does, replicas stay within bounds, and without it they stay."""
    hpa = Hpa(minimum, maximum)
    current = minimum
    for index, value in enumerate(values):
        after = hpa.sync(15.0 * index, current, [Reading(value, 10.0)])
        assert minimum <= after <= maximum
        if value is None:
            assert after == current
        current = after


def test_without_behaviour_four_or_double_is_the_most() -> None:
    """An object without `spec.behavior` goes from one to four, where the defaults go to five."""
    reading = [Reading(1000.0, 10.0)]
    assert Hpa(1, 100, written=False).sync(0.0, 1, reading) == 4
    assert Hpa(1, 100, written=False).sync(0.0, 3, reading) == 6
    assert Hpa(1, 100).sync(0.0, 1, reading) == 5
