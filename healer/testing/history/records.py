"""What the witnesses saw, and what a check of it found. All times are Unix seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from healer.domain.alert import Alert, AlertStatus
from healer.domain.episode import Episode
from healer.domain.journal import Sealed
from healer.domain.run import Run


@dataclass(frozen=True, slots=True)
class Effect:
    """One request that may change something, as the server that got it saw it. No dry runs."""

    at: float  #: when the server got it
    verb: str  #: Kubernetes' word: create, update, patch, delete; or an HTTP method
    resource: str  #: plural as in an API path: `pods`, `deployments`; or the path of an HTTP call
    namespace: str
    name: str
    status: int  #: the HTTP status of the answer; below 300 it had its effect
    run_id: str = ""  #: who says it did it, by its User-Agent; empty: said of no run
    key: str = ""  #: identity of the step, where the request carries it (`Idempotency-Key`)
    subresource: str = ""
    uid: str = ""

    @property
    def happened(self) -> bool:
        """Whether the server did it."""
        return 200 <= self.status < 300

    def __str__(self) -> str:
        sub = f"/{self.subresource}" if self.subresource else ""
        return f"{self.verb} {self.resource}{sub} {self.namespace}/{self.name} ({self.status})"


@dataclass(frozen=True, slots=True)
class Sent:
    """One alert in one delivery, as its sender knows it."""

    at: float
    source: str
    fingerprint: str
    starts_at: float
    status: AlertStatus
    accepted: bool  #: it was answered with 2xx

    @property
    def event_id(self) -> str:
        """The identity under which the journal keeps it."""
        alert = Alert(self.source, self.fingerprint, self.status, {}, self.starts_at)
        return alert.event_id


@dataclass(frozen=True, slots=True)
class Firing:
    """One firing period of one alert, as it really was."""

    source: str
    fingerprint: str
    since: float
    until: float | None = None  #: None: it fires still


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far the witnesses' clocks and healer's sight may lag. Seconds."""

    clock: float = 1.0  #: between the clock of the journal and that of the servers
    firing: float = 15.0  #: how long after its end an alert may still be believed to fire
    stuck: float = 30.0  #: how long what is due may wait


@dataclass(frozen=True, slots=True)
class History:
    """What every witness saw. What a witness cannot say is None, and is not judged."""

    at: float  #: when the journal was read
    facts: tuple[Sealed, ...] = ()  #: from the first one on, in order
    runs: tuple[Run, ...] = ()
    episodes: tuple[Episode, ...] = ()
    effects: tuple[Effect, ...] = ()
    sent: tuple[Sent, ...] = ()
    firing: tuple[Firing, ...] | None = None
    kept: frozenset[str] | None = None  #: ids of the events the journal has
    leases: Mapping[str, float] = field(default_factory=dict)  #: episode → end of its claim
    calm: bool = False  #: faults had ended long enough for everything to come to rest
    tolerance: Tolerance = field(default_factory=Tolerance)


class ViolationKind(StrEnum):
    """What must never be."""

    LOST_ALERT = "lost_alert"  #: answered with 2xx, and the journal does not have it
    REPEATED_EFFECT = "repeated_effect"  #: an at-most-once step had more than one
    EFFECT_WITHOUT_INTENT = "effect_without_intent"
    STEP_WITHOUT_INTENT = "step_without_intent"
    OUTCOME_WITHOUT_INTENT = "outcome_without_intent"
    REPEATED_OUTCOME = "repeated_outcome"
    STALE_EPOCH = "stale_epoch"  #: written by who had lost its claim
    BUDGET_EXCEEDED = "budget_exceeded"
    OVERLAP = "overlap"  #: two runs acted on one lock at the same time
    NOT_FIRING = "not_firing"  #: something was done although the alert had ended
    STUCK = "stuck"  #: due, and nobody goes on with it
    BROKEN_CHAIN = "broken_chain"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    kind: ViolationKind
    detail: str
    where: str  #: the run, episode, alert or fact

    def __str__(self) -> str:
        return f"{self.kind} at {self.where}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found; `violations` is empty when every promise was kept."""

    violations: tuple[Violation, ...]
    facts: int
    runs: int
    effects: int  #: that happened
    accepted: int  #: alerts that were answered with 2xx, each counted once
    effects_per_step: int  #: the most that any at-most-once step had
    unknown_outcomes: int

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.violations

    def of(self, kind: ViolationKind) -> tuple[Violation, ...]:
        """The violations of one kind."""
        return tuple(found for found in self.violations if found.kind is kind)
