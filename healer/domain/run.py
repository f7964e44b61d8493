"""A run is one attempt to heal one episode with one plan: its state, and the steps it has done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from healer.domain.outcome import Outcome, Result
from healer.domain.plan import Plan
from healer.domain.verdict import Reason


class Phase(StrEnum):
    """Where in its ladder a run stands. Each value is a place a restart resumes from."""

    GUARD = "guard"  #: the next rung is to be guarded and, if allowed, begun
    ACTING = "acting"  #: an intent is on disk; its outcome is not
    VERIFYING = "verifying"
    HOLDING = "holding"  #: recovered, and watched for `stable_for`
    UNDOING = "undoing"  #: an undo intent is on disk; its outcome is not
    ESCALATING = "escalating"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One effect: its intent, written before, and its outcome, written after."""

    step: int
    attempt: int
    undo: bool
    key: str  #: idempotency key
    intent_at: float
    precondition: Mapping[str, Any]  #: what was seen right before, enough to look up and to undo
    outcome: Outcome | None = None  #: None: not known yet
    outcome_at: float | None = None
    detail: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt to heal one episode."""

    id: str
    episode_id: str
    plan: Plan
    phase: Phase
    rung: int  #: index of the current step
    started_at: float
    attempt: int = 0  #: of the current rung
    verify_until: float | None = None
    stable_since: float | None = None
    unknown_since: float | None = None
    held_reason: Reason | None = None  #: why it waits in GUARD
    result: Result | None = None
    reason: Reason | None = None
    finished_at: float | None = None
    canary: bool = False  #: the one run that a half-open breaker let through
    steps: tuple[StepRecord, ...] = ()

    @property
    def open_step(self) -> StepRecord | None:
        """The step whose intent is on disk and whose outcome is not."""
        return next((step for step in reversed(self.steps) if step.outcome is None), None)

    @property
    def begun(self) -> bool:
        """Whether its first rung has been decided: from then on it finishes on its own plan."""
        return bool(self.steps) or self.rung > 0

    @property
    def disrupted(self) -> bool:
        """Whether a step that disrupts something was tried; false for what only tells or waits."""
        return any(self.plan.steps[record.step].cost > 0 for record in self.steps)

    @property
    def acted(self) -> bool:
        """Whether any step may have changed the cluster."""
        return any(step.outcome in {None, Outcome.APPLIED, Outcome.UNKNOWN} for step in self.steps)
