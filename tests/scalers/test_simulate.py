"""The simulator: its autoscalers are those of `scalers.hpa`, its pods take time, its sums hold."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalers.hpa import (
    DEFAULT_DOWN,
    DEFAULT_UP,
    SYNC_SECONDS,
    Hpa,
    Policy,
    Reading,
    Rules,
    Select,
    Unit,
)
from scalers.simulate.demand import LoadFileError, demand, read_csv
from scalers.simulate.lanes import Lanes
from scalers.simulate.plant import Lane, Workload, run

RULES = st.builds(
    Rules,
    st.lists(
        st.builds(
            Policy, st.sampled_from(Unit), st.integers(1, 150), st.sampled_from([15.0, 40.0, 60.0])
        ),
        min_size=1, max_size=2,
    ).map(tuple),
    st.sampled_from([0.0, 30.0, 100.0, 300.0]),
    st.sampled_from(Select),
    st.sampled_from([0.0, 0.1, 0.25]),
)  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(0, 3000)), min_size=1, max_size=60),
    st.integers(1, 5), st.integers(5, 60), RULES, RULES,
    st.lists(st.floats(0.5, 90.0), min_size=1, max_size=4),
)  # fmt: skip
def test_every_lane_is_an_autoscaler(
    values: list[float | None], minimum: int, maximum: int, up: Rules, down: Rules,
    targets: list[float],
) -> None:  # fmt: skip
    """Sync by sync, whatever the behaviour and whatever is missing, a lane does what Hpa does."""
    single = [Hpa(minimum, maximum, up, down) for _ in targets]
    lanes = Lanes(minimum, maximum, targets, up, down)
    current = np.full(len(targets), minimum)
    for tick, value in enumerate(values):
        now = SYNC_SECONDS * tick
        wanted = [
            hpa.sync(now, int(n), [Reading(value, target)])
            for hpa, n, target in zip(single, current, targets, strict=True)
        ]
        current = lanes.sync(current, np.full(len(targets), np.nan if value is None else value))
        assert current.tolist() == wanted


def a_run(load: list[float], *, ready: float, minimum: int = 1) -> tuple[list[int], list[int]]:
    """Pods and ready pods at each sync, with capacity 10 and target 100 %, scaled by the load."""
    values = np.array(load)
    workload = Workload(10.0, minimum, 50, ready_seconds=ready)
    done = run(workload, values, values[None], [Lane(0, 1.0)], traced=[0])
    return done.pods[:, 0].tolist(), done.ready[:, 0].tolist()


def test_a_pod_serves_when_its_time_to_ready_is_over() -> None:
    """Made at the sync that sees the load, it is ready as many seconds later as was said."""
    pods, ready = a_run([10.0, 40.0, 40.0, 40.0, 40.0], ready=30.0)
    assert pods == [1, 4, 4, 4, 4]
    assert ready == [1, 1, 1, 4, 4]
    assert a_run([10.0, 40.0], ready=0.0)[1] == [1, 4]


def test_who_does_not_serve_yet_goes_first() -> None:
    """Scaling down takes the youngest pods, so the ready ones stay."""
    pods, ready = a_run([20.0, 60.0, *[20.0] * 30], ready=400.0)
    assert pods[1] == 6
    assert pods[-1] == 2
    assert set(ready) == {2}


def test_violations_are_counted_while_load_exceeds_ready_capacity() -> None:
    """Two syncs of 40 with one ready pod of 10 are half a minute, and sixty units unserved."""
    load = np.array([10.0, 40.0, 40.0, 40.0])
    workload = Workload(10.0, 1, 50, ready_seconds=30.0)
    (outcome,) = run(workload, load, load[None], [Lane(0, 1.0)]).outcomes
    assert outcome.violation_minutes == 0.5
    assert outcome.unserved == pytest.approx(60.0 / 130.0)
    assert outcome.pod_hours == pytest.approx((1 + 4 + 4 + 4) * 15 / 3600)
    assert outcome.actions == 1
    assert outcome.highest == 4


def test_nothing_is_judged_and_nothing_scaled_where_nothing_was_measured() -> None:
    """A gap in the load leaves the pods as they are and is no violation."""
    load = np.array([30.0, *[np.nan] * 40])
    workload = Workload(10.0, 1, 50)
    done = run(workload, load, load[None], [Lane(0, 1.0)], traced=[0])
    assert set(done.pods[:, 0].tolist()) == {3}
    assert done.outcomes[0].violation_minutes == 0


@pytest.mark.parametrize("wrong", [{"capacity": 0.0}, {"minimum": 0}, {"minimum": 9, "maximum": 5}])
def test_a_workload_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    """Zero capacity and bounds out of order are named."""
    with pytest.raises(ValueError, match="must be"):
        Workload(**{"capacity": 1.0, **wrong})  # type: ignore[arg-type]


def test_defaults_are_the_autoscalers() -> None:
    """A workload that says nothing has the behaviour that the HPA has by default."""
    assert (Workload(1.0).up, Workload(1.0).down) == (DEFAULT_UP, DEFAULT_DOWN)


def test_a_sample_stands_until_the_next_one_and_a_gap_is_a_gap() -> None:
    """On the grid of 15 s a minute's sample holds four times; ten minutes of nothing are NaN."""
    load = demand([(60.0, 1.0), (120.0, 2.0), (180.0, 3.0), (900.0, 4.0), (960.0, 5.0)])
    assert load.values[:12].tolist() == [1.0] * 4 + [2.0] * 4 + [3.0] * 4
    assert np.isnan(load.values[30])
    assert load.values[-1] == 5.0


def test_the_reactive_metric_knows_only_the_past() -> None:
    """It is the mean of the two minutes that are over, and missing at the very first look."""
    load = demand([(60.0 * i, float(i)) for i in range(6)])
    reactive = load.reactive()
    assert np.isnan(reactive[0])
    assert reactive[8] == 0.5
    assert reactive[16] == 2.5


def test_the_oracle_sees_the_highest_load_until_the_lead_is_over() -> None:
    """At each sync it is the largest of what comes within the lead, the end included."""
    load = demand([(60.0 * i, float(i)) for i in range(6)])
    assert load.ahead(60.0)[:5].tolist() == [1.0, 1.0, 1.0, 1.0, 2.0]


def test_peaks_are_the_highest_sample_of_five_minutes() -> None:
    """Means and peaks of the same load lie on the same grid."""
    load = demand([(60.0 * i, float(i % 5)) for i in range(10)])
    assert load.series(peaks=False).values.tolist() == [2.0, 2.0]
    assert load.series(peaks=True).values.tolist() == [4.0, 4.0]


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("ts,value\n0,1\nyesterday,2\n", ":3:1: 'yesterday'", "give Unix seconds"),
        ("ts,value\n0,1\n60,many\n", ":3:4: 'many'", "leave a gap empty"),
        ("ts,value\n0\n", ":2: one column", "give time,value"),
        ("ts,value\n0,1\n", ": 1 finite samples", "give at least two"),
        ("0,1\n60,-4\n", "negative at 60", "a demand is a rate or a count"),
    ],
)
def test_a_file_that_is_no_load_is_refused(
    tmp_path: Path, text: str, place: str, remedy: str
) -> None:
    """The fault names the file, the line and what to do."""
    path = tmp_path / "load.csv"
    path.write_text(text)
    with pytest.raises(LoadFileError) as caught:
        read_csv(path)
    assert place in str(caught.value)
    assert remedy in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_with_gaps_is_read(tmp_path: Path) -> None:
    """An empty value and NaN are gaps, a header is optional."""
    path = tmp_path / "load.csv"
    path.write_text("time,value\n0,1\n60,\n120,NaN\n180,4\n")
    assert read_csv(path).samples == ((0.0, 1.0), (180.0, 4.0))


def a_wish(current: int, counted: int, usage: float, target: float = 0.5) -> int:
    """What a CPU target asks for, with pods that request one core each."""
    lanes = Lanes(1, 100, [target])
    wish = lanes.wish_of_cpu(np.array([current]), np.array([counted]), np.array([usage]), 1.0)
    return int(wish[0])


@pytest.mark.parametrize(
    ("current", "counted", "usage", "wanted"),
    [
        (4, 4, 0.5, 4),  # on target
        (4, 4, 0.549, 4),  # 54 of 50: within the tolerance, whole percents are compared
        (4, 4, 0.8, 7),  # ceil(1.6 * 4)
        (4, 4, 0.2, 2),
        (8, 4, 0.8, 8),  # four new pods count as idle: 40 of 50 would turn the direction
        (5, 4, 0.8, 7),  # 64 of 50, ceil(1.28 * 5)
        (8, 4, 0.2, 2),  # on the way down the young are left out: ceil(0.4 * 4)
        (8, 4, 0.5, 8),
    ],
)  # fmt: skip
def test_young_pods_count_as_idle_when_cpu_asks_for_more(
    current: int, counted: int, usage: float, wanted: int
) -> None:
    """The arithmetic of GetResourceReplicas, with unready pods and without."""
    assert a_wish(current, counted, usage) == wanted


def test_a_young_pods_cpu_counts_after_a_sample_or_the_period() -> None:
    """Quick pods count one sample after they are ready, slow ones as soon as they are ready."""
    assert Workload(1.0, ready_seconds=30.0).counted_seconds == 90.0
    assert Workload(1.0, ready_seconds=270.0).counted_seconds == 300.0
    assert Workload(1.0, ready_seconds=400.0).counted_seconds == 400.0


def test_cpu_cannot_show_more_load_than_pods_can_serve() -> None:
    """By CPU the HPA sees a tenfold load only as pods that are busy, so it comes up in steps."""
    load = np.array([10.0, *[200.0] * 60])
    workload = Workload(10.0, 1, 50, ready_seconds=60.0)
    done = run(
        workload, load, load[None], [Lane(0, 0.5), Lane(0, 0.5, cpu=True)], traced=[0, 1]
    )  # fmt: skip
    total, cpu = done.outcomes
    assert cpu.violation_minutes > 2 * total.violation_minutes
    assert done.pods[-1].tolist() == [40, 40]


def test_a_lane_with_defaults_is_an_autoscaler_for_hours() -> None:
    """Over a thousand syncs of a load that jumps, windows and paces are those of Hpa."""
    dice = np.random.default_rng(7)
    load = np.repeat(dice.uniform(20.0, 500.0, 60), 20) * dice.uniform(0.8, 1.2, 1200)
    load[dice.random(1200) < 0.05] = np.nan
    hpa, lanes = Hpa(2, 40), Lanes(2, 40, [10.0])
    current = np.array([2])
    for tick, value in enumerate(load.tolist()):
        reading = Reading(None if np.isnan(value) else value, 10.0)
        wanted = hpa.sync(SYNC_SECONDS * tick, int(current[0]), [reading])
        current = lanes.sync(current, np.array([value]))
        assert current.tolist() == [wanted], tick
