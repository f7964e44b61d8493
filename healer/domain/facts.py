"""What the guards look at, gathered right before they are asked. What nobody filled in forbids."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from healer.domain.budget import Bucket
from healer.domain.pause import Pause
from healer.domain.storm import Flow
from healer.domain.target import DomainHealth, Observation


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's answer to one plan."""

    plan_digest: str
    approved: bool
    by: str
    at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class ConditionAnswer:
    """What an `unless` condition says now; None when it could not be evaluated."""

    text: str
    because: str
    holds: bool | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class GuardFacts:
    """All that the guards look at, gathered right before they are asked."""

    now: float
    observation: Observation | None  #: of the step's target; None when it is gone
    firing: bool | None  #: by a fresh look at the source; None when it could not be asked
    firing_age_seconds: float = 0.0  #: how old that look is
    wall: float | None = None  #: the true time, for calendars; None: it is `now`
    episode_opened_at: float = 0.0
    pauses: tuple[Pause, ...] = ()
    last_run_ended_at: float | None = None  #: of this playbook on this target
    buckets: Mapping[str, Bucket] = field(default_factory=dict)
    locked_by: str | None = None  #: episode that holds the lock on the target's owner
    owner: DomainHealth | None = None
    zone: DomainHealth | None = None  #: None: could not be counted
    in_flight_owner: int = 0
    in_flight_zone: int = 0
    flow: Flow = field(default_factory=Flow)  #: how far the zone's ramp has come
    queue_place: int = 0  #: episodes ahead of this one in the same zone
    bad_outcomes: int = 0  #: of this playbook in a row
    last_bad_at: float | None = None
    breaker_reset_at: float | None = None  #: a person reset the breaker then
    conditions: tuple[ConditionAnswer, ...] = ()
    error_budget: float | None = None  #: 0 to 1; None: not asked for, or unknown
    approval: Approval | None = None
    protected: str = ""  #: why the target is protected; empty when it is not
    missing_right: str = ""  #: the API right that is missing; empty when none is
    dry_run: bool = False
    canary: bool = False  #: this run is the one that the half-open breaker let through
    breaks_hold: bool = False  #: this run has begun: its own cooldown does not stop its ladder
    paid: bool = False  #: an attempt without effect has paid for this step already
    recent_runs: int = 0  #: of this playbook on this lock that acted, within `RECURRENCE`'s time
