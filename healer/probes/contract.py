"""What every probe promises to the verifier."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from healer.actions.contract import Params
from healer.domain.outcome import Finding
from healer.domain.target import Kind, TargetRef
from healer.ports import Alerts, Cluster, Http, Metrics, Permission


@dataclass(frozen=True, slots=True)
class ProbeContext:
    """What a probe may look at."""

    cluster: Cluster
    metrics: Metrics | None
    alerts: Alerts | None
    http: Http | None
    target: TargetRef  #: of the step, with uid as planned
    lock: TargetRef  #: owner of the target, or the target
    labels: Mapping[str, str]  #: of the alert
    fingerprint: str
    episode_firing: bool  #: what the journal knows
    acted_at: float  #: when the step's effect was confirmed, Unix seconds
    now: float
    before: Mapping[str, Any] = field(default_factory=dict)  #: the step's precondition


class Probe(Protocol):
    """One observation."""

    name: ClassVar[str]
    summary: ClassVar[str]
    params: ClassVar[type[Params]]

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """The rights it uses for a step's target of `kind`; None asks for every kind together."""
        ...

    async def look(self, ctx: ProbeContext, params: Any) -> Finding:
        """One look. Missing, stale or unreachable data is UNKNOWN, never RECOVERED."""
        ...
