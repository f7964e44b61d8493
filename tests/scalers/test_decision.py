"""The decision: never less than the demand of now, never above the caps, never without a why."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalers.decision import ActiveFloor, Past, Predicted, Rule, Situation, decide
from scalers.policy import Caps, Mode, Prediction, ScalingPolicy, Workload
from scalers.ports import Reason, Refused

POLICY = ScalingPolicy(
    name="web",
    workload=Workload("shop", "Deployment", "web"),
    query="sum(rate(http_requests_total[2m]))",
    capacity=100.0,
    min_replicas=2,
    max_replicas=50,
    metric="web_demand",
    mode=Mode.ACTIVE,
    utilisation=0.5,
    prediction=Prediction(),
)
#: One replica carries 50 of planned demand.
NOW = Situation(
    now=1000.0, demand=500.0, demand_at=990.0, capacity=100.0, current_replicas=10,
    recent_max=2000.0,
)  # fmt: skip
GONE = Refused(Reason.STALE, "web_demand is 400 s old")

demands = st.floats(0, 1e6)
situations = st.builds(
    Situation,
    now=st.just(1000.0),
    demand=demands | st.just(GONE),
    demand_at=st.just(990.0),
    capacity=st.floats(0.1, 1e4),
    current_replicas=st.none() | st.integers(0, 200),
    predicted=st.none() | st.builds(Predicted, demands, st.booleans()),
    recent_max=st.none() | demands,
    floors=st.lists(st.builds(ActiveFloor, st.just("sale"), st.integers(1, 60)), max_size=2).map(
        tuple
    ),
    frozen=st.sampled_from(["", "a rollout"]),
    paused=st.sampled_from(["", "release day"]),
    last=st.none() | st.builds(Past, demands, st.floats(0, 1000)),
)
policies = st.builds(
    lambda mode, caps: replace(POLICY, mode=mode, caps=caps),
    st.sampled_from(Mode),
    st.builds(
        Caps,
        quota_replicas=st.none() | st.integers(1, 80),
        cost_per_hour=st.none() | st.floats(0.1, 100),
        replica_cost_per_hour=st.none() | st.floats(0.01, 10),
    ),
)


def rules(situation: Situation, policy: ScalingPolicy = POLICY) -> list[Rule]:
    return [step.rule for step in decide(policy, situation).trace]


@given(policies, situations)
def test_the_demand_of_now_is_never_held_back(policy: ScalingPolicy, at: Situation) -> None:
    """Whatever forecasts, caps, calendars and switches say, the present demand is served whole."""
    told = decide(policy, at)
    if not isinstance(at.demand, Refused):
        assert not isinstance(told.value, Refused)
        assert told.value >= at.demand


@given(policies, situations)
def test_a_forecast_stays_within_every_cap(policy: ScalingPolicy, at: Situation) -> None:
    """What goes beyond demand, calendar and a freeze is at most what each cap allows."""
    told = decide(policy, at)
    if isinstance(at.demand, Refused) or isinstance(told.value, Refused):
        return
    per_replica = at.capacity * policy.utilisation
    others = [at.demand, *(floor.replicas * per_replica for floor in at.floors)]
    if at.frozen and at.last is not None:
        others.append(at.last.value)
    if told.value > max(others):
        assert at.predicted is not None
        assert told.value <= at.predicted.value
        assert told.value <= policy.max_replicas * per_replica
        if at.recent_max is not None:
            assert told.value <= at.recent_max * policy.caps.over_recent_max
        if (most := policy.caps.affordable()) is not None:
            assert told.value <= most * per_replica
        if policy.caps.quota_replicas is not None:
            assert told.value <= policy.caps.quota_replicas * per_replica


@given(policies, situations)
def test_missing_demand_never_becomes_less(policy: ScalingPolicy, at: Situation) -> None:
    """Without demand the last good value is held at least, or nothing is served and all stays."""
    told = decide(policy, replace(at, demand=GONE))
    if isinstance(told.value, Refused):
        assert told.replicas is None
        assert not told.changes
    else:
        assert at.last is not None
        assert told.value >= at.last.value


@given(policies, situations)
def test_the_trace_leads_from_the_demand_to_what_is_served(
    policy: ScalingPolicy, at: Situation
) -> None:
    """Each step begins where the one before ended, and the last one is the answer."""
    told = decide(policy, at)
    assert told.trace
    if isinstance(told.value, Refused):
        return
    for before, after in zip(told.trace, told.trace[1:], strict=False):
        assert before.after == after.before
    assert told.trace[-1].after == told.value
    assert all(step.because for step in told.trace)


@given(policies, situations, st.sampled_from(["paused", "frozen"]))
def test_switched_off_nothing_is_foreseen(
    policy: ScalingPolicy, at: Situation, switch: str
) -> None:
    """Paused or frozen, a forecast changes nothing at all."""
    with_it = replace(at, **{switch: "because"})
    assert decide(policy, with_it).value == decide(policy, replace(with_it, predicted=None)).value


@given(situations)
def test_shadow_mode_serves_what_no_forecast_would(at: Situation) -> None:
    """In shadow mode a forecast is told beside what is served, and changes none of it."""
    shadow = replace(POLICY, mode=Mode.SHADOW)
    assert decide(shadow, at).value == decide(shadow, replace(at, predicted=None)).value


@given(situations, demands)
def test_more_demand_never_serves_less(at: Situation, more: float) -> None:
    """The served value does not fall when the demand of now rises."""
    if isinstance(at.demand, Refused):
        return
    least, most = decide(POLICY, at).value, decide(POLICY, replace(at, demand=at.demand + more))
    assert not isinstance(least, Refused)
    assert not isinstance(most.value, Refused)
    assert most.value >= least


@pytest.mark.parametrize(
    ("change", "served", "expected"),
    [
        ({}, 500.0, [Rule.REACTIVE, Rule.NO_FORECAST]),
        ({"predicted": Predicted(800.0)}, 800.0, [Rule.REACTIVE, Rule.PREDICTED]),
        ({"predicted": Predicted(400.0)}, 500.0, [Rule.REACTIVE, Rule.PREDICTED]),
        ({"predicted": Predicted(800.0, degraded=True)}, 500.0, [Rule.REACTIVE, Rule.DEGRADED]),
        ({"predicted": Predicted(9e9)}, 1000.0,
         [Rule.REACTIVE, Rule.PREDICTED, Rule.RECENT_MAX, Rule.STEP]),
        ({"predicted": Predicted(9e9), "recent_max": None, "current_replicas": None}, 2500.0,
         [Rule.REACTIVE, Rule.PREDICTED, Rule.MAXIMUM]),
        ({"predicted": Predicted(800.0), "paused": "release day"}, 500.0,
         [Rule.REACTIVE, Rule.PAUSED]),
        ({"predicted": Predicted(800.0), "frozen": "a rollout"}, 500.0,
         [Rule.REACTIVE, Rule.FROZEN]),
        ({"floors": (ActiveFloor("sale", 20),)}, 1000.0,
         [Rule.REACTIVE, Rule.NO_FORECAST, Rule.FLOOR]),
        ({"frozen": "a rollout", "last": Past(700.0, 900.0)}, 700.0,
         [Rule.REACTIVE, Rule.FROZEN, Rule.FROZEN]),
        ({"demand": GONE, "last": Past(700.0, 900.0)}, 700.0, [Rule.HELD, Rule.NO_FORECAST]),
        ({"demand": GONE, "last": Past(700.0, 99.0)}, GONE, [Rule.MISSING]),
        ({"demand": GONE}, GONE, [Rule.MISSING]),
    ],
)  # fmt: skip
def test_each_rule_says_so(change: dict[str, object], served: object, expected: list[Rule]) -> None:
    """Every rule appears by its name, with the value it leads to."""
    situation = replace(NOW, **change)  # type: ignore[arg-type]
    assert decide(POLICY, situation).value == served
    assert rules(situation) == expected


def test_no_change_is_an_answer() -> None:
    """Within the HPA's tolerance the number stays, and the decision says that nothing changes."""
    told = decide(POLICY, replace(NOW, demand=540.0))
    assert (told.replicas, told.changes) == (10, False)
    told = decide(POLICY, replace(NOW, demand=560.0))
    assert (told.replicas, told.changes) == (12, True)
    assert "demand is 560" in told.why()
