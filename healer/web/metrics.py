"""Our own metrics: what each is, and the one place that turns facts into counts.

The names and labels are an API, documented in `docs/metrics.md`; labels only ever take words from
our own lists (codes, reasons, states, configured names), so their number is bounded.
"""

import inspect
import platform
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from healer import __version__
from healer.domain.episode import Episode
from healer.domain.journal import Fact, FactKind
from healer.domain.run import Phase, Run
from healer.errors import HealerError

_P = TypeVar("_P")
_ACK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_REACTION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
#: Runs whose end was counted, remembered so that later news of them does not count them again.
_REMEMBERED = 4096


class Instruments:
    """Every metric there is, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        on = self.registry
        self.build = Info("healer_build", "Version of healer and of Python.", registry=on)
        self.build.info({"version": __version__, "python": platform.python_version()})
        self.requests = Counter(
            "healer_webhook_requests", "Webhook deliveries by HTTP answer.", ["code"], registry=on
        )
        self.alerts = Counter(
            "healer_alerts",
            "Alerts delivered: accepted, duplicate or rejected.",
            ["result"],
            registry=on,
        )
        self.ack = Histogram(
            "healer_webhook_ack_seconds",
            "From the head of a delivery to its durable 2xx.",
            buckets=_ACK_BUCKETS,
            registry=on,
        )
        self.reaction = Histogram(
            "healer_reaction_seconds",
            "From opening an episode to the intent of its first step.",
            buckets=_REACTION_BUCKETS,
            registry=on,
        )
        self.verdicts = Counter(
            "healer_verdicts",
            "Guard verdicts that were journaled.",
            ["effect", "reason"],
            registry=on,
        )
        self.steps = Counter(
            "healer_steps",
            "Steps by outcome; an undo is a step too.",
            ["action", "outcome"],
            registry=on,
        )
        self.verifications = Counter(
            "healer_verifications", "Looks at whether a step helped.", ["recovery"], registry=on
        )
        self.runs = Counter("healer_runs", "Runs that ended.", ["result", "reason"], registry=on)
        self.settled = Counter(
            "healer_decisions",
            "Episodes decided without a run, by reason.",
            ["reason"],
            registry=on,
        )
        self.calls_failed = Counter(
            "healer_client_errors", "Failed calls to others.", ["client", "error"], registry=on
        )
        self.episodes = Gauge("healer_episodes", "Episodes by state.", ["state"], registry=on)
        self.inbox = Gauge("healer_inbox_alerts", "Accepted alerts not yet episodes.", registry=on)
        self.outbox = Gauge("healer_outbox_messages", "Messages not yet delivered.", registry=on)
        self.inbox_age = Gauge(
            "healer_inbox_age_seconds", "Age of the oldest in the inbox.", registry=on
        )
        self.outbox_failing = Gauge(
            "healer_outbox_failing_messages", "Messages tried and not yet delivered.", registry=on
        )
        self.pauses = Gauge("healer_pauses", "Pauses in force by scope.", ["scope"], registry=on)
        self.loop_age = Gauge(
            "healer_loop_age_seconds", "Since a loop last finished a round.", ["loop"], registry=on
        )
        self.loop_stalled = Gauge(
            "healer_loop_stalled", "1 when a loop is later than it promised.", ["loop"], registry=on
        )
        self.lag = Gauge("healer_event_loop_lag_seconds", "How late timers fire.", registry=on)
        self.conditions = Gauge(
            "healer_condition",
            "1 while a person should mend something.",
            ["condition"],
            registry=on,
        )
        self.head_seq = Gauge("healer_journal_head_seq", "Number of the newest fact.", registry=on)
        self.head_hash = Gauge(
            "healer_journal_head_hash",
            "First 52 bits of the newest fact's chain hash: an anchor outside the journal.",
            registry=on,
        )
        self.store_up = Gauge("healer_store_up", "1 when the journal answers.", registry=on)
        self.leader = Gauge(
            "healer_leader",
            "1 while this replica polls and evaluates triggers; a single one always does.",
            registry=on,
        )
        self.playbooks = Gauge("healer_playbooks", "Playbooks loaded.", registry=on)
        self.scaling_demand = Gauge(
            "healer_scaling_demand", "Demand as it was measured last.", ["policy"], registry=on
        )
        self.scaling_served = Gauge(
            "healer_scaling_served",
            "Demand that the HPA is told; absent while a value is refused.",
            ["policy"],
            registry=on,
        )
        self.scaling_forecast = Gauge(
            "healer_scaling_forecast",
            "Highest demand foreseen within the horizon: lead, 1h or 24h.",
            ["policy", "horizon", "quantile"],
            registry=on,
        )
        self.scaling_skill = Gauge(
            "healer_scaling_forecast_skill",
            "1 is perfect, 0 as good as yesterday's load; below -0.1 it is not served.",
            ["policy"],
            registry=on,
        )
        self.scaling_refused = Gauge(
            "healer_scaling_refused",
            "1 while no value is served, by reason.",
            ["policy", "reason"],
            registry=on,
        )

    def call_failed(self, client: str, error: BaseException) -> None:
        """A call to `client` raised one of our errors."""
        word = _CAPITAL.sub(r"_\1", type(error).__name__).lower()
        self.calls_failed.labels(client, word).inc()

    def described(self) -> list["Described"]:
        """Every metric as the docs list it, by name as it is scraped."""
        found = []
        for one in vars(self).values():
            if not isinstance(one, Counter | Gauge | Histogram | Info):
                continue
            (family,) = one.describe()
            name = {"counter": f"{family.name}_total", "info": f"{family.name}_info"}.get(
                family.type, family.name
            )
            labels = _INFO_LABELS if family.type == "info" else one._labelnames  # noqa: SLF001
            found.append(Described(name, family.type, tuple(labels), family.documentation))
        return sorted(found, key=lambda described: described.name)


@dataclass(frozen=True, slots=True)
class Described:
    """One metric as the docs list it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


_INFO_LABELS = ("version", "python")
_CAPITAL = re.compile(r"(?<!^)([A-Z])")


class _Metered:
    """Stands in for a port and counts the errors that its calls raise."""

    def __init__(self, port: Any, client: str, instruments: Instruments) -> None:
        self._port = port
        self._client = client
        self._is = instruments

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return await found(*args, **kwargs)
            except HealerError as error:
                self._is.call_failed(self._client, error)
                raise

        setattr(self, name, call)
        return call


def metered(port: _P, client: str, instruments: Instruments) -> _P:
    """`port`, with every error of its calls counted as `healer_client_errors_total`."""
    return cast("_P", _Metered(port, client, instruments))


class MetricsListener:
    """Counts what the engine has committed. Also counts nothing twice: a run ends once."""

    def __init__(self, instruments: Instruments, started_at: float) -> None:
        self._is = instruments
        self._started_at = started_at
        self._ended: OrderedDict[str, None] = OrderedDict()

    def heard(self, episode: Episode, run: Run | None, facts: Sequence[Fact]) -> None:
        """These facts are on disk now."""
        for fact in facts:
            self._count(episode, fact)
        if run is not None and run.phase is Phase.DONE:
            self._end(run)

    def _count(self, episode: Episode, fact: Fact) -> None:
        reason = str(fact.reason or "")
        data = fact.data
        match fact.kind:
            case FactKind.VERDICT:
                self._is.verdicts.labels(str(data.get("effect", "")), reason).inc()
            case FactKind.INTENT:
                first = data.get("step") == 0 and data.get("attempt") == 0 and not data.get("undo")
                self._is.verdicts.labels("allow", reason).inc()
                if first:
                    self._is.reaction.observe(max(0.0, fact.at - episode.opened_at))
            case FactKind.OUTCOME:
                self._is.steps.labels(
                    str(data.get("action", "")), str(data.get("outcome", ""))
                ).inc()
            case FactKind.VERIFIED:
                self._is.verifications.labels(str(data.get("recovery", ""))).inc()
            case FactKind.DECIDED:
                self._is.settled.labels(reason).inc()
            case _:
                pass

    def _end(self, run: Run) -> None:
        if run.id in self._ended or (run.finished_at or 0.0) < self._started_at:
            return
        self._ended[run.id] = None
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
        self._is.runs.labels(str(run.result or ""), str(run.reason or "")).inc()
