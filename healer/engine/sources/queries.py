"""PromQL triggers: every series that a playbook's own query returns for long enough is an alert."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from healer.domain.alert import Alert, AlertStatus
from healer.domain.episode import Episode
from healer.domain.playbook import Playbook, TriggerKind
from healer.domain.selection import QUERY_SOURCE
from healer.engine.world import World
from healer.errors import HealerError, Refused
from healer.kernel.ids import label_fingerprint
from healer.ports import EpisodeFilter, Metrics, Sample

_log = logging.getLogger(__name__)

#: A trigger that returns more series is about everything and so about nothing: it is refused.
MAX_SERIES = 1000
#: How often triggers are looked at for being due. Seconds.
TICK_SECONDS = 1.0


@dataclass(slots=True)
class _Pending:
    """What one trigger knows between two evaluations; losing it only restarts `for`."""

    next_at: float = 0.0
    since: dict[str, float] = field(default_factory=dict)  #: fingerprint → true since
    firing: dict[str, Alert] = field(default_factory=dict)  #: what the journal was told of
    restored: bool = False


class Queries:
    """Evaluates all due triggers together, with as few requests as Prometheus allows."""

    def __init__(self, world: World, metrics: Metrics, on_change: Callable[[], None]) -> None:
        self._world = world
        self._metrics = metrics
        self._on_change = on_change
        self._pending: dict[str, _Pending] = {}
        self._term = 0

    async def round(self) -> None:
        """Evaluate what is due, then wait a tick."""
        await self.evaluate()
        await self._world.clock.sleep(TICK_SECONDS)

    async def evaluate(self) -> None:
        """One evaluation of every due trigger, if we lead, and still do when there are answers."""
        term = self._world.term()
        if term != self._term:
            self._term = term
            self._pending.clear()  # `for` starts anew, and what fires is what the journal knows
        if not term:
            return
        mono = self._world.clock.monotonic()
        due = [p for p in self._triggers() if self._state(p).next_at <= mono]
        if not due:
            return
        try:
            answers = await self._metrics.query_many([p.trigger.expr for p in due])
        except HealerError as error:
            answers = {p.trigger.expr: error for p in due}
        found: list[Alert] = []
        for playbook in due:
            state = self._state(playbook)
            state.next_at = mono + playbook.trigger.every_seconds
            answer = _bounded(answers[playbook.trigger.expr])
            if isinstance(answer, Exception):
                state.since.clear()  # a gap: `for` starts anew; what fires is held
                _log.warning(
                    "trigger cannot be evaluated",
                    extra={"playbook": playbook.name, "error": str(answer)},
                )
                continue
            found += await self._step(playbook, state, answer, mono)
        if found and self._world.term() == term:
            await self._world.store.accept(found, [], self._world.clock.now())
            self._remember(found)  # only now: what could not be told is told with the next answer
            self._on_change()

    def _remember(self, told: Sequence[Alert]) -> None:
        by_source = {
            QUERY_SOURCE + playbook.name: self._state(playbook) for playbook in self._triggers()
        }
        for alert in told:
            firing = by_source[alert.source].firing
            if alert.status is AlertStatus.FIRING:
                firing[alert.fingerprint] = alert
            else:
                firing.pop(alert.fingerprint, None)

    def _triggers(self) -> list[Playbook]:
        return [p for p in self._world.playbooks() if p.trigger.kind is TriggerKind.QUERY]

    def _state(self, playbook: Playbook) -> _Pending:
        return self._pending.setdefault(f"{playbook.name}/{playbook.sha256}", _Pending())

    async def _step(
        self, playbook: Playbook, state: _Pending, samples: Sequence[Sample], mono: float
    ) -> list[Alert]:
        source = QUERY_SOURCE + playbook.name
        now = self._world.clock.now()
        if not state.restored:
            episodes = await self._world.store.episodes(
                EpisodeFilter(source_prefix=source, firing=True, limit=10_000)
            )
            state.firing = {e.fingerprint: _as_alert(e) for e in episodes if e.source == source}
            state.restored = True
        present = {label_fingerprint(labels): labels for labels in _labels(playbook, samples)}
        out: list[Alert] = []
        for fingerprint, labels in present.items():
            since = state.since.setdefault(fingerprint, mono)
            if fingerprint not in state.firing and mono - since >= playbook.trigger.for_seconds:
                out.append(
                    Alert(
                        source=source,
                        fingerprint=fingerprint,
                        status=AlertStatus.FIRING,
                        labels=labels,
                        starts_at=now - (mono - since),
                        annotations={"summary": playbook.summary},
                        polled_at=now,
                    )
                )
        state.since = {f: at for f, at in state.since.items() if f in present}
        out += (
            replace(alert, status=AlertStatus.RESOLVED, ends_at=now, polled_at=now)
            for fingerprint, alert in state.firing.items()
            if fingerprint not in present
        )
        return out

    async def is_firing(self, episode: Episode) -> bool | None:
        """Whether the trigger's query still returns the episode's series."""
        name = episode.source.removeprefix(QUERY_SOURCE)
        playbook = next((p for p in self._world.playbooks() if p.name == name), None)
        if playbook is None:
            return None
        try:
            samples = _within(await self._metrics.query(playbook.trigger.expr))
        except HealerError as error:
            _log.warning("trigger cannot be asked", extra={"error": str(error)})
            return None
        labels = _labels(playbook, samples)
        return any(label_fingerprint(found) == episode.fingerprint for found in labels)


def _within(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Raises Refused for too many."""
    if len(samples) > MAX_SERIES:
        raise Refused(
            f"the trigger's query returns {len(samples)} series, more than {MAX_SERIES}; aggregate "
            "it to the objects that are to be acted on, e.g. max by (namespace, pod) (…)"
        )
    return samples


def _bounded(answer: Sequence[Sample] | Exception) -> Sequence[Sample] | Exception:
    if isinstance(answer, Exception):
        return answer
    try:
        return _within(answer)
    except Refused as error:
        return error


def _as_alert(episode: Episode) -> Alert:
    return Alert(
        source=episode.source,
        fingerprint=episode.fingerprint,
        status=AlertStatus.FIRING,
        labels=episode.labels,
        starts_at=episode.starts_at,
    )


def _labels(playbook: Playbook, samples: Sequence[Sample]) -> list[Mapping[str, str]]:
    return [
        {
            **{name: value for name, value in sample.labels.items() if name != "__name__"},
            **playbook.trigger.labels,
            "alertname": playbook.name,
        }
        for sample in samples
    ]
