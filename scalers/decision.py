"""How much demand to tell the HPA: `max(reactive, predicted)`, within caps, every step explained.

Pure: a situation goes in, a decision comes out. A forecast can only add to the demand of now, never
take from it; what is missing is never zero; and whatever changed the number is in the trace.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from scalers.policy import Mode, ScalingPolicy
from scalers.ports import Refused

#: The HPA does not move while its ratio is this near to one; its default tolerance.
TOLERANCE = 0.1
#: What ceil() may be wrong by when a product of floats should be whole.
_WHOLE = 1e-9


class Rule(StrEnum):
    """What changed the number, or kept it."""

    REACTIVE = "Reactive"  #: the demand of now
    HELD = "HeldLastGood"  #: the demand of now is missing; the last good one stands in
    MISSING = "DemandMissing"  #: … for too long: nothing is served, and the HPA stays where it is
    PREDICTED = "Predicted"
    SHADOW = "ShadowMode"  #: what was predicted is shown and not served
    NO_FORECAST = "NoForecast"
    DEGRADED = "ForecastDegraded"  #: it is worse than yesterday's load
    PAUSED = "Paused"
    FROZEN = "Frozen"  #: an incident or a rollout: prediction rests, and nothing is scaled down
    RECENT_MAX = "CappedByRecentMax"
    STEP = "CappedByStep"
    QUOTA = "CappedByQuota"
    COST = "CappedByCost"
    MAXIMUM = "CappedByMaxReplicas"
    FLOOR = "CalendarFloor"


@dataclass(frozen=True, slots=True)
class Step:
    """One link of the trace: `after` is the next link's `before`."""

    rule: Rule
    before: float
    after: float
    because: str


@dataclass(frozen=True, slots=True)
class Predicted:
    """The highest demand within the horizon, at the policy's quantile."""

    value: float
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Past:
    """What was served last."""

    value: float
    at: float  #: Unix seconds; of the demand behind it


@dataclass(frozen=True, slots=True)
class ActiveFloor:
    """A calendar's floor that holds now."""

    name: str
    replicas: int


@dataclass(frozen=True, slots=True)
class Situation:
    """All that is known at one moment. Demand is in the policy's unit, the workload's total."""

    now: float  #: Unix seconds
    demand: float | Refused
    demand_at: float  #: when it was so; Unix seconds
    capacity: float  #: demand that one replica carries; above zero
    current_replicas: int | None  #: None: nobody could say
    predicted: Predicted | None = None
    recent_max: float | None = None  #: highest demand of the last days; None: too young
    floors: tuple[ActiveFloor, ...] = ()
    frozen: str = ""  #: why prediction rests and nothing shrinks; empty: it does not
    paused: str = ""  #: the kill switch's reason; empty: it is off
    last: Past | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is served, what it means in replicas, and why."""

    value: float | Refused  #: total demand for an HPA target of type AverageValue
    at: float  #: when the demand behind it was so; Unix seconds
    replicas: int | None  #: what the HPA makes of it within min and max; None: it stays
    changes: bool  #: whether that is another number than there are now
    would: float | None  #: what would be served with prediction active; None: no forecast
    trace: tuple[Step, ...]

    def why(self) -> str:
        """One line for people."""
        return "; ".join(step.because for step in self.trace)


def decide(policy: ScalingPolicy, situation: Situation) -> Decision:
    """The demand to serve now."""
    per_replica = situation.capacity * policy.utilisation
    trace: list[Step] = []
    reactive, at = _demand_of_now(policy, situation, trace)
    if isinstance(reactive, Refused):
        return Decision(reactive, at, None, changes=False, would=None, trace=tuple(trace))

    value = reactive
    would: float | None = None
    resting = _why_it_rests(situation)
    if resting is not None:
        rule, because = resting
        trace.append(Step(rule, value, value, because))
    elif situation.predicted is not None:
        foreseen: list[Step] = []
        would = _foreseen(policy, situation, per_replica, reactive, foreseen)
        if policy.mode is Mode.ACTIVE:
            trace += foreseen
            value = would
        else:
            because = f"shadow mode: {would:.6g} would be served"
            trace.append(Step(Rule.SHADOW, value, value, because))
    value = _raised(situation, per_replica, value, trace)
    return _told(policy, situation, per_replica, value, at, would, trace)


def _demand_of_now(
    policy: ScalingPolicy, situation: Situation, trace: list[Step]
) -> tuple[float | Refused, float]:
    demand, last = situation.demand, situation.last
    if not isinstance(demand, Refused):
        trace.append(Step(Rule.REACTIVE, demand, demand, f"demand is {demand:.6g}"))
        return demand, situation.demand_at
    if last is not None and situation.now - last.at <= policy.hold_seconds:
        age = situation.now - last.at
        because = f"{demand.message}; the last good value, {age:.0f} s old, stands in"
        trace.append(Step(Rule.HELD, last.value, last.value, because))
        return last.value, last.at
    trace.append(Step(Rule.MISSING, math.nan, math.nan, f"{demand.message}; nothing is served"))
    return demand, situation.demand_at


def _why_it_rests(situation: Situation) -> tuple[Rule, str] | None:
    """Why no forecast is looked at now."""
    if situation.paused:
        return Rule.PAUSED, f"paused: {situation.paused}"
    if situation.frozen:
        return Rule.FROZEN, f"prediction rests: {situation.frozen}"
    if isinstance(situation.demand, Refused):
        return Rule.NO_FORECAST, "no forecast without demand to begin from"
    if situation.predicted is None:
        return Rule.NO_FORECAST, "there is no forecast"
    if situation.predicted.degraded:
        return Rule.DEGRADED, "the forecast has been worse than yesterday's load"
    return None


def _foreseen(
    policy: ScalingPolicy,
    situation: Situation,
    per_replica: float,
    reactive: float,
    trace: list[Step],
) -> float:
    """The demand of now, or as much more of the forecast as the caps let through."""
    predicted = situation.predicted
    if predicted is None or predicted.value <= reactive:
        trace.append(Step(Rule.PREDICTED, reactive, reactive, "the forecast asks for no more"))
        return reactive
    because = f"{predicted.value:.6g} is foreseen"
    trace.append(Step(Rule.PREDICTED, reactive, predicted.value, because))
    value = predicted.value
    for rule, limit, said in _limits(policy, situation, per_replica):
        # A cap holds back what is foreseen, never what is there.
        capped = min(value, max(limit, reactive))
        if capped < value:
            trace.append(Step(rule, value, capped, said))
            value = capped
    return value


def _limits(
    policy: ScalingPolicy, situation: Situation, per_replica: float
) -> list[tuple[Rule, float, str]]:
    """Every cap that applies: rule, highest demand, and why."""
    caps, current = policy.caps, situation.current_replicas
    limits: list[tuple[Rule, float, str]] = []
    if situation.recent_max is not None:
        most = situation.recent_max * caps.over_recent_max
        said = (
            f"at most {caps.over_recent_max:g} times the recent maximum {situation.recent_max:.6g}"
        )
        limits.append((Rule.RECENT_MAX, most, said))
    if current is not None:
        replicas = max(math.floor(current * caps.step_ratio), current + caps.step_replicas)
        limits.append((Rule.STEP, replicas * per_replica, f"at most {replicas} replicas next"))
    for rule, most_replicas, whose in (
        (Rule.QUOTA, caps.quota_replicas, "the quota"),
        (Rule.COST, caps.affordable(), "the cost limit"),
        (Rule.MAXIMUM, policy.max_replicas, "maxReplicas"),
    ):
        if most_replicas is not None:
            said = f"{whose} allows {most_replicas} replicas"
            limits.append((rule, most_replicas * per_replica, said))
    return limits


def _raised(situation: Situation, per_replica: float, value: float, trace: list[Step]) -> float:
    """Not below the calendar; and not below what was served last while things are frozen."""
    for floor in situation.floors:
        least = floor.replicas * per_replica
        if least > value:
            because = f"calendar {floor.name}: at least {floor.replicas} replicas"
            trace.append(Step(Rule.FLOOR, value, least, because))
            value = least
    if situation.frozen and situation.last is not None and situation.last.value > value:
        because = f"nothing shrinks: {situation.frozen}"
        trace.append(Step(Rule.FROZEN, value, situation.last.value, because))
        value = situation.last.value
    return value


def _told(
    policy: ScalingPolicy,
    situation: Situation,
    per_replica: float,
    value: float,
    at: float,
    would: float | None,
    trace: list[Step],
) -> Decision:
    current = situation.current_replicas
    wish = math.ceil(value / per_replica - _WHOLE)
    if current and abs(value / (current * per_replica) - 1) <= TOLERANCE:
        wish = current
    replicas = min(max(wish, policy.min_replicas), policy.max_replicas)
    changes = current is not None and replicas != current
    return Decision(value, at, replicas, changes=changes, would=would, trace=tuple(trace))
