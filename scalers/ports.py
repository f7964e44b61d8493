"""What the metrics API reads and what fills it: the seams between collector, decision and server.

Nothing here does I/O. A value that is missing, stale, NaN or infinite is never a number: it is a
`Refused` with the reason, which every way out shows to whoever asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from scalers.policy import Workload


class Reason(StrEnum):
    """Why a metric is refused."""

    UNKNOWN = "Unknown"  #: no policy publishes it
    NOT_YET = "NotCollectedYet"
    STALE = "Stale"
    NOT_FINITE = "NotFinite"  #: NaN or infinite
    NEGATIVE = "Negative"
    EMPTY = "EmptyResult"
    DUPLICATE = "SeveralSeries"
    SOURCE_DOWN = "SourceUnavailable"
    RIVALS = "SeveralScalers"  #: something else sets the replicas of this workload, too
    NO_CAPACITY = "CapacityUnknown"  #: what one replica carries was not learned yet


@dataclass(frozen=True, slots=True)
class Refused:
    """No value, and why; `message` is one sentence that names metric, age or source."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """The object that a custom metric describes; `namespace` is empty for cluster-scoped ones."""

    resource: str  #: plural, lower case: "services", "deployments", "namespaces", "nodes"
    group: str  #: API group; empty for core
    kind: str
    api_version: str
    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """One published value."""

    name: str
    namespace: str
    labels: Mapping[str, str]  #: what metricLabelSelector is matched with
    value: float | Refused
    at: float  #: when the value was true at its source; Unix seconds
    window_seconds: int | None = None
    described: ObjectRef | None = None  #: None: an external metric


class MetricReader(Protocol):
    """From memory, at once: what the API server answers with."""

    def external(self, namespace: str, name: str) -> Sequence[Metric]:
        """Every series of this external metric in this namespace; empty: no policy publishes it."""
        ...

    def custom(self, group: str, resource: str, namespace: str, name: str) -> Sequence[Metric]:
        """Every object's series of this custom metric; namespace is empty for root-scoped ones."""
        ...

    def custom_names(self) -> Sequence[tuple[str, str, bool, str]]:
        """(group, resource, namespaced, metric) of every custom metric, sorted, each once."""
        ...


@dataclass(frozen=True, slots=True)
class Followed:
    """A query whose one series the collector keeps, and for how long a value of it holds."""

    key: str  #: unique; a policy's name, a slash, and what is asked ("demand", "busy", …)
    query: str
    max_age_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class Measured:
    """The newest value of a followed query, or why there is none."""

    value: float | Refused
    at: float  #: when it was so; Unix seconds; of a refusal: when it was looked


Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What Prometheus says of one query: (Unix seconds, value) in order, by sorted label pairs.

    Values may be NaN or infinite: that is for the collector to refuse.
    """

    points: Mapping[Labels, Sequence[tuple[float, float]]]


class SourceError(Exception):
    """Prometheus did not answer, or not with an answer; the text names place and remedy."""


class RangeSource(Protocol):
    """Prometheus, as the collector needs it."""

    async def ranges(
        self, queries: Sequence[str], start: float, end: float, step: float
    ) -> Sequence[Answer | SourceError]:
        """query_range for each, in few HTTP requests; one bad query spoils no other's answer.

        Raises SourceError when none could be asked.
        """
        ...


@dataclass(frozen=True, slots=True)
class Scaler:
    """Something in the cluster that sets a workload's replicas."""

    kind: str  #: HorizontalPodAutoscaler or ScaledObject
    name: str
    metrics: tuple[str, ...] = ()  #: names of the external and object metrics that it reads
    owner: str = ""  #: "ScaledObject web" when that made it


@dataclass(frozen=True, slots=True)
class Standing:
    """What the cluster says of a workload."""

    replicas: int | None  #: pods asked for now; None: nobody could say
    ready: int | None = None
    rollout: str = ""  #: what is being rolled out; empty: nothing
    scalers: tuple[Scaler, ...] = ()
    #: Of pods that became ready lately: (uid, when Unix seconds, seconds from creation to ready).
    became_ready: tuple[tuple[str, float, float], ...] = ()
    missing: str = ""  #: why the workload itself was not found; empty: it is there


class Workloads(Protocol):
    """The cluster, as scaling needs it."""

    async def look(self, workloads: Sequence[Workload]) -> Mapping[Workload, Standing]:
        """All of them in few requests. Raises SourceError when the API server cannot be asked."""
        ...


class StateKeeper(Protocol):
    """Where what was learned survives a restart."""

    async def load(self) -> Mapping[str, bytes]:
        """Everything that was saved, by key. Raises SourceError."""
        ...

    async def save(self, changed: Mapping[str, bytes]) -> None:
        """Keep these; others stay. Raises SourceError."""
        ...
