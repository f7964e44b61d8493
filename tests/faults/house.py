"""The whole daemon but its sockets: every loop, a journal on disk, a fake cluster, virtual time.

A sick pod, its alert, an Alertmanager that delivers again until it is told 200, a person who says
yes when asked, a pager, and every port wrapped so that its n-th call can fail.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from healer.actions.registry import ACTIONS
from healer.domain.alert import Alert, AlertStatus
from healer.domain.episode import Episode, EpisodeState
from healer.domain.facts import Approval
from healer.domain.journal import FactKind
from healer.domain.manifests import is_bad, meta
from healer.domain.outcome import Outcome
from healer.domain.playbook import Playbook
from healer.domain.run import Phase
from healer.domain.target import Kind
from healer.engine import intake, outbox, worker
from healer.engine.sources.level import AlertLevel
from healer.engine.sources.poller import Poller
from healer.engine.world import EngineOptions, World
from healer.errors import HealerError
from healer.kernel.tasks import keep
from healer.ports import EpisodeFilter, HttpAnswer, Message
from healer.probes.registry import PROBES
from healer.store.chain import verify_chain
from healer.store.sqlite import SqliteStore
from healer.testing.alerts import FakeAlerts
from healer.testing.builders import an_alert
from healer.testing.clock import LoopClock
from healer.testing.cluster import FakeCluster
from healer.testing.metrics import FakeMetrics
from healer.testing.objects import a_node, a_workload, crashing_status, ready_status
from tests.faults.injector import Plan, Port
from tests.faults.virtual import VirtualLoop

RESTING = {EpisodeState.CLOSED, EpisodeState.SETTLED, EpisodeState.ESCALATED}
#: Whatever is done ends by then, hours of waiting for a lost lookup included. Virtual seconds.
PATIENCE = 7200.0
#: How often the surroundings look at the world. Virtual seconds.
TICK = 5.0


class Service:
    """What a playbook calls by HTTP: it mends the pod, and counts what was done for each key."""

    def __init__(self, house: "House") -> None:
        self._house = house
        self.done: Counter[str] = Counter()

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None,
        body: bytes = b"", timeout: float = 10.0,  # noqa: ASYNC109 - the port says so
    ) -> HttpAnswer:  # fmt: skip
        self.done[(headers or {}).get("Idempotency-Key", "")] += 1
        for pod in self._house.cluster.pods_of(self._house.web):
            self._house.cluster.change(pod, {"status": ready_status()})
        return HttpAnswer(204, b"", 0.01)


class Pager:
    """A notifier that remembers."""

    name = "pager"

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)


class House:
    """Everything, and what became of it."""

    def __init__(
        self, loop: VirtualLoop, store: SqliteStore, plan: Plan, playbook: Playbook
    ) -> None:
        self.clock = clock = LoopClock()
        self.store = store
        self.cluster = FakeCluster(clock)
        for zone in ("a", "b", "c"):
            self.cluster.add(a_node(f"node-{zone}", zone))
        self.web = self.cluster.add(a_workload(Kind.DEPLOYMENT, "web"))
        self.alerts = FakeAlerts(clock)
        self.metrics = FakeMetrics(clock)
        self.service, self.pager = Service(self), Pager()
        self._sick = self.cluster.pods_of(self.web)[0]
        self._resolved = asyncio.Event()

        def port(inner: Any, name: str) -> Any:
            return Port(inner, name, plan, loop, clock)

        self.world = World(
            store=port(store, "store"), cluster=port(self.cluster, "cluster"), clock=clock,
            actions=ACTIONS, probes=PROBES, playbooks=lambda: (playbook,), owner="worker-1",
            alerts=port(self.alerts, "alerts"), metrics=port(self.metrics, "metrics"),
            http=port(self.service, "http"),
            options=EngineOptions(channels=("pager",), absent_seconds=600.0),
        )  # fmt: skip
        self._notifiers = {"pager": port(self.pager, "notifier")}
        self._labels: Mapping[str, str] = {}

    # ------------------------------------------------------------------ the surroundings

    async def _deliver(self, alert: Alert) -> None:
        """As Alertmanager: again and again until it is accepted."""
        while True:
            try:
                await self.world.store.accept([alert], [], self.clock.now())
            except HealerError:
                await self.clock.sleep(TICK)
            else:
                return

    async def _alertmanager(self) -> None:
        """The alert fires while a pod is bad, is sent again, and resolves afterwards."""
        alert = an_alert(labels={"pod": self._sick.name}, starts_at=self.clock.now())
        self._labels = alert.labels
        self.cluster.change(self._sick, {"status": crashing_status()})
        self.alerts.fire(alert.labels, alert.starts_at)
        await self._deliver(alert)
        while self._bad():
            await self.clock.sleep(TICK)
        self.alerts.end(alert.labels)
        over = an_alert(
            status=AlertStatus.RESOLVED, labels=alert.labels, starts_at=alert.starts_at,
            ends_at=self.clock.now(),
        )  # fmt: skip
        await self._deliver(over)
        self._resolved.set()

    def _bad(self) -> bool:
        now = self.clock.now()
        pods = [self.cluster.object(pod) for pod in self.cluster.pods_of(self.web)]
        return any(is_bad(pod, now) for pod in pods)

    async def _person(self) -> None:
        """Says yes to whatever is asked, once it is shown."""
        while True:
            waiting = EpisodeFilter(states=(EpisodeState.AWAITING_APPROVAL,))
            for episode in await self.store.episodes(waiting):
                run = (await self.store.runs(episode.id, limit=1))[0]
                now = self.clock.now()
                yes = Approval(run.plan.digest, True, "ada", now, now + 1800.0)
                try:
                    await self.world.store.answer(episode.id, yes, now)
                except HealerError:
                    continue
            await self.clock.sleep(TICK)

    # ------------------------------------------------------------------ the daemon

    async def live(self, loop: VirtualLoop) -> Episode:
        """Run until the one episode rests for good; then once more until nothing is left to say."""
        lives = worker.Worker(self.world)
        takes = intake.Intake(self.world, lives.wake)
        level = AlertLevel(self.clock, self.world.metrics, self.world.alerts)
        self.world.levels["alertmanager"] = level
        tells = outbox.Outbox(self.world, self._notifiers)
        bodies = {
            "intake": takes.round, "worker": lives.round, "leases": lives.renew,
            "outbox": tells.round, "poller": Poller(self.world, level, takes.wake).round,
        }  # fmt: skip
        tasks = [
            asyncio.create_task(keep(name, body, clock=self.clock)) for name, body in bodies.items()
        ]
        around = asyncio.create_task(self._alertmanager())
        tasks += [around, asyncio.create_task(self._person())]
        try:
            return await self._rest(loop)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await lives.drain(1.0)
            if around.done() and not around.cancelled():
                around.result()

    async def _rest(self, loop: VirtualLoop) -> Episode:
        ends = loop.time() + PATIENCE
        while loop.time() < ends:
            with loop.thread():
                found = await self.store.episodes(EpisodeFilter(limit=10))
                owed = (await self.store.counts())["outbox"]
            if len(found) == 1 and self._rests(found[0]) and not owed:
                return found[0]
            await self.clock.sleep(TICK)
        raise AssertionError(f"it never comes to rest: {found}, {owed} messages are owed")

    def _rests(self, episode: Episode) -> bool:
        """Closed; or left to a person while the alert fires on."""
        if episode.state is EpisodeState.CLOSED:
            return True
        return episode.state in RESTING and not self._resolved.is_set() and self._bad()

    # ------------------------------------------------------------------ what must hold

    async def judge(self, episode: Episode) -> str:
        """Raises for a broken promise; returns how the episode ended, with the steps' outcomes."""
        assert await verify_chain(self.store) is None
        facts = [sealed.fact for sealed in await self.store.facts(episode.id)]
        counted = Counter(fact.kind for fact in facts)
        runs = await self.store.runs(episode.id)
        records = [record for run in runs for record in run.steps]
        for run in runs:
            assert run.phase is Phase.DONE or episode.state is EpisodeState.SETTLED, run
        for record in records:
            assert record.outcome is not None, record
        intents = [f.data["key"] for f in facts if f.kind is FactKind.INTENT]
        assert sorted(intents) == sorted(record.key for record in records), "intents are facts"
        assert counted[FactKind.OUTCOME] >= len(records), "every outcome is a fact"
        assert counted[FactKind.ACCEPTED] >= 1
        if episode.state is EpisodeState.CLOSED:
            assert counted[FactKind.CLOSED] == 1
        if episode.state is EpisodeState.ESCALATED:
            assert counted[FactKind.ESCALATED] == 1
            assert any("failed" in m.id for m in self.pager.messages), "a person is told"
        told = {Outcome.APPLIED, Outcome.ALREADY_DONE, Outcome.UNKNOWN}
        may = sum(record.outcome in told for record in records)
        assert self.effects() <= may, f"{self.effects()} effects, but {records}"
        assert all(times <= 1 for times in self.service.done.values()), self.service.done
        outcomes = ",".join(str(r.outcome) for r in sorted(records, key=lambda r: r.intent_at))
        return f"{episode.result}[{outcomes}]"

    def effects(self) -> int:
        """How often the world was really changed: new generations, and requests served."""
        generation = int(meta(self.cluster.object(self.web))["generation"])
        return generation - 1 + sum(self.service.done.values())


async def lived(loop: VirtualLoop, folder: Path, plan: Plan, playbook: Playbook) -> str:
    """One life with one fault; how it ended."""
    clock = LoopClock()
    with loop.thread():
        store = await SqliteStore.open(
            folder / "healer.db", clock=clock, accept_seconds=60.0, write_seconds=60.0
        )
    try:
        house = House(loop, store, plan, playbook)
        episode = await house.live(loop)
        with loop.thread():
            return await house.judge(episode)
    finally:
        with loop.thread():
            await store.close()
