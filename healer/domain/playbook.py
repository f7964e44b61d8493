"""A playbook: when, on what, guarded how, which ladder of steps, and who is told if it fails.

This is the model, not the YAML; `healer.playbook_yaml` makes these values and refuses the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from healer.domain.alert import Matcher
from healer.domain.target import Kind


class Mode(StrEnum):
    """How much a playbook may do by itself. Everything starts low and is raised by a person."""

    OBSERVE = "observe"  #: plan, guard, journal and tell; never act
    APPROVE = "approve"  #: act only after a person said yes to this very plan
    AUTO = "auto"  #: act when the guards allow


class TriggerKind(StrEnum):
    """What opens an episode for a playbook."""

    ALERT = "alert"
    QUERY = "query"
    CONDITION = "condition"


@dataclass(frozen=True, slots=True)
class Trigger:
    """What opens an episode. Exactly the fields of its kind are set."""

    kind: TriggerKind
    matchers: tuple[Matcher, ...] = ()  #: ALERT: all must match
    expr: str = ""  #: QUERY: PromQL; every series it returns is one alert
    for_seconds: float = 0.0  #: QUERY, CONDITION: true for this long without a gap
    every_seconds: float = 30.0  #: QUERY: evaluation interval
    condition_kind: Kind | None = None  #: CONDITION: what is watched
    reason: str = ""  #: CONDITION: waiting reason, node condition type, `ProgressDeadlineExceeded`
    namespaces: tuple[str, ...] = ()  #: CONDITION: empty means every watched namespace
    labels: Mapping[str, str] = field(default_factory=dict)  #: QUERY, CONDITION: added labels


@dataclass(frozen=True, slots=True)
class TargetRule:
    """How an episode's labels name one object; `${labels.x}` is filled in and then validated."""

    kind: Kind
    name: str
    namespace: str = ""
    owner: bool = False  #: act on the top controller of the named object instead
    owner_kinds: tuple[Kind, ...] = ()  #: which owners are acceptable; empty means any workload


class Scope(StrEnum):
    """What a budget counts over, from the narrowest to the widest."""

    TARGET = "target"
    OWNER = "owner"
    PLAYBOOK = "playbook"
    ACTION_CLASS = "action_class"
    NAMESPACE = "namespace"
    ZONE = "zone"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: at most `count` disruptions, refilled evenly over `per_seconds`."""

    count: int
    per_seconds: float


#: What holds when a playbook says nothing: missing is strict, never unlimited.
DEFAULT_BUDGETS: Mapping[Scope, Rate] = {
    Scope.TARGET: Rate(2, 3600.0),
    Scope.OWNER: Rate(4, 3600.0),
    Scope.PLAYBOOK: Rate(10, 3600.0),
    Scope.ACTION_CLASS: Rate(20, 3600.0),
    Scope.NAMESPACE: Rate(10, 3600.0),
    Scope.ZONE: Rate(10, 3600.0),
    Scope.CLUSTER: Rate(20, 3600.0),
}


class ConditionLanguage(StrEnum):
    """What an `unless` condition is written in."""

    CEL = "cel"
    PROMQL = "promql"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that forbids acting while it is true, and while it cannot be evaluated."""

    language: ConditionLanguage
    text: str
    because: str = ""  #: what a person is told, e.g. "a backup is running"
    where: Mapping[str, str] = field(default_factory=dict)  #: PROMQL: only series with these labels


@dataclass(frozen=True, slots=True)
class Window:
    """A weekly window in UTC: acting is forbidden (freeze) or only then allowed (maintenance)."""

    days: tuple[int, ...]  #: 0 is Monday
    start_minute: int  #: minutes after midnight
    end_minute: int  #: exclusive; smaller than start means it runs past midnight
    freeze: bool = True
    because: str = ""


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """Acting needs at least `minimum` of the error budget (0 to 1) that `expr` returns."""

    expr: str
    minimum: float


@dataclass(frozen=True, slots=True)
class Guards:
    """What must hold before each step. Every default is the strict one."""

    cooldown_seconds: float = 900.0  #: between two runs of this playbook on one target
    budgets: Mapping[Scope, Rate] = field(default_factory=lambda: dict(DEFAULT_BUDGETS))
    min_healthy_ratio: float = 0.5  #: of the owner's pods, in-flight ones counted unhealthy
    storm_ratio: float = 0.55  #: bad share of a zone or owner at which acting stops
    storm_minimum: int = 3  #: fewer bad pods than this are never a storm
    max_in_flight: int = 4  #: runs acting at the same time in one zone or owner when all is calm
    unless: tuple[Condition, ...] = ()
    windows: tuple[Window, ...] = ()
    error_budget: ErrorBudget | None = None
    max_age_seconds: float = 3600.0  #: older episodes need a fresh firing check and then a person
    approval_ttl_seconds: float = 1800.0
    allow_during_rollout: bool = False
    allow_gitops_managed: bool = False
    allow_hpa_managed: bool = False
    breaker_failures: int = 3  #: bad outcomes in a row that open the breaker
    breaker_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class ProbeRule:
    """One observation with its tolerance; `params` were validated by the probe's own schema."""

    probe: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VerifyRule:
    """How a step proves that it helped."""

    probes: tuple[ProbeRule, ...]
    within_seconds: float | None = None  #: None: derived from the alerting rule's own windows
    every_seconds: float = 5.0
    stable_for_seconds: float = 30.0


class UndoRule(StrEnum):
    """What happens to a step that did not help."""

    NEVER = "never"
    IF_NOT_RECOVERED = "if_not_recovered"


class OnUnknown(StrEnum):
    """What happens when nobody can tell whether a step took effect."""

    ESCALATE = "escalate"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class StepRule:
    """One rung of the ladder."""

    name: str
    action: str
    params: Mapping[str, Any]  #: with `${…}` still in its leaves
    verify: VerifyRule | None = None  #: None: the next rung follows at once
    condition: str = ""  #: CEL; the rung is skipped when it is false
    undo: UndoRule = UndoRule.NEVER
    on_unknown: OnUnknown = OnUnknown.ESCALATE
    timeout_seconds: float = 30.0
    target: TargetRule | None = None  #: another target than the playbook's


@dataclass(frozen=True, slots=True)
class Escalation:
    """Who is told, and how, when the ladder ends without recovery."""

    severity: str = "critical"  #: critical, error, warning or info (PagerDuty Events v2)
    notify: tuple[str, ...] = ()  #: names of configured notifiers; empty means all
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Playbook:
    """One remedy for one kind of trouble."""

    name: str
    summary: str
    trigger: Trigger
    target: TargetRule
    steps: tuple[StepRule, ...]
    guards: Guards = field(default_factory=Guards)
    escalation: Escalation = field(default_factory=Escalation)
    mode: Mode = Mode.APPROVE
    priority: int = 50  #: the highest matching playbook is chosen; a tie is refused
    not_when: str = ""  #: when a person should not use it
    sha256: str = ""  #: of the text it was read from; a run finishes on the text it began with
    source: str = ""  #: file it came from
    text: str = ""  #: the YAML itself, kept in the journal with the first run
