"""What came of a step, of its verification, and of a whole run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What is known of one effect."""

    APPLIED = "applied"  #: the other side confirmed it
    ALREADY_DONE = "already_done"  #: it was in place before this attempt
    SKIPPED = "skipped"  #: its condition was false
    DRY_RUN = "dry_run"  #: the server accepted it as a dry run; nothing was changed
    FAILED = "failed"  #: certainly without effect
    UNKNOWN = "unknown"  #: nobody can tell: a person decides


class Recovery(StrEnum):
    """Tri-state answer of a verification. UNKNOWN never counts as success."""

    RECOVERED = "recovered"
    NOT_RECOVERED = "not_recovered"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One probe's answer with its evidence."""

    probe: str
    recovery: Recovery
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """All probes' answers at one moment.

    Recovered only when every probe says so; not recovered when any does; otherwise unknown.
    """

    at: float
    findings: tuple[Finding, ...]

    @property
    def recovery(self) -> Recovery:
        """The joint answer; no findings are unknown."""
        answers = {finding.recovery for finding in self.findings}
        if Recovery.NOT_RECOVERED in answers:
            return Recovery.NOT_RECOVERED
        if answers == {Recovery.RECOVERED}:
            return Recovery.RECOVERED
        return Recovery.UNKNOWN


class Result(StrEnum):
    """How a run or an episode ended."""

    HEALED = "healed"  #: a step was applied and recovery held for `stable_for`
    SELF_RESOLVED = "self_resolved"  #: it went away before anything was done
    ESCALATED = "escalated"  #: a remedy did not help, and a person was told
    TOLD = "told"  #: a person was told, and nothing disruptive was tried: no failure of a remedy
    OBSERVED = "observed"  #: the plan was made and shown, on purpose nothing was done
    REFUSED = "refused"  #: a guard denied it for good
    UNMATCHED = "unmatched"  #: no playbook is for it


@dataclass(frozen=True, slots=True)
class Applied:
    """What an action reports: its outcome, and what to remember for undo and lookup."""

    outcome: Outcome
    detail: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
