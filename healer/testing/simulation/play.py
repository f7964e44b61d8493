"""Plays one history: builds the world of a scenario, lets it happen, calms it, and judges it."""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from healer.domain.alert import Alert
from healer.domain.manifests import meta
from healer.domain.pause import Pause
from healer.engine.world import EngineOptions
from healer.errors import HealerError, Unreachable
from healer.kernel.clock import rfc3339
from healer.ports import JsonObject
from healer.testing.history import Sent
from healer.testing.simulation.alertmanager import Gossip, Peer
from healer.testing.simulation.clock import Idling, ProcessClock, Wall
from healer.testing.simulation.judging import judge
from healer.testing.simulation.lines import Injected, Trouble
from healer.testing.simulation.loop import Process, SimulatedLoop
from healer.testing.simulation.model import BAD_IMAGE, GOOD_IMAGE, ModelCluster
from healer.testing.simulation.replica import Mutation, Replica, Surroundings
from healer.testing.simulation.rules import Prometheus, Truth
from healer.testing.simulation.scenario import LINES, Event, Scenario, draw
from healer.testing.store_journal import MemoryJournal

#: How long the calm may take until everything has come to rest. Virtual seconds.
CALM_SECONDS = 4 * 3600.0
_CALM = Trouble()


@dataclass(frozen=True, slots=True)
class Played:
    """What came of one history."""

    seed: int
    wrong: tuple[str, ...]  #: empty when every promise was kept
    digest: str  #: of the whole trace: the same for the same seed
    events: int  #: callbacks that ran
    seconds: float  #: virtual
    effects: int
    facts: int
    episodes: int
    faults: Counter[str] = field(default_factory=Counter)
    trace: tuple[str, ...] = ()


def play(
    seed: int,
    *,
    mutation: Mutation | None = None,
    trace: bool = False,
    scenario: Scenario | None = None,
) -> Played:
    """Play the history of a seed. `mutation` plants a bug in every replica, to see it found."""
    return _Play(scenario or draw(seed), mutation, trace).run()


class _Play:
    def __init__(self, scenario: Scenario, mutation: Mutation | None, trace: bool) -> None:
        self.scenario = scenario
        self.loop = SimulatedLoop(scenario.seed)  # type: ignore[abstract]  # of asyncio's, what it uses
        self.loop.on_kill = self._killed
        self.dice = Random(scenario.seed ^ 0x5EED)  # noqa: S311 - a seed, no secret
        self.wall = Wall(self.loop)
        self.lines: list[str] = []
        self.state = hashlib.sha256()
        self.keep_trace = trace
        self.journal = MemoryJournal()
        self.idling = Idling(self.loop, self.wall, self.journal, self.dice)
        self.truth = Truth(self.wall)
        self.sent: list[Sent] = []
        self.gossip = Gossip()
        self.injected = Injected()
        self.jumped = 0.0
        self.dark: list[float] = []  #: when each outage of what tells of alerts began
        self.lit = 0  #: how many of them are over
        self.calm = False
        self.trouble = {name: Trouble(**_fields(t)) for name, t in scenario.trouble.items()}
        self.mutation = mutation
        self.replicas: list[Replica] = []

    # ------------------------------------------------------------------ the whole

    def run(self) -> Played:
        """Build, play, calm, judge."""
        with errors_seen(self.loop):
            self.loop.run_until_complete(self._history())
            self.loop.drain()  # the ghosts unwind
        wrong, effects = judge(
            self.around, self.replicas, self.truth, self.sent,
            jumped=self.jumped, late=60.0 if self.scenario.late else 0.0, calm=True,
        )  # fmt: skip
        facts = self.journal.facts("", 0, 1 << 30)
        self.state.update((facts[-1].hash if facts else "").encode())
        return Played(
            self.scenario.seed, tuple(wrong), self.state.hexdigest(), self.loop.events,
            self.loop.time(), effects, len(facts), len(self.journal.episodes),
            self.injected.counts, tuple(self.lines),
        )  # fmt: skip

    async def _history(self) -> None:
        world = self._build()
        scenario = self.scenario
        for event in scenario.events:
            await asyncio.sleep(max(0.0, event.at - self.loop.time()))  # noqa: TID251 - virtual
            self._happens(event)
        await asyncio.sleep(max(0.0, scenario.seconds - self.loop.time()))  # noqa: TID251 - virtual
        self._calm_down()
        deadline = self.loop.time() + CALM_SECONDS
        while self.loop.time() < deadline and not self._at_rest():  # noqa: ASYNC110
            await asyncio.sleep(60.0)  # noqa: TID251 - virtual
        self._over = True
        for replica in self.replicas:
            self.loop.kill(replica.process)
        for task in (*world, *(task for peer in self.peers for task in peer.tasks)):
            task.cancel()

    def _at_rest(self) -> bool:
        return (
            not self.journal.active
            and not self.journal.inbox
            and not self.journal.undelivered
            and not any(peer.alerts or peer.groups for peer in self.peers)
        )

    def _build(self) -> list[asyncio.Task[None]]:
        scenario, loop = self.scenario, self.loop
        clock = ProcessClock(loop, self.wall, self.idling, lambda seconds: False)
        self.cluster = ModelCluster(
            loop, clock, self.dice, scenario.nature, lambda text: self.say("cluster", text)
        )
        self.cluster.build(scenario.workloads)
        self.peers = [
            Peer(
                number, loop, self.wall, self.dice, scenario.route, self._post, self.truth,
                self.gossip, self.sent,
            )
            for number in range(scenario.peers)
        ]  # fmt: skip
        prometheus = Prometheus(
            loop, self.wall, self.cluster, self.peers, self.dice, self.truth, scenario.moving
        )
        self.prometheus = prometheus
        self.around = Surroundings(
            loop=loop, wall=self.wall, dice=self.dice, journal=self.journal, idling=self.idling,
            cluster=self.cluster, prometheus=prometheus if scenario.metrics else None,
            peers=self.peers, playbooks=scenario.playbooks, injected=self.injected, say=self.say,
            options=EngineOptions(poll_seconds=60.0, absent_seconds=180.0),
            mutation=self.mutation, skew=scenario.skew,
        )  # fmt: skip
        for number in range(scenario.replicas):
            self.replicas.append(Replica(f"healer-{number}", self.around, self.trouble))
        return [loop.create_task(prometheus.run())]

    # ------------------------------------------------------------------ the network to healer

    async def _post(self, alerts: Sequence[Alert], cut: int) -> int | None:
        if self.scenario.late and not self.calm and self.dice.random() < self.scenario.late:
            self.injected.counts["delivery: late"] += 1
            await asyncio.sleep(self.dice.random() * 40.0)  # noqa: TID251 - virtual
        if cut:
            self.injected.counts["delivery: truncated"] += 1
        replica = self.replicas[self.dice.randrange(len(self.replicas))]
        status = await replica.deliver(alerts, cut)
        if status != 200:
            self.injected.counts[f"delivery: {status or 'broken'}"] += 1
        names = ", ".join(f"{a.name}/{a.status}" for a in alerts)
        self.say("alertmanager", f"{names} to {replica.process.name}: {status}")
        return status

    # ------------------------------------------------------------------ what befalls whom

    def _killed(self, process: Process) -> None:
        """A supervisor starts it again after a while, as a kubelet would."""
        if self._over:
            return
        self.injected.counts["process: killed"] += 1
        replica = next((r for r in self.replicas if r.process is process), None)
        if replica is not None:
            self.loop.call_later(self.dice.uniform(0.5, 40.0), self._restart, replica)

    def _restart(self, replica: Replica) -> None:
        if not replica.process.alive and not self._over:
            replica.start()
            self.say(replica.process.name, "started")

    _over = False

    def _happens(self, event: Event) -> None:
        act: dict[str, Callable[[Event], None]] = {
            "crash": self._crash, "hang": self._hang, "mend": self._mend, "node": self._node,
            "zone": self._zone, "storm": self._storm, "release": self._release,
            "scale": self._scale, "kill": self._kill, "suspend": self._suspend, "cut": self._cut,
            "blind": self._blind, "pause": self._pause, "jump": self._jump,
            "peers apart": self._apart, "deaf": self._deaf, "errors": self._errors,
        }  # fmt: skip
        self.injected.counts[f"event: {event.what}"] += 1
        act[event.what](event)

    def _pods(self) -> list[JsonObject]:
        return sorted(self.cluster.living(), key=lambda pod: str(meta(pod)["name"]))

    def _crash(self, event: Event) -> None:
        if pods := self._pods():
            self._sick(pods[int(event.roll * len(pods))], self.cluster.crash, event)

    def _hang(self, event: Event) -> None:
        if pods := self._pods():
            self._sick(pods[int(event.roll * len(pods))], self.cluster.hang, event)

    def _mend(self, event: Event) -> None:
        for pod in self._pods():
            self.cluster.mend(pod)

    def _storm(self, event: Event) -> None:
        """Several pods at once."""
        pods = self._pods()
        for pod in pods[: 1 + int(event.roll * len(pods))]:
            self._sick(pod, self.cluster.crash, event)

    def _sick(self, pod: JsonObject, befall: Callable[[JsonObject], None], event: Event) -> None:
        befall(pod)
        self.loop.call_later(240.0 + 4 * event.seconds, self.cluster.mend, pod)

    def _node(self, event: Event) -> None:
        nodes = sorted(str(meta(node)["name"]) for node in self.cluster.nodes())
        name = nodes[int(event.roll * len(nodes))]
        self.cluster.node_goes(name)
        self.loop.call_later(event.seconds * 2, self._node_back, name)

    def _node_back(self, name: str) -> None:
        if name in self.cluster.sick.down:
            self.cluster.node_comes(name)

    def _zone(self, event: Event) -> None:
        letter = "abc"[int(event.roll * 3)]
        for node in sorted(str(meta(node)["name"]) for node in self.cluster.nodes()):
            if node.startswith(f"node-{letter}"):
                self.cluster.node_goes(node)
                self.loop.call_later(event.seconds * 2, self._node_back, node)

    def _workload(self, event: Event) -> str:
        return self.scenario.workloads[int(event.roll * len(self.scenario.workloads))][0]

    def _release(self, event: Event) -> None:
        name = self._workload(event)
        self.cluster.release(name, BAD_IMAGE if event.roll < 0.8 else GOOD_IMAGE)

    def _scale(self, event: Event) -> None:
        self.cluster.scale_by_hand(self._workload(event), 1 + int(event.roll * 100) % 6)

    def _replica(self, event: Event) -> Replica:
        return self.replicas[int(event.roll * len(self.replicas))]

    def _kill(self, event: Event) -> None:
        replica = self._replica(event)
        if replica.process.alive:
            replica.kill()

    def _suspend(self, event: Event) -> None:
        replica = self._replica(event)
        if replica.up:
            replica.suspend()
            self.loop.call_later(event.seconds, replica.wake)

    def _cut(self, event: Event) -> None:
        replica = self._replica(event)
        name = LINES[int(event.roll * 1000) % 3]
        replica.cut(name)
        self.loop.call_later(event.seconds, replica.mend, name)

    def _blind(self, event: Event) -> None:
        """Nobody can be asked what fires."""
        error: HealerError = Unreachable("no route to host", sent=False)
        self.say("world", "Alertmanager and Prometheus answer nobody")
        for peer in self.peers:
            peer.down = error
        self.prometheus.down = error
        self.dark.append(self.wall.now())
        self.loop.call_later(event.seconds * 2, self._sight)

    def _sight(self) -> None:
        """One outage is over; they answer again when no other lasts."""
        self.lit += 1
        if not self.dark or self.lit < len(self.dark):
            return  # the calm came before, or another lasts
        since = self.dark[0]
        self.dark, self.lit = [], 0
        if self.prometheus.down is not None:
            self.say("world", "Alertmanager and Prometheus answer again")
            for replica in self.replicas:
                replica.blind.append((since, self.wall.now()))
        for peer in self.peers:
            peer.down = None
        self.prometheus.down = None

    def _pause(self, event: Event) -> None:
        self.loop.begin(self._paused(event))

    async def _paused(self, event: Event) -> None:
        replica = self._replica(event)
        which = self.scenario.playbooks[int(event.roll * len(self.scenario.playbooks))].name
        id_ = f"pause-{event.at:.0f}"
        scope = which if event.roll < 0.5 else ""
        await self._by_hand(
            replica, lambda store: store.set_pause(
                Pause(id_, "somebody looks", "ada", self.wall.now(), playbook=scope)
            ), "pauses"
        )  # fmt: skip
        await asyncio.sleep(event.seconds * 3)  # noqa: TID251 - virtual
        await self._by_hand(
            replica, lambda store: store.clear_pause(id_, "ada", self.wall.now()), "resumes"
        )

    async def _by_hand(self, replica: Replica, deed: Callable[..., object], word: str) -> None:
        """A person tries until it is so."""
        from healer.testing.store import MemoryStore

        self.say("ada", word)
        store = MemoryStore(
            self.journal,
            clock=ProcessClock(self.loop, self.wall, self.idling, lambda seconds: False),
        )
        await deed(store)  # type: ignore[misc]
        self.idling.news()

    def _jump(self, event: Event) -> None:
        by = (event.roll - 0.3) * event.seconds * 2
        self.say("world", f"the wall clock jumps by {by:.0f} s")
        self.wall.offset += by
        self.jumped += abs(by)
        self.idling.news()

    def _apart(self, event: Event) -> None:
        self.say("world", "the Alertmanagers no longer hear each other")
        self.gossip.apart = True
        self.loop.call_later(event.seconds * 3, self._together)

    def _together(self) -> None:
        self.gossip.apart = False

    def _deaf(self, event: Event) -> None:
        peer = self.peers[int(event.roll * len(self.peers))]
        self.say("world", f"Prometheus no longer reaches Alertmanager {peer.number}")
        peer.deaf = True
        self.loop.call_later(event.seconds, self._hears, peer)

    def _hears(self, peer: Peer) -> None:
        peer.deaf = False

    def _errors(self, event: Event) -> None:
        """For a while nearly every call of one kind fails."""
        name = LINES[int(event.roll * 1000) % len(LINES)]
        trouble = self.trouble[name]
        before = trouble.before, trouble.after
        trouble.before, trouble.after = 0.4, 0.2
        self.say("world", f"{name} fails often")
        self.loop.call_later(event.seconds, self._fewer, name, before)

    def _fewer(self, name: str, before: tuple[float, float]) -> None:
        trouble = self.trouble[name]
        trouble.before, trouble.after = (0.0, 0.0) if self.calm else before

    def _calm_down(self) -> None:
        """All trouble ends: what is wrong from here on is healer's own."""
        self.say("world", "calm")
        self.calm = True
        self.lit = len(self.dark) - 1
        self._sight()
        for name in self.trouble:
            for field_name, value in _fields(_CALM).items():
                setattr(self.trouble[name], field_name, value)
        for replica in self.replicas:
            for name in LINES:
                replica.mend(name)
            replica.wake()
        self._together()
        for peer in self.peers:
            peer.deaf = False
        self.cluster.heal_all()

    # ------------------------------------------------------------------ the trace

    def say(self, who: str, text: str) -> None:
        """One line of the trace."""
        now = self.loop.time()
        self.state.update(f"{now!r} {who} {text}\n".encode())
        if self.keep_trace:
            self.lines.append(f"{now:10.3f}  {rfc3339(self.wall.now())}  {who:<14} {text}")


def _fields(trouble: Trouble) -> dict[str, float]:
    return {name: getattr(trouble, name) for name in Trouble.__slots__}


class _Seen(logging.Handler):
    """Keeps errors that the engine logged and did not foresee."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__(logging.ERROR)
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, HealerError):
            self._loop.failures.append(f"{record.getMessage()}: {type(error).__name__}: {error}")


@contextmanager
def errors_seen(loop: SimulatedLoop) -> Iterator[None]:
    """While a history is played, the engine's log goes nowhere but to the judge."""
    log = logging.getLogger("healer")
    before, kept, passed = log.level, log.handlers[:], log.propagate
    log.handlers[:] = [_Seen(loop)]
    log.propagate = False
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.handlers[:] = kept
        log.propagate = passed
        log.setLevel(before)
