"""Watched Kubernetes conditions as triggers: they work when Prometheus does not."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from healer.domain.alert import Alert, AlertStatus
from healer.domain.episode import Episode
from healer.domain.playbook import Playbook, TriggerKind
from healer.domain.selection import CONDITION_SOURCE
from healer.domain.target import Kind
from healer.engine.world import World
from healer.kernel.ids import label_fingerprint
from healer.kernel.tasks import Progress
from healer.ports import EpisodeFilter, JsonObject, WatchKind

_log = logging.getLogger(__name__)

#: A crash loop alternates between waiting and running: it has ended once false for this long.
KEEP_SECONDS = 10.0
TICK_SECONDS = 1.0
#: Nothing at all from a watch, not even a bookmark, for this long means that it is dead.
WATCH_SILENCE_SECONDS = 180.0
#: The label that names the object, as kube-state-metrics names it.
LABEL_OF = {
    Kind.POD: "pod", Kind.NODE: "node", Kind.DEPLOYMENT: "deployment", Kind.JOB: "job_name",
    Kind.STATEFUL_SET: "statefulset", Kind.DAEMON_SET: "daemonset",
}  # fmt: skip


def condition_reasons(kind: Kind, found: JsonObject) -> frozenset[str]:
    """Every condition word that is true of the object now.

    Pods: waiting and terminated reasons, `NotReady`; nodes: `NotReady` and pressure conditions;
    Deployments: `ProgressDeadlineExceeded`, `ReplicaFailure`; Jobs: `Failed` and its reason.
    """
    status: Mapping[str, Any] = found.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    words: set[str] = set()
    match kind:
        case Kind.POD:
            for one in (
                *(status.get("containerStatuses") or ()),
                *(status.get("initContainerStatuses") or ()),
            ):
                waiting = (one.get("state") or {}).get("waiting") or {}
                ended = (one.get("state") or {}).get("terminated") or {}
                words |= {waiting.get("reason", ""), ended.get("reason", "")}
            words.add(status.get("reason", ""))
            ready = conditions.get("Ready")
            if ready and ready.get("status") != "True" and status.get("phase") == "Running":
                words.add("NotReady")
        case Kind.NODE:
            ready = conditions.get("Ready")
            if ready and ready.get("status") != "True":
                words.add("NotReady")
            words |= {
                name
                for name, c in conditions.items()
                if name != "Ready" and c.get("status") == "True"
            }
        case _:
            words |= {
                word
                for name, c in conditions.items()
                if _is_bad(str(name), c)
                for word in (str(name), str(c.get("reason", "")))
            }
    return frozenset(words - {"", "None"})


def _is_bad(name: str, condition: Mapping[str, Any]) -> bool:
    true = condition.get("status") == "True"
    if name in {"Progressing", "Available"}:
        return not true
    return true and name in {"Failed", "ReplicaFailure", "FailureTarget"}


@dataclass(slots=True)
class _Seen:
    labels: dict[str, str]
    since: float
    last: float  #: monotonic time when it was last true
    true: bool = True
    fired: bool = False


@dataclass(slots=True)
class _Watch:
    task: asyncio.Task[None]
    objects: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    synced: bool = False


class Conditions:
    """Follows the kinds that playbooks name, and turns lasting conditions into alerts.

    Every replica follows, because each needs to know what is so now; only the leader tells.
    """

    def __init__(self, world: World, progress: Progress, on_change: Callable[[], None]) -> None:
        self._world = world
        self._progress = progress
        self._on_change = on_change
        self._watches: dict[Kind, _Watch] = {}
        self._seen: dict[tuple[str, str], _Seen] = {}  #: (source, fingerprint)
        self._restored: set[str] = set()
        self._expected: set[Kind] = set()
        self._term = 0

    async def round(self) -> None:
        """Start the watches that are wanted, judge what they know, wait a tick."""
        try:
            self._follow({p.trigger.condition_kind for p in self._triggers()})
            await self.judge()
            await self._world.clock.sleep(TICK_SECONDS)
        except asyncio.CancelledError:
            self.stop()
            raise

    def stop(self) -> None:
        """End every watch."""
        for kind, watch in self._watches.items():
            watch.task.cancel()
            self._progress.forget(f"watch {kind}")
        self._watches.clear()
        self._expected.clear()

    def _triggers(self) -> list[Playbook]:
        return [p for p in self._world.playbooks() if p.trigger.kind is TriggerKind.CONDITION]

    def _follow(self, wanted: set[Kind | None]) -> None:
        for unwanted in set(self._watches) - wanted:
            self._watches.pop(unwanted).task.cancel()
            self._expected.discard(unwanted)
            self._progress.forget(f"watch {unwanted}")
        for kind in wanted - set(self._watches):
            if kind is not None:
                if kind not in self._expected:  # one that dies again and again makes no progress
                    self._expected.add(kind)
                    self._progress.expect(f"watch {kind}", WATCH_SILENCE_SECONDS)
                self._watches[kind] = _Watch(asyncio.create_task(self._run(kind)))
        for followed, watch in list(self._watches.items()):
            if watch.task.done():
                error = None if watch.task.cancelled() else watch.task.exception()
                _log.error("watch ended", extra={"kind": followed, "error": repr(error)})
                self._watches.pop(followed)

    async def _run(self, kind: Kind) -> None:
        async for event in self._world.cluster.watch(kind):
            self._progress.report(f"watch {kind}")
            watch = self._watches[kind]
            if event.kind is WatchKind.SYNCED:
                there = {(str(key[0]), str(key[1])) for key in event.object["keys"]}
                watch.objects = {k: v for k, v in watch.objects.items() if k in there}
                watch.synced = True
                continue
            if event.kind is WatchKind.BOOKMARK:
                continue
            meta = event.object.get("metadata") or {}
            key = (str(meta.get("namespace", "")), str(meta.get("name", "")))
            if event.kind is WatchKind.DELETED:
                watch.objects.pop(key, None)
                continue
            watch.objects[key] = condition_reasons(kind, event.object)

    async def judge(self) -> None:
        """Turn what the watches know into alerts: lasting ones fire, ended ones resolve."""
        term = self._world.term()
        if term != self._term:
            self._term = term
            self._restored.clear()  # others have told meanwhile; the journal knows of what
        mono = self._world.clock.monotonic()
        now = self._world.clock.now()
        alerts: list[Alert] = []
        live: set[str] = set()
        for playbook in self._triggers():
            source = CONDITION_SOURCE + playbook.name
            live.add(source)
            kind = playbook.trigger.condition_kind
            watch = self._watches.get(kind) if kind is not None else None
            if watch is None or not watch.synced or kind is None:
                continue  # blind: nothing fires and nothing resolves
            await self._restore(source, mono)
            self._note(playbook, kind, watch, source, mono)
            alerts += self._settle(playbook, source, mono, now)
        self._seen = {key: seen for key, seen in self._seen.items() if key[0] in live}
        if not term:
            self._remember([a for a in alerts if a.status is AlertStatus.RESOLVED])
        elif alerts and self._world.term() == term:
            await self._world.store.accept(alerts, [], now)
            self._remember(alerts)  # only now: what could not be told is told at the next tick
            self._on_change()

    def _remember(self, told: Sequence[Alert]) -> None:
        for alert in told:
            key = (alert.source, alert.fingerprint)
            if alert.status is AlertStatus.FIRING:
                self._seen[key].fired = True
            else:
                del self._seen[key]

    async def _restore(self, source: str, mono: float) -> None:
        """When a term begins, after a restart too, what the journal knows to fire is known here."""
        if source in self._restored:
            return
        for key, known in self._seen.items():
            known.fired &= key[0] != source
        for episode in await self._world.store.episodes(
            EpisodeFilter(source_prefix=source, firing=True, limit=10_000)
        ):
            if episode.source == source:
                seen = _Seen(dict(episode.labels), mono, mono, true=False)
                self._seen.setdefault((source, episode.fingerprint), seen).fired = True
        self._restored.add(source)

    def _note(
        self, playbook: Playbook, kind: Kind, watch: _Watch, source: str, mono: float
    ) -> None:
        for key, seen in self._seen.items():
            if key[0] == source:
                seen.true = False
        trigger = playbook.trigger
        for (namespace, name), words in watch.objects.items():
            if trigger.reason not in words:
                continue
            if trigger.namespaces and namespace not in trigger.namespaces:
                continue
            labels = {
                "alertname": playbook.name, LABEL_OF.get(kind, "name"): name,
                "reason": trigger.reason, **trigger.labels,
            }  # fmt: skip
            if namespace:
                labels["namespace"] = namespace
            fresh = _Seen(labels, mono, mono)
            seen = self._seen.setdefault((source, label_fingerprint(labels)), fresh)
            seen.true = True
            seen.last = mono

    def _settle(self, playbook: Playbook, source: str, mono: float, now: float) -> list[Alert]:
        out: list[Alert] = []
        for (owner, fingerprint), seen in list(self._seen.items()):
            if owner != source:
                continue
            lasted = mono - seen.since
            if seen.true and not seen.fired and lasted >= playbook.trigger.for_seconds:
                out.append(_alert(source, fingerprint, seen, AlertStatus.FIRING, now, lasted))
            elif not seen.true and mono - seen.last >= KEEP_SECONDS:
                if seen.fired:
                    out.append(_alert(source, fingerprint, seen, AlertStatus.RESOLVED, now, lasted))
                else:
                    del self._seen[(owner, fingerprint)]
        return out

    async def is_firing(self, episode: Episode) -> bool | None:
        """Whether the watched condition is, or was within `KEEP_SECONDS`, true."""
        name = episode.source.removeprefix(CONDITION_SOURCE)
        kind = next((p.trigger.condition_kind for p in self._triggers() if p.name == name), None)
        watch = self._watches.get(kind) if kind is not None else None
        if watch is None or not watch.synced or f"watch {kind}" in self._progress.stalled():
            return None  # blind: what was seen before says nothing of now
        if (episode.source, episode.fingerprint) in self._seen:
            return True
        return False if episode.source in self._restored else None


def _alert(
    source: str, fingerprint: str, seen: _Seen, status: AlertStatus, now: float, lasted: float
) -> Alert:
    return Alert(
        source=source,
        fingerprint=fingerprint,
        status=status,
        labels=seen.labels,
        starts_at=now - lasted,
        ends_at=now if status is AlertStatus.RESOLVED else None,
        polled_at=now,
    )
