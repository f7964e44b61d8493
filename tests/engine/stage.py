"""A stage for the engine: a real journal in a file, a fake cluster, and time under control."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from healer.actions.registry import ACTIONS
from healer.domain.alert import AlertStatus
from healer.domain.episode import Episode, fold
from healer.domain.journal import Fact
from healer.domain.playbook import Playbook
from healer.domain.target import Kind, TargetRef
from healer.domain.verdict import Reason
from healer.engine.sources.level import AlertLevel
from healer.engine.worker import tick
from healer.engine.world import EngineOptions, World
from healer.errors import Fenced
from healer.ports import EpisodeFilter
from healer.probes.registry import PROBES
from healer.store.sqlite import SqliteStore
from healer.testing.alerts import FakeAlerts
from healer.testing.builders import an_alert
from healer.testing.clock import FakeClock
from healer.testing.cluster import FakeCluster
from healer.testing.objects import a_node, a_workload, crashing_status, ready_status


class Stage:
    """Deployment shop/web with three pods on nodes of three zones, and what happens to it."""

    def __init__(self, store: SqliteStore, clock: FakeClock, *playbooks: Playbook) -> None:
        self.clock = clock
        self.store = store
        self.cluster = FakeCluster(clock)
        for zone in ("a", "b", "c"):
            self.cluster.add(a_node(f"node-{zone}", zone))
        self.web = self.cluster.add(a_workload(Kind.DEPLOYMENT, "web"))
        self.alerts = FakeAlerts(clock)
        self.playbooks = list(playbooks)
        self.world = World(
            store=store,
            cluster=self.cluster,
            clock=clock,
            actions=ACTIONS,
            probes=PROBES,
            playbooks=lambda: tuple(self.playbooks),
            owner="worker-1",
            alerts=self.alerts,
            options=EngineOptions(channels=("pager",), hold_page_seconds=30.0),
        )
        self.world.levels["alertmanager"] = AlertLevel(clock, None, self.alerts)

    def options(self, **changes: Any) -> None:
        """Change the engine's options."""
        self.world.options = replace(self.world.options, **changes)

    def pod(self, index: int = 0) -> TargetRef:
        """The index-th pod of the workload as it is now."""
        return self.cluster.pods_of(self.web)[index]

    def break_pod(self, ref: TargetRef) -> None:
        """The pod crash loops."""
        self.cluster.change(ref, {"status": crashing_status()})

    def mend_pod(self, ref: TargetRef) -> None:
        """The pod serves again by itself."""
        self.cluster.change(ref, {"status": ready_status()})

    async def fire(self, pod: TargetRef, labels: Mapping[str, str] | None = None) -> str:
        """The alert of this pod fires and is delivered; returns the episode's id."""
        alert = an_alert(labels={"pod": pod.name, **(labels or {})}, starts_at=self.clock.now())
        self.alerts.fire(alert.labels, alert.starts_at)
        await self.store.accept([alert], [], self.clock.now())
        await self.store.fold(fold, self.clock.now(), 100)
        found = await self.store.episodes(EpisodeFilter(limit=1000))
        return next(e.id for e in found if e.fingerprint == alert.fingerprint)

    async def deliver(self, labels: Mapping[str, str], *, later: bool = False) -> None:
        """Somebody delivers that this alert fires; `later` with a start of its own."""
        at = self.clock.now()
        alert = an_alert(labels=labels, **({"starts_at": at} if later else {}))
        await self.store.accept([alert], [], at)
        await self.fold()

    async def fold(self) -> None:
        """Fold all that was accepted."""
        await self.store.fold(fold, self.clock.now(), 1000)

    async def firing(self) -> list[Episode]:
        """Episodes whose alert fires."""
        return list(await self.store.episodes(EpisodeFilter(firing=True, limit=1000)))

    async def resolve(self, episode_id: str) -> None:
        """The episode's alert resolves and is delivered."""
        self.alerts.end((await self.episode(episode_id)).labels)
        await self.resolve_only(episode_id)

    async def resolve_only(self, episode_id: str) -> None:
        """The resolution is delivered."""
        episode = await self.episode(episode_id)
        alert = an_alert(
            status=AlertStatus.RESOLVED,
            labels=episode.labels,
            starts_at=episode.starts_at,
            ends_at=self.clock.now(),
        )
        await self.store.accept([alert], [], self.clock.now())
        await self.store.fold(fold, self.clock.now(), 100)

    async def settle(self, limit: int = 500) -> None:
        """Let the worker do all that is due now."""
        for _ in range(limit):
            claims = await self.store.claim(self.world.owner, self.clock.now(), 30.0, 50)
            if not claims:
                return
            for claim in claims:
                try:
                    while claim.owner:
                        claim = await tick(self.world, claim)  # noqa: PLW2901
                except Fenced:
                    continue
        raise AssertionError("the engine does not come to rest")

    async def work(self) -> None:
        """Let the worker do all that is due now, while steps that wait see their time pass."""
        working = asyncio.create_task(self.settle())
        while not working.done():
            self.clock.advance(0.1)
            await asyncio.wait({working}, timeout=0.01)
        await working

    async def pass_time(self, seconds: float, step: float = 5.0) -> None:
        """Let time pass in steps, and the worker work."""
        left = seconds
        while left > 0:
            self.clock.advance(min(step, left))
            left -= step
            await self.settle()

    async def episode(self, episode_id: str) -> Episode:
        """The episode as it is stored."""
        found = await self.store.episode(episode_id)
        assert found is not None
        return found

    async def facts(self, episode_id: str) -> list[Fact]:
        """The episode's facts in order."""
        return [sealed.fact for sealed in await self.store.facts(episode_id)]

    async def words(self, episode_id: str) -> list[str]:
        """The episode's facts as `kind:reason` words."""
        return [
            f"{fact.kind}:{fact.reason}" if isinstance(fact.reason, Reason) else str(fact.kind)
            for fact in await self.facts(episode_id)
        ]

    async def told(self) -> list[str]:
        """Titles of what waits in the outbox, oldest first."""
        due = await self.store.messages_due(self.clock.now() + 1e6, 1000)
        return [str(message.body["title"]) for message in due]

    def deleted(self) -> list[str]:
        """Names of pods that somebody asked to delete, in order."""
        return [write.ref.name for write in self.cluster.writes if write.call == "delete"]


@asynccontextmanager
async def a_stage(path: Path, *playbooks: Playbook) -> AsyncIterator[Stage]:
    """A stage whose journal is at `path`, closed afterwards."""
    clock = FakeClock()
    # A busy machine must not look like an overloaded journal.
    store = await SqliteStore.open(path / "healer.db", clock=clock, accept_seconds=10.0)
    try:
        yield Stage(store, clock, *playbooks)
    finally:
        await store.close()
