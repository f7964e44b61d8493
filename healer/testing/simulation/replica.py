"""One healer: the real engine over lines that may fail, as a process that can be killed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from healer.actions.registry import ACTIONS
from healer.domain.alert import Alert
from healer.domain.playbook import Playbook
from healer.engine.intake import IDLE_SECONDS, Intake
from healer.engine.outbox import Outbox
from healer.engine.sources.level import AlertLevel
from healer.engine.sources.poller import ALERTMANAGER_SOURCE, Poller
from healer.engine.worker import Worker
from healer.engine.world import EngineOptions, World
from healer.errors import (
    HealerError,
    ServerFailed,
    StoreUnavailable,
    Throttled,
    TimedOut,
    Unreachable,
)
from healer.kernel.tasks import keep
from healer.ports import Http, HttpAnswer, Message, Store
from healer.probes.registry import PROBES
from healer.testing.history import Effect
from healer.testing.simulation.alertmanager import Peer
from healer.testing.simulation.clock import LOOP, Idling, ProcessClock, Wall
from healer.testing.simulation.lines import Injected, Line, Trouble
from healer.testing.simulation.loop import Killed, Process, SimulatedLoop
from healer.testing.simulation.model import ModelCluster
from healer.testing.simulation.rules import Prometheus
from healer.testing.simulation.scenario import ONCE
from healer.testing.simulation.seams import SeamAlerts, SeamCluster, SeamMetrics, SeamStore
from healer.testing.store import MemoryStore
from healer.testing.store_journal import MemoryJournal

LEASE_SECONDS = 30.0

#: What a mutant changes of a replica before it starts. None in real simulations.
Mutation = Callable[["Replica"], None]

_Errors = Sequence[Callable[[], HealerError]]
_JOURNAL: _Errors = (lambda: StoreUnavailable("the journal cannot commit now"),)
_NOTHING: _Errors = (
    lambda: Unreachable("connection refused", sent=False),
    lambda: Throttled("too many requests", retry_after=2.0),
    lambda: ServerFailed("500 before anything", may_have_happened=False),
)
_PERHAPS: _Errors = (
    lambda: TimedOut("no answer in time"),
    lambda: Unreachable("connection reset", sent=True),
    lambda: ServerFailed("500 after everything", may_have_happened=True),
)


@dataclass(slots=True)
class Surroundings:
    """What every replica of one history shares."""

    loop: SimulatedLoop
    wall: Wall
    dice: Random
    journal: MemoryJournal
    idling: Idling
    cluster: ModelCluster
    prometheus: Prometheus | None
    peers: Sequence[Peer]
    playbooks: tuple[Playbook, ...]
    injected: Injected
    say: Callable[[str, str], None]
    options: EngineOptions
    pages: list[Message] = field(default_factory=list)
    calls: list[Effect] = field(default_factory=list)  #: requests that had their effect
    pager_down: bool = False
    mutation: Mutation | None = None
    skew: float = 0.0  #: how far the replicas' clocks are apart at most


@dataclass(slots=True)
class Pager:
    """`healer.ports.Notifier` and, for `http_call`, `healer.ports.Http`."""

    around: Surroundings
    line: Line
    name: str = "pager"

    async def send(self, message: Message) -> None:
        """A page, kept."""
        await self.line.call("page", lambda: self._page(message))

    async def _page(self, message: Message) -> None:
        if self.around.pager_down:
            raise Unreachable("the pager does not answer", sent=False)
        self.around.pages.append(message)
        self.around.say("pager", str(message.body.get("title", "")))

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout: float = 10.0,  # noqa: ASYNC109 - the port's own
    ) -> HttpAnswer:
        """A request; what the server does once for each key is an effect once."""
        return await self.line.call(url, lambda: self._answer(method, url, headers or {}))

    async def _answer(self, method: str, url: str, headers: Mapping[str, str]) -> HttpAnswer:
        if method not in {"GET", "HEAD"}:
            key = headers.get("Idempotency-Key", "")
            now = self.around.wall.now()
            if url == ONCE and any(call.key == key for call in self.around.calls):
                return HttpAnswer(200, b"", 0.0)
            self.around.calls.append(Effect(now, method, url, "", "", 200, "", key))
            self.around.say("http", f"effect: {method} {url} {key}")
        return HttpAnswer(200, b"", 0.0)


class Replica:
    """A healer process and those that come after it under the same name."""

    def __init__(self, name: str, around: Surroundings, trouble: Mapping[str, Trouble]) -> None:
        self.name = name
        self.around = around
        self.trouble = trouble
        self.starts = 0
        self.cuts: dict[str, float] = {}  #: lines that are cut, and since when; outlive a process
        self.blind: list[tuple[float, float]] = []  #: when it could not ask what fires
        self.polls = True
        self.start()

    def start(self) -> None:
        """A new process, with nothing but the journal."""
        around, loop = self.around, self.around.loop
        self.starts += 1
        self.process = Process(f"{self.name}.{self.starts}")
        self.lines = {
            "journal": self._line("journal", _JOURNAL, _JOURNAL),
            "cluster": self._line("cluster", _NOTHING, _PERHAPS),
            "alerts": self._line("alerts", _NOTHING, _PERHAPS),
            "metrics": self._line("metrics", _NOTHING, _PERHAPS),
            "pager": self._line("pager", _NOTHING, _PERHAPS),
        }
        for name, since in self.cuts.items():
            self.lines[name].cut_since = since
        self.clock = ProcessClock(
            loop, around.wall, around.idling, self._is_idle, around.dice.uniform(0, around.skew)
        )
        store: Store = SeamStore(
            MemoryStore(around.journal, clock=self.clock), self.lines["journal"], around.idling.news
        )
        pager = Pager(around, self.lines["pager"])
        http: Http = pager
        peer = around.peers[around.dice.randrange(len(around.peers))]
        self.world = World(
            store=store,
            cluster=SeamCluster(around.cluster, self.lines["cluster"], around.cluster.bump),
            clock=self.clock,
            actions=ACTIONS,
            probes=PROBES,
            playbooks=lambda: around.playbooks,
            owner=self.process.name,
            metrics=(
                SeamMetrics(around.prometheus, self.lines["metrics"])
                if around.prometheus is not None
                else None
            ),
            alerts=SeamAlerts(peer, self.lines["alerts"]),
            http=http,
            options=replace(around.options, channels=("pager",)),
        )
        if around.mutation is not None:
            around.mutation(self)
        self._begin(pager)

    def _begin(self, pager: Pager) -> None:
        world, loop = self.world, self.around.loop
        self.tasks: list[asyncio.Task[None]] = []
        self.worker = Worker(world)
        self.intake = Intake(world, self.worker.wake)
        level = AlertLevel(self.clock, world.metrics, world.alerts)
        world.levels[ALERTMANAGER_SOURCE] = level
        self.poller = Poller(world, level, self.intake.wake)
        rounds: dict[str, Callable[[], Awaitable[None]]] = {
            "intake": self.intake.round,
            "worker": self.worker.round,
            "leases": self.worker.renew,
            "outbox": Outbox(world, {"pager": pager}).round,
        }
        if self.polls:
            rounds["poller"] = self.poller.round
        for name, body in rounds.items():
            self.tasks.append(loop.within(self.process, self._keep(name, body)))

    async def _keep(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        LOOP.set(name)
        await keep(name, body, clock=self.clock)

    def _line(self, name: str, nothing: _Errors, perhaps: _Errors) -> Line:
        around = self.around
        return Line(
            name, around.loop, self.process, around.dice, self.trouble[name], around.injected,
            lambda text: around.say(self.process.name, text), nothing, perhaps,
        )  # fmt: skip

    def _is_idle(self, seconds: float) -> bool:
        if seconds == IDLE_SECONDS and LOOP.get() in {"intake", "worker", "outbox"}:
            return True
        mine = self.process.name
        return seconds == LEASE_SECONDS / 3 and not any(
            row.owner == mine for row in self.around.journal.active.values()
        )

    # ------------------------------------------------------------------ what befalls it

    @property
    def up(self) -> bool:
        """Whether it runs and is not suspended."""
        return self.process.alive and not self.process.suspended

    def kill(self) -> None:
        """SIGKILL."""
        self.around.say(self.process.name, "killed")
        self.around.loop.kill(self.process)

    def suspend(self) -> None:
        """SIGSTOP, or a machine that sleeps."""
        self.around.say(self.process.name, "suspended")
        self.process.suspended = True

    def wake(self) -> None:
        """It goes on where it was, as if no time had passed."""
        if self.process.suspended:
            self.around.say(self.process.name, "wakes")
            self.around.loop.resume(self.process)

    def cut(self, name: str) -> None:
        """Nothing gets through on this line."""
        self.around.say(self.process.name, f"cut from {name}")
        self.cuts.setdefault(name, self.around.loop.time())
        self.lines[name].cut()

    def mend(self, name: str) -> None:
        """The line works again."""
        if name in self.cuts:
            self.around.say(self.process.name, f"reaches {name} again")
            del self.cuts[name]
        self.lines[name].mend()

    # ------------------------------------------------------------------ its webhook

    async def deliver(self, alerts: Sequence[Alert], cut: int) -> int | None:
        """One delivery as the webhook answers it; None when the connection breaks."""
        if not self.process.alive:
            return None
        task = self.around.loop.within(self.process, self._receive(alerts, cut))
        await asyncio.wait({task})
        if task.cancelled():
            return None
        return task.result()

    async def _receive(self, alerts: Sequence[Alert], cut: int) -> int:
        try:
            receipt = await self.world.store.accept(alerts, (), self.clock.now())
        except StoreUnavailable:
            return 503
        if receipt.new:
            self.intake.wake()
        if cut:
            self.poller.hurry()
        return 200


__all__ = ["Killed", "Mutation", "Pager", "Replica", "Surroundings"]
