"""A small town for one scene: three workloads over three zones, alerting, one healer, and a scribe.

Cluster, Prometheus, Alertmanager and time are the simulator's models, here without any trouble of
the network; engine, actions, probes, guards and journal rules are those of the daemon.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from healer.domain.alert import Alert
from healer.domain.episode import Episode
from healer.domain.manifests import is_ready, meta
from healer.domain.outcome import Result
from healer.domain.playbook import Playbook
from healer.domain.run import Run
from healer.engine.world import EngineOptions
from healer.ports import JsonObject
from healer.testing.demo.failed import SceneFailed
from healer.testing.simulation.alertmanager import Gossip, Peer, Route
from healer.testing.simulation.clock import Idling, ProcessClock, Wall
from healer.testing.simulation.lines import Injected, Trouble
from healer.testing.simulation.loop import SimulatedLoop
from healer.testing.simulation.model import ModelCluster, Nature
from healer.testing.simulation.play import errors_seen
from healer.testing.simulation.replica import Replica, Surroundings
from healer.testing.simulation.rules import Pending, Prometheus, Truth
from healer.testing.simulation.scenario import LINES
from healer.testing.store_journal import MemoryJournal

WORKLOADS = (("web", 6), ("api", 6), ("cart", 6))
#: Alerts come first after this, changes of them after that. Seconds.
ROUTE = Route(group_wait=5.0, group_interval=30.0)
#: How long a scene may take before it counts as not having happened. Virtual seconds.
PATIENCE = 1800.0
#: When the fault comes, between two evaluations of the alerting rule. Virtual seconds.
BEFORE = 37.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a scene's timeline."""

    at: float  #: virtual seconds after the fault
    what: str  #: fault, alert, a kind of fact (`healer.domain.journal`), effect, page or seen
    who: str  #: the object it is about
    why: str
    reason: str = ""  #: the public word, where there is one


@dataclass(slots=True)
class _OneRule(Prometheus):
    """Prometheus with one of the model's alerting rules; tells the scribe when it fires."""

    rule: str = ""
    fires: Callable[[Mapping[str, str], float], None] = lambda labels, at: None

    def symptoms(self) -> Iterator[dict[str, str]]:
        """What the one rule finds."""
        # Not super(): a dataclass with slots is another class than the one this body is in.
        return (each for each in Prometheus.symptoms(self) if each["alertname"] == self.rule)

    def tell(self, fingerprint: str, what: Pending, ends_at: float | None) -> None:
        """Also the scribe hears of it."""
        if ends_at is None:
            self.fires(what.labels, what.starts_at or what.since)
        Prometheus.tell(self, fingerprint, what, ends_at)


class Town:
    """Everything of one scene, in which one alerting rule watches; `rows` tells what happens."""

    def __init__(self, playbooks: Sequence[Playbook], rule: str, seed: int) -> None:
        self.fault_at = 0.0
        self._rows: list[Row] = []
        self._told = 0  #: facts that are among the rows
        self.loop = SimulatedLoop(seed)  # type: ignore[abstract]  # of asyncio's, what it uses
        dice = Random(seed)  # noqa: S311 - a seed, no secret
        self.wall = Wall(self.loop)
        self.journal = MemoryJournal()
        idling = Idling(self.loop, self.wall, self.journal, dice)
        clock = ProcessClock(self.loop, self.wall, idling, lambda seconds: False)
        nature = Nature(start_seconds=4.0, slow_start=0.0, sick_again=0.0)
        self.cluster = ModelCluster(self.loop, clock, dice, nature, self._happened)
        self.cluster.build(WORKLOADS)
        truth = Truth(self.wall)
        self.peer = Peer(
            0, self.loop, self.wall, dice, ROUTE, self._post, truth, Gossip(), []
        )  # fmt: skip
        self.prometheus = _OneRule(
            self.loop, self.wall, self.cluster, [self.peer], dice, truth,
            rule=rule, fires=self._fires,
        )  # fmt: skip
        self.around = Surroundings(
            loop=self.loop, wall=self.wall, dice=dice, journal=self.journal, idling=idling,
            cluster=self.cluster, prometheus=self.prometheus, peers=[self.peer],
            playbooks=tuple(playbooks), injected=Injected(), say=self._said,
            options=EngineOptions(),
        )  # fmt: skip
        self.healer = Replica("healer", self.around, {name: Trouble() for name in LINES})

    def run(self, scene: Callable[["Town"], Awaitable[None]]) -> None:
        """Let the scene happen. Raises SceneFailed when it does not, or when anything breaks."""
        with errors_seen(self.loop):
            try:
                self.loop.run_until_complete(self._run(scene))
            finally:
                self.loop.drain()
        if self.loop.failures:
            raise SceneFailed(f"something broke: {'; '.join(self.loop.failures)}")

    async def _run(self, scene: Callable[["Town"], Awaitable[None]]) -> None:
        alerting = self.loop.create_task(self.prometheus.run())
        await self.passes(BEFORE)
        self.fault_at = self.wall.now()
        try:
            await scene(self)
        finally:
            self._catch_up()
            self.loop.kill(self.healer.process)
            for task in (alerting, *self.peer.tasks):
                task.cancel()

    # ------------------------------------------------------------------ for scenes

    @property
    def rows(self) -> list[Row]:
        """The timeline, in order."""
        return sorted(self._rows, key=lambda row: row.at)

    def seen(self, text: str) -> None:
        """Write down what the scene has found to be so."""
        self._note("seen", "", text)

    async def passes(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)  # noqa: TID251 - the loop's time is virtual

    async def until(self, so: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Let virtual time pass until it is so. Raises SceneFailed when patience ends first."""
        deadline = self.loop.time() + patience
        while not so():
            if self.loop.time() >= deadline:
                raise SceneFailed(f"waited {patience:.0f} simulated seconds for {what}, in vain")
            await self.passes(1.0)

    def pods(self, workload: str = "") -> list[JsonObject]:
        """The pods as the model's API server has them, by name; of one workload when named."""
        found = (pod for pod in self.cluster.living() if workload in {"", _app(pod)})
        return sorted(found, key=lambda pod: str(meta(pod)["name"]))

    def all_ready(self) -> bool:
        """Whether every pod that should be there is there and serves."""
        return len(self.pods()) == sum(n for _, n in WORKLOADS) and all(map(is_ready, self.pods()))

    def episode(self, name: str) -> Episode | None:
        """The last episode about the pod or Deployment of that name which a playbook was for."""
        mine = [
            row.episode for row in self.journal.episodes.values() if _about(row.episode) == name
        ]
        return mine[-1] if mine else None

    def runs(self, name: str) -> list[Run]:
        """The runs of all its episodes, oldest first."""
        return [
            row.whole
            for row in self.journal.runs.values()
            if _about(self.journal.episodes[row.run.episode_id].episode) == name
        ]

    def healed(self, name: str) -> bool:
        """Whether the journal says that it was healed by what healer did."""
        return any(run.result is Result.HEALED for run in self.runs(name))

    def deleted(self) -> list[str]:
        """Names of the pods that healer had deleted, by the API server's record of writes."""
        return [each.name for each in self.cluster.effects if each.verb == "delete"]

    # ------------------------------------------------------------------ the scribe

    def _note(self, what: str, who: str, why: str, at: float | None = None) -> None:
        self._catch_up()
        self._put(what, who, why, self.wall.now() if at is None else at)

    def _put(self, what: str, who: str, why: str, at: float, reason: str = "") -> None:
        self._rows.append(Row(round(at - self.fault_at, 1), what, who, why, reason))

    def _catch_up(self) -> None:
        """Write down what has come into the journal."""
        for sealed in self.journal.facts("", self._told, 1 << 30):
            self._told = sealed.seq
            fact = sealed.fact
            row = self.journal.episodes.get(fact.episode_id)
            who = _about(row.episode) if row is not None else ""
            self._put(str(fact.kind), who, fact.detail, fact.at, str(fact.reason or ""))

    def _happened(self, text: str) -> None:
        """The model cluster tells what befell it."""
        if text.startswith("fault: "):
            self._note("fault", "", text.removeprefix("fault: "))
        elif text.startswith("effect: "):
            verb, ref = text.removeprefix("effect: ").split(" ", 1)
            self._note("effect", ref.split("/")[2], f"the API server has done: {verb} {ref}")
        else:
            self._note("cluster", "", text)

    def _said(self, who: str, text: str) -> None:
        if who == "pager":
            self._note("page", "", text)

    def _fires(self, labels: Mapping[str, str], at: float) -> None:
        about = labels.get("pod") or labels.get("deployment", "")
        self._note("alert", about, f"{labels['alertname']} fires", at)

    async def _post(self, alerts: Sequence[Alert], cut: int) -> int | None:
        return await self.healer.deliver(alerts, cut)


def _about(episode: Episode) -> str:
    return episode.labels.get("pod") or episode.labels.get("deployment", "")


def _app(pod: JsonObject) -> str:
    return str((meta(pod).get("labels") or {}).get("app", ""))
