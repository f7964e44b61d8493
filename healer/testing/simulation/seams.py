"""The ports as one process has them: each call goes over a line that may fail."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from healer.domain.alert import Alert, Rejected
from healer.domain.episode import Episode, Fold
from healer.domain.facts import Approval
from healer.domain.journal import Sealed
from healer.domain.pause import Pause
from healer.domain.run import Run
from healer.domain.target import DomainHealth, Kind, Observation, TargetRef
from healer.ports import (
    AlertingRule,
    Alerts,
    Change,
    Claim,
    Cluster,
    EpisodeFilter,
    JsonObject,
    Ledger,
    LedgerQuery,
    Message,
    Metrics,
    PatchType,
    Permission,
    Receipt,
    Sample,
    Store,
    WatchEvent,
)
from healer.testing.simulation.lines import Line


@dataclass(slots=True)
class SeamStore:
    """The journal over a line. `news` is called after each write."""

    store: Store
    line: Line
    news: Callable[[], None]

    async def accept(
        self, alerts: Sequence[Alert], rejected: Sequence[Rejected], at: float
    ) -> Receipt:
        """`healer.ports.Store.accept`; a lost answer is a 503 for something that was kept."""
        done = await self.line.call("accept", lambda: self.store.accept(alerts, rejected, at))
        self.news()
        return done

    async def fold(
        self, decide: Callable[[Episode | None, Alert, float], Fold], now: float, limit: int
    ) -> Sequence[tuple[Alert, Fold]]:
        """`healer.ports.Store.fold`."""
        done = await self.line.call(
            "fold", lambda: self.store.fold(decide, now, limit), effect=False
        )
        if done:
            self.news()
        return done

    async def claim(
        self, owner: str, now: float, lease_seconds: float, limit: int
    ) -> Sequence[Claim]:
        """`healer.ports.Store.claim`."""
        return await self.line.call(
            "claim", lambda: self.store.claim(owner, now, lease_seconds, limit)
        )

    async def commit(self, claim: Claim, change: Change) -> Claim:
        """`healer.ports.Store.commit`."""
        what = "commit"
        if change.step is not None:
            what = "intent" if change.step.outcome is None else "outcome"
        done = await self.line.call(what, lambda: self.store.commit(claim, change), effect=False)
        self.news()
        return done

    async def renew(self, claims: Sequence[Claim], now: float, lease_seconds: float) -> set[str]:
        """`healer.ports.Store.renew`."""
        return await self.line.call(
            "renew", lambda: self.store.renew(claims, now, lease_seconds), effect=False
        )

    async def ledger(self, query: LedgerQuery, now: float) -> Ledger:
        """`healer.ports.Store.ledger`."""
        return await self.line.call("ledger", lambda: self.store.ledger(query, now), effect=False)

    async def answer(self, episode_id: str, approval: Approval, now: float) -> None:
        """`healer.ports.Store.answer`."""
        await self.line.call("answer", lambda: self.store.answer(episode_id, approval, now))
        self.news()

    async def acknowledge(self, episode_id: str, by: str, note: str, now: float) -> None:
        """`healer.ports.Store.acknowledge`."""
        await self.line.call(
            "acknowledge", lambda: self.store.acknowledge(episode_id, by, note, now)
        )
        self.news()

    async def set_pause(self, pause: Pause) -> None:
        """`healer.ports.Store.set_pause`."""
        await self.line.call("set_pause", lambda: self.store.set_pause(pause))
        self.news()

    async def clear_pause(self, pause_id: str, by: str, now: float) -> bool:
        """`healer.ports.Store.clear_pause`."""
        done = await self.line.call(
            "clear_pause", lambda: self.store.clear_pause(pause_id, by, now)
        )
        self.news()
        return done

    async def reset_breaker(self, playbook: str, by: str, now: float) -> None:
        """`healer.ports.Store.reset_breaker`."""
        await self.line.call("reset_breaker", lambda: self.store.reset_breaker(playbook, by, now))
        self.news()

    async def pauses(self) -> Sequence[Pause]:
        """`healer.ports.Store.pauses`."""
        return await self.line.call("pauses", self.store.pauses, effect=False)

    async def episode(self, episode_id: str) -> Episode | None:
        """`healer.ports.Store.episode`."""
        return await self.line.call("episode", lambda: self.store.episode(episode_id), effect=False)

    async def episodes(self, which: EpisodeFilter) -> Sequence[Episode]:
        """`healer.ports.Store.episodes`."""
        return await self.line.call("episodes", lambda: self.store.episodes(which), effect=False)

    async def runs(self, episode_id: str = "", limit: int = 100) -> Sequence[Run]:
        """`healer.ports.Store.runs`."""
        return await self.line.call(
            "runs", lambda: self.store.runs(episode_id, limit), effect=False
        )

    async def facts(self, episode_id: str = "", after: int = 0, limit: int = 1000) -> list[Sealed]:
        """`healer.ports.Store.facts`."""
        return await self.line.call(
            "facts", lambda: self.store.facts(episode_id, after, limit), effect=False
        )

    async def messages_due(self, now: float, limit: int) -> Sequence[Message]:
        """`healer.ports.Store.messages_due`."""
        return await self.line.call(
            "messages_due", lambda: self.store.messages_due(now, limit), effect=False
        )

    async def take_message(self, message_id: str, now: float, seconds: float) -> bool:
        """`healer.ports.Store.take_message`."""
        return await self.line.call(
            "take_message", lambda: self.store.take_message(message_id, now, seconds)
        )

    async def message_done(self, message_id: str, delivered: bool, retry_at: float) -> None:
        """`healer.ports.Store.message_done`."""
        await self.line.call(
            "message_done", lambda: self.store.message_done(message_id, delivered, retry_at)
        )
        self.news()

    async def next_due(self) -> float | None:
        """`healer.ports.Store.next_due`."""
        return await self.line.call("next_due", self.store.next_due, effect=False)

    async def counts(self) -> Mapping[str, int]:
        """`healer.ports.Store.counts`."""
        return await self.line.call("counts", self.store.counts, effect=False)

    async def playbook_text(self, sha256: str) -> str | None:
        """`healer.ports.Store.playbook_text`."""
        return await self.line.call(
            "playbook_text", lambda: self.store.playbook_text(sha256), effect=False
        )

    async def close(self) -> None:
        """`healer.ports.Store.close`."""
        await self.store.close()


@dataclass(slots=True)
class SeamCluster:
    """The API server over a line; what it answered a moment ago may come once more."""

    cluster: Cluster
    line: Line
    bump: Callable[[TargetRef], None]  #: somebody else changes the object first
    _looks: dict[TargetRef, tuple[float, Observation]] = field(default_factory=dict)

    async def observe(self, ref: TargetRef) -> Observation:
        """`healer.ports.Cluster.observe`."""
        line = self.line
        now = line.loop.time()
        if line.trouble.stale and line.dice.random() < line.trouble.stale:
            at, seen = self._looks.get(ref, (-1e9, None))
            if seen is not None and now - at <= 5.0:
                line.injected.counts["cluster: stale"] += 1
                line.process.check()
                return seen
        seen = await line.call("observe", lambda: self.cluster.observe(ref), effect=False)
        self._looks[ref] = (line.loop.time(), seen)
        return seen

    async def get(self, ref: TargetRef) -> JsonObject:
        """`healer.ports.Cluster.get`."""
        return await self.line.call("get", lambda: self.cluster.get(ref), effect=False)

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Sequence[JsonObject]:
        """`healer.ports.Cluster.list`."""
        return await self.line.call(
            "list",
            lambda: self.cluster.list(kind, namespace, labels=labels, fields=fields),
            effect=False,
        )

    async def patch(
        self,
        ref: TargetRef,
        body: JsonObject | Sequence[JsonObject],
        kind: PatchType,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> JsonObject:
        """`healer.ports.Cluster.patch`."""
        line = self.line
        if line.trouble.conflict and line.dice.random() < line.trouble.conflict:
            line.injected.counts["cluster: conflict"] += 1
            self.bump(ref)
        return await line.call(
            "patch",
            lambda: self.cluster.patch(ref, body, kind, subresource=subresource, dry_run=dry_run),
        )

    async def delete(
        self, ref: TargetRef, *, grace_seconds: int | None = None, dry_run: bool = False
    ) -> None:
        """`healer.ports.Cluster.delete`."""
        await self.line.call(
            "delete",
            lambda: self.cluster.delete(ref, grace_seconds=grace_seconds, dry_run=dry_run),
        )

    async def evict(self, ref: TargetRef, *, dry_run: bool = False) -> None:
        """`healer.ports.Cluster.evict`."""
        await self.line.call("evict", lambda: self.cluster.evict(ref, dry_run=dry_run))

    async def create(self, manifest: JsonObject, *, dry_run: bool = False) -> JsonObject:
        """`healer.ports.Cluster.create`."""
        return await self.line.call(
            "create", lambda: self.cluster.create(manifest, dry_run=dry_run)
        )

    async def missing_right(self, permission: Permission, namespace: str) -> str:
        """`healer.ports.Cluster.missing_right`."""
        return await self.cluster.missing_right(permission, namespace)

    async def zones(self) -> Mapping[str, DomainHealth]:
        """`healer.ports.Cluster.zones`."""
        return await self.line.call("zones", self.cluster.zones, effect=False)

    def watch(self, kind: Kind, namespace: str = "") -> AsyncIterator[WatchEvent]:
        """`healer.ports.Cluster.watch`."""
        return self.cluster.watch(kind, namespace)


@dataclass(slots=True)
class SeamAlerts:
    """Alertmanager over a line."""

    alerts: Alerts
    line: Line

    async def firing(self, receiver: str = "") -> Sequence[Alert]:
        """`healer.ports.Alerts.firing`."""
        return await self.line.call("firing", lambda: self.alerts.firing(receiver), effect=False)

    async def silence(
        self, matchers: Mapping[str, str], seconds: float, comment: str, now: float
    ) -> str:
        """`healer.ports.Alerts.silence`."""
        return await self.line.call(
            "silence", lambda: self.alerts.silence(matchers, seconds, comment, now)
        )

    async def expire(self, silence_id: str) -> None:
        """`healer.ports.Alerts.expire`."""
        await self.line.call("expire", lambda: self.alerts.expire(silence_id))

    async def post(self, alerts: Sequence[Alert]) -> None:
        """`healer.ports.Alerts.post`."""
        await self.line.call("post", lambda: self.alerts.post(alerts))

    async def ready(self) -> None:
        """`healer.ports.Alerts.ready`."""
        await self.line.call("ready", self.alerts.ready, effect=False)


@dataclass(slots=True)
class SeamMetrics:
    """Prometheus over a line."""

    metrics: Metrics
    line: Line

    async def query(self, expr: str) -> Sequence[Sample]:
        """`healer.ports.Metrics.query`."""
        return await self.line.call("query", lambda: self.metrics.query(expr), effect=False)

    async def query_many(self, exprs: Sequence[str]) -> Mapping[str, Sequence[Sample] | Exception]:
        """`healer.ports.Metrics.query_many`."""
        return await self.line.call(
            "query_many", lambda: self.metrics.query_many(exprs), effect=False
        )

    async def rules(self) -> Sequence[AlertingRule]:
        """`healer.ports.Metrics.rules`."""
        return await self.line.call("rules", self.metrics.rules, effect=False)

    async def firing(self) -> Sequence[Alert]:
        """`healer.ports.Metrics.firing`."""
        return await self.line.call("firing", self.metrics.firing, effect=False)

    async def ready(self) -> None:
        """`healer.ports.Metrics.ready`."""
        await self.line.call("ready", self.metrics.ready, effect=False)
