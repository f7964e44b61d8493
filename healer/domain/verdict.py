"""Verdicts, and the one list of reasons.

A reason's value is a public word: the same in the journal, the metric label, the Kubernetes Event,
the CLI and the docs (docs/reasons.md explains each).
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why something was done, not done, or ended as it did."""

    ALLOWED = "allowed"
    # -- no playbook, no target
    NO_PLAYBOOK = "no_playbook"
    TARGET_UNRESOLVED = "target_unresolved"
    TARGET_GONE = "target_gone"
    TARGET_CHANGED = "target_changed"
    TARGET_PROTECTED = "target_protected"
    PARAMETER_INVALID = "parameter_invalid"
    MISSING_RIGHT = "missing_right"
    # -- not now
    PAUSED = "paused"
    COOLDOWN = "cooldown"
    BUDGET_EXHAUSTED = "budget_exhausted"
    MIN_HEALTHY = "min_healthy"
    ZONE_DEGRADED = "zone_degraded"
    OWNER_DEGRADED = "owner_degraded"
    STORM_PACED = "storm_paced"
    BREAKER_OPEN = "breaker_open"
    TARGET_LOCKED = "target_locked"
    ROLLOUT_IN_PROGRESS = "rollout_in_progress"
    GITOPS_MANAGED = "gitops_managed"
    HPA_MANAGED = "hpa_managed"
    FREEZE_WINDOW = "freeze_window"
    UNLESS_CONDITION = "unless_condition"
    ERROR_BUDGET_SPENT = "error_budget_spent"
    BLIND = "blind"
    TEMPORARY_FAILURE = "temporary_failure"
    # -- a person decides
    APPROVAL_NEEDED = "approval_needed"
    APPROVAL_EXPIRED = "approval_expired"
    APPROVAL_REJECTED = "approval_rejected"
    OBSERVE_ONLY = "observe_only"
    DRY_RUN = "dry_run"
    # -- no longer
    NOT_FIRING = "not_firing"
    STALE = "stale"
    TOO_OLD = "too_old"
    SELF_RESOLVED = "self_resolved"
    # -- how a step or run ended
    RECOVERED = "recovered"
    NOT_RECOVERED = "not_recovered"
    UNKNOWN_OUTCOME = "unknown_outcome"
    VERIFY_UNKNOWN = "verify_unknown"
    ACTION_FAILED = "action_failed"
    CONDITION_FALSE = "condition_false"
    UNDO_FAILED = "undo_failed"
    ESCALATED = "escalated"
    RECURRED = "recurred"


class Effect(StrEnum):
    """How a verdict, or one guard in it, answers."""

    ALLOW = "allow"
    DEFER = "defer"
    NEED_APPROVAL = "need_approval"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Because:
    """One guard's answer with its evidence, as a person would read it."""

    effect: Effect
    reason: Reason
    detail: str
    until: float | None = None  #: Unix seconds when it is worth looking again, for DEFER


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of all guards to one plan: the strictest effect, and every guard's reason.

    Only `healer.domain.guard.decide` makes one that allows, and it is bound to `plan_digest`: the
    worker's `act` takes an `Allow` and nothing else, so "log and fall through" cannot type-check.
    """

    effect: Effect
    reason: Reason
    detail: str
    plan_digest: str
    until: float | None = None
    because: tuple[Because, ...] = ()


@dataclass(frozen=True, slots=True)
class Allow:
    """The right to do exactly one step of exactly one plan, given by the guard."""

    plan_digest: str
    step: int
    at: float
    canary: bool = False  #: the breaker is half open: it is paid for as its one canary, or not done
