"""What a workload's owner asks for: which demand, what one replica carries, and what bounds.

Frozen values without I/O. Demand is always the total of the workload, never an average per pod: an
average falls when pods are added, and a controller that steers by it chases itself.
"""

from dataclasses import dataclass, field
from enum import StrEnum

#: Demand above the highest of the last days that a forecast may ask for.
OVER_RECENT_MAX = 1.1
RECENT_DAYS = 7.0
#: How much of a replica's capacity is planned with, as plain HPAs do.
UTILISATION = 0.7
#: A forecast reaches this far beyond the time that pods need to become ready. Seconds.
READY_MARGIN_SECONDS = 30.0


class Mode(StrEnum):
    """Whether what is predicted is served, or only shown beside what is served."""

    SHADOW = "shadow"
    ACTIVE = "active"


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """What is scaled."""

    namespace: str
    kind: str  #: Deployment, StatefulSet, or any kind with a scale subresource
    name: str
    api_version: str = "apps/v1"

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Prediction:
    """How far ahead, and how sure to be of having enough."""

    quantile: float = 0.9
    horizon_seconds: float | None = None  #: None: learned time to ready + READY_MARGIN_SECONDS


@dataclass(frozen=True, slots=True)
class Caps:
    """What a forecast may never ask for. They never hold back the demand of now."""

    over_recent_max: float = OVER_RECENT_MAX
    step_ratio: float = 2.0  #: at most this many times the replicas there are …
    step_replicas: int = 4  #: … or so many more, whichever is more
    quota_replicas: int | None = None
    cost_per_hour: float | None = None
    replica_cost_per_hour: float | None = None

    def affordable(self) -> int | None:
        """Replicas that the cost allows; None: no limit is given."""
        if self.cost_per_hour is None or not self.replica_cost_per_hour:
            return None
        return int(self.cost_per_hour / self.replica_cost_per_hour)


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """One workload's policy; checked when it is read."""

    name: str
    workload: Workload
    query: str  #: PromQL; one series, the workload's total demand
    capacity: float | None  #: demand that one replica carries; None: learned
    min_replicas: int
    max_replicas: int
    metric: str
    mode: Mode = Mode.SHADOW
    utilisation: float = UTILISATION
    prediction: Prediction | None = field(default_factory=Prediction)
    caps: Caps = field(default_factory=Caps)
    max_age_seconds: float = 120.0  #: older demand is no demand
    hold_seconds: float = 900.0  #: how long the last good value stands in for a missing one
