"""The shape of a playbook file: the one model that both the loader and the JSON Schema come from.

Only shape and notation are checked here; what needs the registry or several fields at once is in
`healer.playbook_yaml.checks`, so that all faults of a file can be told together.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StringConstraints
from pydantic.alias_generators import to_camel

from healer.domain.playbook import Mode, OnUnknown, Scope, UndoRule
from healer.domain.target import Kind
from healer.playbook_yaml.scalars import (
    Cel,
    Duration,
    DurationOrAuto,
    Matchers,
    PromQL,
    RateText,
    Ratio,
    TimeOfDay,
)

API_VERSION = "healer.dev/v1alpha1"

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max_length=63)
]
LabelName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=128)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Shape(BaseModel):
    """Unknown keys are errors; keys are camelCase in YAML."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, arbitrary_types_allowed=True
    )


class MetadataShape(Shape):
    """Who it is."""

    name: Name = Field(description="Unique in the set; the file is called the same.")
    labels: dict[str, str] = Field(
        default_factory=dict, description="For people; nothing reads it."
    )


class QueryShape(Shape):
    """A PromQL expression; each series it returns is one alert."""

    expr: PromQL
    for_: Duration = Field(
        default=0.0, alias="for", description="True for this long without a gap."
    )
    every: Duration = Field(default=30.0, description="Evaluation interval, at least 5s.")
    labels: dict[LabelName, str] = Field(default_factory=dict)


class ConditionShape(Shape):
    """A watched Kubernetes condition."""

    kind: Kind
    reason: Text = Field(
        description="Waiting reason or condition, e.g. CrashLoopBackOff, NotReady."
    )
    for_: Duration = Field(default=0.0, alias="for")
    namespaces: list[Name] = Field(default_factory=list)
    labels: dict[LabelName, str] = Field(default_factory=dict)


class WhenShape(Shape):
    """What opens an episode: exactly one of the three."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    alert: Matchers | None = Field(default=None, description="Alertmanager matchers.")
    query: QueryShape | None = None
    condition: ConditionShape | None = None


class TargetShape(Shape):
    """One object, never a selector."""

    kind: Kind
    namespace: Text | None = None
    name: Text
    owner: StrictBool = Field(default=False, description="Act on its top controller instead.")
    owner_kinds: list[Kind] = Field(default_factory=list)


class StormShape(Shape):
    """When so much is bad at once that it is not one object's trouble."""

    ratio: Ratio = 0.55
    minimum: Annotated[StrictInt, Field(ge=1)] = 3
    max_in_flight: Annotated[StrictInt, Field(ge=1, le=1000)] = 4


class UnlessShape(Shape):
    """A condition that forbids acting: exactly one of `promql` and `cel`."""

    promql: PromQL | None = None
    cel: Cel | None = None
    where: dict[str, str] = Field(
        default_factory=dict,
        max_length=16,
        description="With promql: only series with these labels count; `${labels.x}` may fill in.",
    )
    because: Text = Field(description="What a person is told, e.g. a backup is running.")


class WindowShape(Shape):
    """A weekly window in UTC."""

    freeze: StrictBool = True
    days: list[Day] = Field(default=["mon", "tue", "wed", "thu", "fri", "sat", "sun"], min_length=1)
    from_: TimeOfDay = Field(alias="from")
    to: TimeOfDay
    because: str = ""


class ErrorBudgetShape(Shape):
    """Acting needs at least `minimum` of what `expr` returns."""

    expr: PromQL
    minimum: Ratio


class BreakerShape(Shape):
    """So many runs in a row that did not help stop the playbook for a while."""

    failures: Annotated[StrictInt, Field(ge=1, le=100)] = 3
    for_: Duration = Field(default=3600.0, alias="for")


class GuardsShape(Shape):
    """What must hold before each step; each default is the strict one."""

    cooldown: Duration = 900.0
    budgets: dict[Scope, RateText] = Field(default_factory=dict)
    min_healthy: Ratio = 0.5
    storm: StormShape = Field(default_factory=StormShape)
    unless: list[UnlessShape] = Field(default_factory=list, max_length=20)
    windows: list[WindowShape] = Field(default_factory=list, max_length=50)
    error_budget: ErrorBudgetShape | None = None
    max_age: Duration = 3600.0
    approval_ttl: Duration = 1800.0
    allow_during_rollout: StrictBool = False
    allow_gitops_managed: StrictBool = False
    allow_hpa_managed: StrictBool = False
    breaker: BreakerShape = Field(default_factory=BreakerShape)


class VerifyShape(Shape):
    """How a step proves that it helped."""

    within: DurationOrAuto = None
    every: Duration = 5.0
    stable_for: Duration = 30.0
    probes: list[dict[str, dict[str, Any] | None]] = Field(min_length=1, max_length=10)


class StepShape(Shape):
    """One rung of the ladder."""

    name: Text
    action: Text
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    if_: Cel | None = Field(default=None, alias="if", description="CEL; skipped when false.")
    timeout: Duration = 30.0
    verify: VerifyShape | None = None
    undo: UndoRule = UndoRule.NEVER
    on_unknown: OnUnknown = OnUnknown.ESCALATE
    target: TargetShape | None = None


class EscalateShape(Shape):
    """Who is told when the ladder ends without recovery."""

    severity: Literal["critical", "error", "warning", "info"] = "critical"
    notify: list[Text] = Field(default_factory=list)
    summary: str = Field(default="", max_length=1000)


class SpecShape(Shape):
    """The remedy."""

    summary: Text = Field(description="One sentence: what it does.")
    not_when: str = Field(default="", description="When a person should not use it.")
    mode: Mode = Mode.APPROVE
    priority: Annotated[StrictInt, Field(ge=0, le=1000)] = 50
    when: WhenShape
    target: TargetShape
    guards: GuardsShape = Field(default_factory=GuardsShape)
    steps: list[StepShape] = Field(min_length=1, max_length=20)
    escalate: EscalateShape = Field(default_factory=EscalateShape)


class PlaybookShape(Shape):
    """A whole file."""

    api_version: Literal["healer.dev/v1alpha1"]
    kind: Literal["Playbook"]
    metadata: MetadataShape
    spec: SpecShape
