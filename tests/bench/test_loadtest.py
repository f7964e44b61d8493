"""The parts of the load test that need no cluster."""

import itertools
import statistics

import pytest

from bench.loadtest.day import DAY, Day, arrivals
from bench.loadtest.judge import Seen, Sent, judge, violated
from bench.loadtest.past import openmetrics


def test_a_day_rises_at_its_opening_and_comes_back() -> None:
    """Each day is quiet before its opening and busy after it, and no two are the same."""
    day = Day(opens=10 * DAY)
    for number in range(5, 11):
        assert day.rate(number * DAY - 1800) < 30
        assert day.rate(number * DAY + 1800) > 70
    assert len({round(day.rate(number * DAY + 1800), 6) for number in range(5, 11)}) == 6


def test_arrivals_follow_the_rate_and_the_seed() -> None:
    """The same seed gives the same moments, as many as the rate says, spread by chance."""
    found = list(arrivals(lambda _: 50.0, 0.0, 400.0, 100.0, 7))
    assert found == list(arrivals(lambda _: 50.0, 0.0, 400.0, 100.0, 7))
    assert len(found) == pytest.approx(20_000, rel=0.05)
    gaps = [b - a for a, b in itertools.pairwise(found)]
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.1)


def test_a_rate_above_the_most_is_refused() -> None:
    """A schedule that would leave out requests is an error and no quieter day."""
    with pytest.raises(ValueError, match="raise `most`"):
        list(arrivals(lambda _: 50.0, 0.0, 10.0, 40.0, 7))


def test_unserved_and_late_seconds_are_violations() -> None:
    """One refusal spoils its second, lateness does beyond the bound at p95, and no second twice."""
    good = [Sent(1.0 + n / 20, 0.2, served=True) for n in range(20)]
    refused = [Sent(2.1, 0.0, served=False), Sent(2.2, 0.0, served=False)]
    late = [Sent(3.0 + n / 20, 1.5, served=True) for n in range(20)]
    assert violated([*good, *refused, *late]) == {2, 3}


def test_pods_are_paid_for_while_they_exist() -> None:
    """Pod-seconds count pods that are not ready, and a scale action is a change of replicas."""
    seen = [Seen(0, 2, 2, 2), Seen(10, 4, 2, 2), Seen(20, 4, 4, 2), Seen(30, 4, 4, 4)]
    found = judge([Sent(1.0, 0.2, served=True)], seen)
    assert (found.pod_seconds, found.scale_actions, found.violation_seconds) == (80.0, 1, 0)


def test_the_past_is_a_counter_that_only_rises() -> None:
    """Each service has the same days behind it, in the form that promtool reads."""
    lines = list(openmetrics(["a", "b"], lambda _: 2.0, 0, 90))
    assert lines[0] == "# TYPE ingress_requests counter\n"
    assert lines[-1] == "# EOF\n"
    assert lines[3] == 'ingress_requests_total{service="a"} 180.000 60\n'
    assert [line.replace('"b"', '"a"') for line in lines[4:7]] == lines[1:4]
