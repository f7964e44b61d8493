"""What the metrics API reads and what fills it: the seams between collector, decision and server.

Nothing here does I/O. A value that is missing, stale, NaN or infinite is never a number: it is a
`Refused` with the reason, which every way out shows to whoever asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


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


class Answer(Protocol):
    """One instant or range answer of Prometheus."""

    @property
    def points(self) -> Mapping[tuple[tuple[str, str], ...], Sequence[tuple[float, float]]]:
        """(Unix seconds, value) in order, by the sorted label pairs of the series."""
        ...


class RangeSource(Protocol):
    """Prometheus, as the collector needs it; raises `healer.errors`-like errors of its own."""

    async def range(self, query: str, start: float, end: float, step: float) -> Answer:
        """query_range; one HTTP request."""
        ...
