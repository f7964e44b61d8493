"""Pacing and budgets: slower as more is bad, never past what is granted."""

from hypothesis import given
from hypothesis import strategies as st

from healer.domain.budget import Bucket, Short, Spend, level, take
from healer.domain.playbook import Guards, Rate, Scope
from healer.domain.storm import Flow, allowance, is_storm
from healer.domain.target import DomainHealth
from healer.testing.clock import START

GUARDS = Guards()


def test_two_of_three_pods_are_no_storm_and_six_of_nine_are() -> None:
    """A storm needs both a share and a number."""
    assert not is_storm(DomainHealth("a", 3, 2), GUARDS)
    assert is_storm(DomainHealth("a", 9, 6), GUARDS)


@given(st.integers(1, 200), st.data())
def test_the_pace_never_rises_as_more_is_bad(total: int, data: st.DataObject) -> None:
    """More bad pods never allow more runs, and a storm allows none."""
    bad = data.draw(st.integers(0, total))
    more = data.draw(st.integers(bad, total))
    flight = data.draw(st.integers(0, 5))
    calm = allowance(DomainHealth("a", total, bad), flight, GUARDS, Flow())
    worse = allowance(DomainHealth("a", total, more), flight, GUARDS, Flow())
    assert worse <= calm <= GUARDS.max_in_flight
    assert (worse == 0) == is_storm(DomainHealth("a", total, more), GUARDS)


def test_the_ramp_after_a_hold_is_one_two_four() -> None:
    """Each recovery doubles the pace until the calm one is reached."""
    calm = DomainHealth("a", 100, 2)
    paces = [allowance(calm, 0, GUARDS, Flow(START, n)) for n in range(4)]
    assert paces == [1, 2, 4, 4]


@given(
    st.lists(st.tuples(st.floats(0, 500), st.integers(1, 3)), min_size=1, max_size=60),
    st.integers(1, 5),
)
def test_a_bucket_never_pays_more_than_it_was_granted(
    demands: list[tuple[float, int]], count: int
) -> None:
    """Over any time the sum paid is at most the bucket plus what flowed in."""
    rate = Rate(count, 1000.0)
    bucket: Bucket | None = None
    now, paid = START, 0
    for wait, cost in demands:
        now += wait
        result = take(bucket, Spend("zone/a", Scope.ZONE, cost, rate), now)
        if isinstance(result, Short):
            assert result.until > now
            continue
        bucket, paid = result, paid + cost
    assert paid <= count + (now - START) * count / rate.per_seconds + 1e-6


def test_a_clock_that_goes_back_refills_nothing() -> None:
    """Time running backwards adds no tokens."""
    assert level(Bucket(1.0, START), Rate(5, 10.0), START - 3600) == 1.0
