"""The shape of a case file; `docs/playbooks.md` explains every key."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    field_validator,
)

from healer.domain.outcome import Outcome, Recovery
from healer.domain.playbook import Scope
from healer.domain.target import DomainHealth, Kind, TargetRef
from healer.domain.verdict import Effect, Reason
from healer.kernel.clock import parse_rfc3339
from healer.playbook_yaml.model import Shape, Text
from healer.playbook_yaml.scalars import Duration, ratio

#: 2026-01-05T12:00:00Z, a Monday noon.
NOON = 1767614400.0


def target_ref(text: Any) -> TargetRef:
    """`Pod/shop/cart-1` or `Node/node-1` as a reference. Raises ValueError otherwise."""
    parts = text.split("/") if isinstance(text, str) else []
    if len(parts) not in {2, 3} or not all(parts) or parts[0] not in set(Kind):
        raise ValueError(f"{str(text)[:60]!r} is no Kind/namespace/name")
    return TargetRef(Kind(parts[0]), parts[-1], parts[1] if len(parts) == 3 else "")


def _time(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError("a time is text such as 2026-01-05T12:00:00Z")
    return parse_rfc3339(value)


def _tri_state(value: Any) -> bool | None:
    if value == "unknown":
        return None
    if isinstance(value, bool):
        return value
    raise ValueError("write true, false or unknown")


def _health(value: Any) -> DomainHealth | None:
    if value == "unknown":
        return None
    if isinstance(value, dict) and set(value) == {"total", "bad"}:
        total, bad = value["total"], value["bad"]
        if all(type(n) is int for n in (total, bad)) and 0 <= bad <= total:
            return DomainHealth("", total, bad)
    raise ValueError("write {total: 40, bad: 2} or unknown")


def _share(value: Any) -> float | None:
    return None if value == "unknown" else ratio(value)


def _effect_alone(value: Any) -> Any:
    return {"effect": value} if isinstance(value, str) else value


Ref = Annotated[TargetRef, PlainValidator(target_ref)]
TriState = Annotated[bool | None, PlainValidator(_tri_state)]
HealthOrUnknown = Annotated[DomainHealth | None, PlainValidator(_health)]


class AlertGiven(Shape):
    """The alert."""

    labels: dict[str, str | None] = Field(default_factory=dict)
    annotations: dict[str, str | None] = Field(default_factory=dict)
    status: Literal["firing", "resolved"] = "firing"
    age: Duration = 300.0
    source: str = ""


class PodGiven(Shape):
    """One pod of the workload."""

    name: Text
    ready: StrictBool = True
    reason: str = ""
    phase: str = "Running"
    restarts: StrictInt = 0
    node: str = ""
    zone: str = ""
    age: Duration = 3600.0
    terminating: StrictBool = False
    revision: str = ""


class SeenGiven(Shape):
    """What a fresh look at the named target shows."""

    gone: StrictBool = False
    uid: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner: Ref | None = None
    node: str = ""
    zone: str = ""
    replicas: StrictInt | None = None
    ready: StrictInt | None = None
    rollout: StrictBool = False
    paused: StrictBool = False
    terminating: StrictBool = False
    managers: list[str] = Field(default_factory=list)
    hpa: str = ""
    pods: list[PodGiven] = Field(default_factory=list)


class PauseGiven(Shape):
    """Somebody's stop."""

    reason: Text
    by: Text = "somebody"
    namespace: str = ""
    playbook: str = ""


class InFlightGiven(Shape):
    """Runs under way."""

    owner: StrictInt = 0
    zone: StrictInt = 0


class FactsGiven(Shape):
    """What else the guards look at."""

    firing: TriState = True
    zone: HealthOrUnknown = DomainHealth("", 100, 0)
    owner: HealthOrUnknown = None
    budgets: dict[Scope, float] = Field(default_factory=dict)
    last_run: Duration | None = None
    in_flight: InFlightGiven = Field(default_factory=InFlightGiven)
    queue_place: StrictInt = 0
    locked_by: str | None = None
    pauses: list[PauseGiven] = Field(default_factory=list)
    conditions: dict[str, TriState] = Field(default_factory=dict)
    error_budget: Annotated[float | None, PlainValidator(_share)] = 1.0
    approval: Literal["given", "rejected", "expired"] | None = None
    bad_outcomes: StrictInt = 0
    last_bad: Duration = 60.0
    protected: str = ""
    missing_right: str = ""


class Given(Shape):
    """What is so."""

    now: Annotated[float, PlainValidator(_time)] = NOON
    alert: AlertGiven = Field(default_factory=AlertGiven)
    seen: SeenGiven = Field(default_factory=SeenGiven)
    others: dict[str, SeenGiven] = Field(default_factory=dict)
    facts: FactsGiven = Field(default_factory=FactsGiven)


class StepExpected(Shape):
    """One planned step."""

    action: Text
    name: str | None = None
    with_: dict[str, Any] | None = Field(default=None, alias="with")
    target: Ref | None = None
    cost: StrictInt | None = None


class VerdictExpected(Shape):
    """The guards' answer to the first step."""

    effect: Effect
    reason: Reason | None = None


class LadderExpected(Shape):
    """One thing that happens, and where it leads."""

    step: str | None = None
    undo: Outcome | None = None
    outcome: Outcome = Outcome.APPLIED
    verify: Recovery | None = None
    then: Literal["next", "healed", "undo", "retry", "escalated", "verifying", "observed"]


class Expected(Shape):
    """What must follow. Only what is written is checked."""

    playbook: str | None = None
    target: Ref | None = None
    unplannable: Reason | None = None
    steps: list[StepExpected] | None = None
    verdict: Annotated[VerdictExpected | None, BeforeValidator(_effect_alone)] = None
    ladder: list[LadderExpected] | None = None

    @field_validator("ladder")
    @classmethod
    def _each_is_one(cls, value: list[LadderExpected] | None) -> list[LadderExpected] | None:
        for entry in value or ():
            if (entry.step is None) == (entry.undo is None):
                raise ValueError("each entry has either step or undo")
        return value


class CaseShape(Shape):
    """One case."""

    name: Text
    given: Given = Field(default_factory=Given)
    expect: Expected


class CaseFileShape(Shape):
    """A whole file."""

    api_version: Literal["healer.dev/v1alpha1"]
    kind: Literal["PlaybookCases"]
    playbook: Text
    given: Given = Field(default_factory=Given)
    cases: list[CaseShape] = Field(min_length=1)
