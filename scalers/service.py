"""The round that keeps every policy's metric: collect, look, forecast, decide, remember.

What is served is in memory, so an answer never waits for anybody. Where anything is not known the
answer is a `Refused` or the last good value within its `hold`, never a number that was made up.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from healer.kernel.clock import Clock
from scalers.collector import KEPT_DAYS, Collector
from scalers.decision import Decision, Past, Predicted, Situation, decide
from scalers.forecast.desk import ForecastDesk
from scalers.forecast.service import Forecast
from scalers.masking import Disturbance, masking
from scalers.policy import RECENT_DAYS, Prediction, ScalingPolicy, Workload
from scalers.ports import (
    Followed,
    Measured,
    Metric,
    ObjectRef,
    Reason,
    Refused,
    SourceError,
    Standing,
    Workloads,
)
from scalers.readiness import TimesToReady
from scalers.rivals import rivals
from scalers.series import DAY_SECONDS

_log = logging.getLogger(__name__)

#: The label by which one policy's series is told from another's.
POLICY_LABEL = "scaling_policy"
#: Kinds whose custom metric is found at their own path; others have an external metric only.
_PLURALS = {("apps/v1", "Deployment"): "deployments", ("apps/v1", "StatefulSet"): "statefulsets"}
_UNKNOWN = Standing(None)


@dataclass(frozen=True, slots=True)
class Told:
    """What one policy's round came to, whole: for answers, people and gauges."""

    policy: ScalingPolicy
    decision: Decision
    measured: Measured
    standing: Standing
    lead_seconds: float
    forecast: Forecast | None
    why_no_forecast: str  #: empty: there is one
    not_taught: str = ""  #: why a stretch of the past teaches although it was disturbed


@dataclass(slots=True)
class _Memory:
    last: Past | None = None
    disturbances: list[Disturbance] = field(default_factory=list)
    disturbed: Disturbance | None = None  #: the one that lasts
    offered: float = -math.inf  #: end of the past that the forecasts were last given


async def _nothing() -> Mapping[str, str]:
    return {}


class Scaling:
    """A `MetricReader`. Use from one event loop."""

    def __init__(
        self,
        collector: Collector,
        workloads: Workloads,
        desk: ForecastDesk,
        clock: Clock,
        *,
        incidents: Callable[[], Awaitable[Mapping[str, str]]] = _nothing,
        paused: Callable[[], Awaitable[Mapping[str, str]]] = _nothing,
        before: Mapping[str, Sequence[Disturbance]] | None = None,
    ) -> None:
        """By namespace: `incidents` tells what is being healed, `paused` why prediction is off.

        The empty namespace in `paused` is every namespace. `before` are the incidents that ended
        before this process began: they teach nothing either.
        """
        self._before = dict(before or {})
        self._collector = collector
        self._workloads = workloads
        self._desk = desk
        self._clock = clock
        self._incidents = incidents
        self._paused = paused
        self._policies: tuple[ScalingPolicy, ...] = ()
        self._memory: dict[str, _Memory] = {}
        self._ready = TimesToReady()
        self.told: dict[str, Told] = {}  #: by policy, of the last round
        self.problem = ""  #: why the cluster could not be looked at; empty: it could
        self._external: dict[tuple[str, str], tuple[Metric, ...]] = {}
        self._custom: dict[tuple[str, str, str, str], tuple[Metric, ...]] = {}

    def follow(self, policies: Sequence[ScalingPolicy]) -> None:
        """Serve exactly these from the next round on; those that stay keep what is known."""
        keys = {_key(policy) for policy in policies}
        same = {_key(one) for one in self._policies} & keys
        asked = {_key(one): one.query for one in self._policies}
        changed = {_key(one) for one in policies if asked.get(_key(one), one.query) != one.query}
        # What another query said stands in for nothing.
        self._memory = {k: one for k, one in self._memory.items() if k in same - changed}
        self._policies = tuple(policies)
        self._desk.forget(keys)
        self._collector.follow(
            [Followed(_key(one), one.query, one.max_age_seconds) for one in policies]
        )
        for policy in policies:
            if policy.name not in self.told:
                self._publish(policy, Refused(Reason.NOT_YET, "not read yet"), self._clock.now())
        self._drop_unfollowed()

    async def round(self) -> None:
        """One look at everything. Faults of others end in what is told, not in an exception."""
        policies = self._policies
        await self._collector.round()
        standings, blind = await self._look(policies)
        incidents, paused = await self._incidents(), await self._paused()
        for policy in policies:
            if policy not in self._policies:
                continue  # replaced while others were asked
            standing = standings.get(policy.workload, _UNKNOWN)
            frozen = blind or self._why_frozen(policy, standing, incidents)
            off = paused.get("") or paused.get(policy.workload.namespace, "")
            self.told[policy.name] = self._tell(policy, standing, frozen, off)
            await asyncio.sleep(0)  # noqa: TID251 - a thousand policies must not delay an answer
        await self._collector.past()

    async def _look(
        self, policies: Sequence[ScalingPolicy]
    ) -> tuple[Mapping[Workload, Standing], str]:
        try:
            found = await self._workloads.look([policy.workload for policy in policies])
        except SourceError as error:
            if not self.problem:
                _log.warning("workloads cannot be looked at", extra={"error": str(error)})
            self.problem = str(error)
            return {}, self.problem
        self.problem = ""
        for workload, standing in found.items():
            self._ready.saw(workload, standing.became_ready)
        return found, ""

    def _why_frozen(
        self, policy: ScalingPolicy, standing: Standing, incidents: Mapping[str, str]
    ) -> str:
        """Why nothing may shrink now and nothing is foreseen: an incident or a rollout."""
        now, memory = self._clock.now(), self._memory.setdefault(_key(policy), _Memory())
        why = incidents.get(policy.workload.namespace, "")
        if standing.rollout:
            why = why or f"a rollout of {policy.workload}: {standing.rollout}"
        if why and memory.disturbed is None:
            memory.disturbed = Disturbance(now, None, why.split(":", maxsplit=1)[0])
        elif not why and memory.disturbed is not None:
            memory.disturbances.append(replace(memory.disturbed, end=now))
            memory.disturbed = None
            oldest = now - KEPT_DAYS * DAY_SECONDS
            memory.disturbances = [
                one for one in memory.disturbances if one.end is None or one.end > oldest
            ]
        return why

    def _tell(self, policy: ScalingPolicy, standing: Standing, frozen: str, paused: str) -> Told:
        key, now = _key(policy), self._clock.now()
        memory = self._memory.setdefault(key, _Memory())
        measured = self._collector.measured(key)
        lead = self._ready.lead(policy)
        predicted, not_taught = self._foreseen(policy, memory, lead)
        value: float | Refused = measured.value
        if policy.capacity is None:
            value = Refused(
                Reason.NO_CAPACITY,
                f"policy {policy.name} has no capacity; give what one replica carries",
            )
        situation = Situation(
            now, value, measured.at, policy.capacity or 1.0, standing.replicas,
            predicted=predicted, recent_max=self._collector.recent_max(key, RECENT_DAYS),
            frozen=frozen or standing.missing, paused=paused,
            last=memory.last if policy.capacity is not None else None,
        )  # fmt: skip
        decision = decide(policy, situation)
        if not isinstance(decision.value, Refused):
            memory.last = Past(decision.value, decision.at)
        if (rival := rivals(policy, standing)) is not None:
            decision = replace(decision, value=rival, replicas=None, changes=False)
        self._publish(policy, decision.value, decision.at)
        why_none = self._desk.why_none(key) if policy.prediction else "prediction is off"
        return Told(
            policy, decision, measured, standing, lead, self._desk.forecast(key), why_none,
            not_taught,
        )  # fmt: skip

    def _foreseen(
        self, policy: ScalingPolicy, memory: _Memory, lead: float
    ) -> tuple[Predicted | None, str]:
        wanted: Prediction | None = policy.prediction
        if wanted is None:
            return None, ""
        key = _key(policy)
        lasting = [memory.disturbed] if memory.disturbed else []
        before = self._before.get(policy.workload.namespace, ())
        masked = masking([*before, *memory.disturbances, *lasting], self._clock.now())
        until = self._collector.known_until(key)
        if until > memory.offered and (history := self._collector.history(key)) is not None:
            identity = f"{policy.query}\n{wanted.quantile}"
            self._desk.offer(key, identity, history.masked(masked.spans()), wanted.quantile)
            memory.offered = until
        return self._desk.highest(key, wanted.quantile, lead), masked.refused

    # ------------------------------------------------------------------------------- reading

    def external(self, namespace: str, name: str) -> Sequence[Metric]:
        """See `MetricReader`."""
        return self._external.get((namespace, name), ())

    def custom(self, group: str, resource: str, namespace: str, name: str) -> Sequence[Metric]:
        """See `MetricReader`."""
        return self._custom.get((group, resource, namespace, name), ())

    def custom_names(self) -> Sequence[tuple[str, str, bool, str]]:
        """See `MetricReader`."""
        found = {(group, resource, True, name) for group, resource, _, name in self._custom}
        return sorted(found)

    def _publish(self, policy: ScalingPolicy, value: float | Refused, at: float) -> None:
        workload = policy.workload
        labels = {POLICY_LABEL: policy.name}
        metric = Metric(policy.metric, workload.namespace, labels, value, at)
        self._external[workload.namespace, policy.metric] = (metric,)
        plural = _PLURALS.get((workload.api_version, workload.kind))
        if plural is None:
            return
        group = workload.api_version.split("/", maxsplit=1)[0]
        described = ObjectRef(
            plural, group, workload.kind, workload.api_version, workload.namespace, workload.name
        )
        key = (group, plural, workload.namespace, policy.metric)
        # A metric name belongs to one policy in a namespace, so there is one object.
        self._custom[key] = (replace(metric, described=described),)

    def _drop_unfollowed(self) -> None:
        names = {policy.name for policy in self._policies}
        places = {(policy.workload.namespace, policy.metric) for policy in self._policies}
        self.told = {name: one for name, one in self.told.items() if name in names}
        self._external = {key: one for key, one in self._external.items() if key in places}
        self._custom = {key: one for key, one in self._custom.items() if key[2:] in places}


def _key(policy: ScalingPolicy) -> str:
    return f"{policy.name}/demand"
