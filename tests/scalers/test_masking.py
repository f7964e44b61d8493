"""Incidents and rollouts as stretches that must not teach."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalers.masking import WEEK_SECONDS, Disturbance, masking
from tests.scalers.loads import as_series

NOW = 2_000_000.0
HOUR = 3600.0


def test_what_touches_becomes_one_window() -> None:
    """Windows with their margins are merged, in order, and keep every reason once."""
    found = masking(
        [
            Disturbance(NOW - 5 * HOUR, NOW - 4 * HOUR, "episode B"),
            Disturbance(NOW - 6 * HOUR, NOW - 5 * HOUR - 500, "rollout of web"),
            Disturbance(NOW - 4.5 * HOUR, NOW - 4.2 * HOUR, "episode B"),
            Disturbance(NOW - 2 * HOUR, NOW - HOUR, "episode C"),
        ],
        NOW,
    )
    assert found.spans() == (
        (NOW - 6 * HOUR - 300, NOW - 4 * HOUR + 300),
        (NOW - 2 * HOUR - 300, NOW - HOUR + 300),
    )
    assert [window.why for window in found.windows] == [
        ("rollout of web", "episode B"), ("episode C",),
    ]  # fmt: skip
    assert not found.refused


def test_what_lasts_masks_until_now() -> None:
    """An episode that has not recovered ends now, and nothing is masked beyond now."""
    found = masking([Disturbance(NOW - HOUR, None, "episode A")], NOW, margin=60.0)
    assert found.spans() == ((NOW - HOUR - 60, NOW),)
    assert masking([Disturbance(NOW + HOUR, None, "to come")], NOW).spans() == ()


def test_an_alert_that_always_fires_does_not_blind() -> None:
    """Beyond half of the last week nothing of it is masked, the time before is, and it is said."""
    long = Disturbance(NOW - 1.2 * WEEK_SECONDS, NOW - 0.45 * WEEK_SECONDS, "episode Noisy")
    short = Disturbance(NOW - HOUR, NOW, "rollout of web")
    found = masking([long, short], NOW)
    assert found.spans() == ((long.begin - 300, NOW - WEEK_SECONDS),)
    assert "episode Noisy" in found.refused
    assert "56% of the last week" in found.refused
    half = Disturbance(NOW - WEEK_SECONDS, NOW - 0.5 * WEEK_SECONDS, "episode Half")
    assert not masking([half], NOW, margin=0.0).refused


def test_old_windows_are_left_out() -> None:
    """What ended before the series begins is not carried along."""
    old = Disturbance(NOW - 9 * HOUR, NOW - 8 * HOUR, "episode A")
    assert masking([old], NOW, since=NOW - 7 * HOUR).spans() == ()
    assert masking([old], NOW, since=NOW - 8.5 * HOUR).spans() != ()


@pytest.mark.parametrize(
    ("begin", "end"), [(NOW, NOW - 1), (math.nan, NOW), (NOW, math.nan), (-math.inf, NOW)]
)
def test_a_stretch_that_is_none_is_an_error(begin: float, end: float) -> None:
    """Times that cannot be are refused with the name of what they belong to."""
    with pytest.raises(ValueError, match="episode A"):
        masking([Disturbance(begin, end, "episode A")], NOW)
    with pytest.raises(ValueError, match="margin"):
        masking([], NOW, margin=-1.0)


TIMES = st.tuples(st.integers(0, 3000), st.integers(0, 500)).map(
    lambda pair: Disturbance(
        NOW - pair[0] * 300.0 - pair[1] * 300.0, NOW - pair[0] * 300.0, "episode"
    )
)


@given(st.lists(TIMES, max_size=12))
def test_every_point_of_a_disturbance_is_masked_and_little_else(found: list[Disturbance]) -> None:
    """A point is masked exactly if it is within a margin of a disturbance, or all is refused."""
    made = masking(found, NOW)
    windows = made.spans()
    assert all(a[1] < b[0] for a, b in itertools.pairwise(windows))
    week = NOW - WEEK_SECONDS
    times = NOW - 300.0 * np.arange(4000)[::-1]
    series = as_series(np.ones(4000))
    taught = series.masked([(b - times[0], e - times[0]) for b, e in windows]).taught
    for at, learns in zip(times, taught, strict=True):
        disturbed = any(d.begin - 300 <= at <= (d.end or NOW) + 300 for d in found)
        if made.refused and at > week:
            assert learns
        else:
            assert bool(learns) != disturbed
    masked_week = sum(e - max(b, week) for b, e in windows if e > week)
    assert masked_week <= 0.5 * WEEK_SECONDS + 1e-6
