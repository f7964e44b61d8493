"""One segment: a fresh journal, some hundreds of kills, then calm, and the checker's verdict."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import aiohttp
import yaml

from healer.domain.episode import EpisodeState
from healer.domain.verdict import Reason
from healer.testing.history import Report, Tolerance, check
from healer.testing.history.reading import audit_effects
from tests.bed.ports import free_port
from tests.bed.waiting import now
from tests.crash.engines import Engine
from tests.crash.kills import Kill, plans
from tests.crash.remedies import write
from tests.crash.sender import CLOCK, DELAY, Sender
from tests.crash.town import PATIENCE, Town
from tests.crash.zygote import Life, Zygote

TOKEN = "0123456789abcdef0123456789abcdef"  # of daemons that live for a moment
#: Everything must have come to rest so long after the last fault. Seconds.
CALM = 90.0
#: An alert may be believed to fire for so long after its end: what is fresh, and was delayed.
BELIEVED = 5.0 + DELAY + 10.0


@dataclass
class Outcome:
    """What one segment has shown."""

    number: int
    seed: str
    kills: int = 0
    by_point: Counter[str] = field(default_factory=Counter)
    deliveries: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0  #: deliveries
    accepted: int = 0  #: alerts, each state once
    effects: int = 0
    effects_per_step: int = 0
    unknown: int = 0
    facts: int = 0
    runs: int = 0
    violations: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    calm_seconds: float = 0.0


class Segment:
    """One segment in a folder of its own. `town` and `zygote` outlive it."""

    def __init__(
        self,
        folder: Path,
        number: int,
        seed: str,
        engine: Engine,
        town: Town,
        zygote: Zygote,
        kubeconfig: Path,
        audit_log: Path,
    ) -> None:
        self.folder = folder
        self.town = town
        self.zygote = zygote
        self.engine = engine
        self.outcome = Outcome(number, seed)
        self._kubeconfig = kubeconfig
        self._audit_log = audit_log
        self._audit_from = audit_log.stat().st_size
        self._names = [f"healer-{letter}" for letter in "abcdefgh"[: engine.replicas]]
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "playbooks", town.url)
        (folder / "token").write_text(TOKEN)
        self._ports = {name: self._configure(name) for name in self._names}
        self.sender = Sender(
            random.Random(f"{seed} sender"), folder / "sent.jsonl",
            [f"http://127.0.0.1:{ports['webhook']}" for ports in self._ports.values()],
            lambda: tuple(town.firing.values()),
        )  # fmt: skip

    def _configure(self, name: str) -> dict[str, int]:
        ports = {one: free_port() for one in ("webhook", "api", "health")}
        settings = {
            "store": dict(self.engine.settings()),
            "listen": {one: {"port": port} for one, port in ports.items()},
            "people": {"town": {"token_files": [str(self.folder / "token")], "role": "operator"}},
            "kubernetes": {"kubeconfig": str(self._kubeconfig)},
            "alertmanager": {"urls": [self.town.url], "poll_seconds": 1},
            "playbooks": {"paths": [str(self.folder / "playbooks")]},
            "notifiers": {"pager": {"type": "webhook", "url": f"{self.town.url}/page"}},
            "http": {"allow": [f"internal+{self.town.url}"]},
            # A named replica goes on with what it held; what another held waits for its lease.
            "worker": {"lease_seconds": 2, "replica": "a" if name == self._names[0] else ""},
            "election": {"lease_seconds": 3, "renew_deadline_seconds": 2, "retry_seconds": 0.5},
            "log": {"level": "warning", "format": "json"},
            "pause_file": str(self.folder / f"{name}.pause"),
        }
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
        return ports

    async def run(self, kills: int, told: Callable[[], None] = lambda: None) -> Outcome:
        """Kill so often, come to rest, check."""
        began = now()
        self.town.forget()
        self.town.tell = self.sender
        async with AsyncExitStack() as stack:
            sending = asyncio.create_task(self.sender.run())
            stack.push_async_callback(_ended, sending)
            self.town.open_for_trouble = True
            await self._kill(kills, told)
            resting = now()
            await self._rest()
            self.outcome.calm_seconds = now() - resting
        await self._judge()
        self.outcome.seconds = now() - began
        self._keep()
        return self.outcome

    # ---------------------------------------------------------------------------------- killing

    async def _start(self, name: str, crash: str = "") -> Life:
        return await self.zygote.life(
            name, self.folder / f"{name}.yaml", crash, self.folder / f"{name}.log"
        )

    async def _kill(self, kills: int, told: Callable[[], None]) -> None:
        """Start whoever is dead, each with a plan of its own; the first that is due dies."""
        chance = random.Random(f"{self.outcome.seed} victims")
        drawn = plans(self.outcome.seed, self.engine.longest)
        dead, alive = [*self._names], dict[str, tuple[Life, Kill]]()
        with (self.folder / "kills.jsonl").open("a") as log:
            while self.outcome.kills < kills:
                for name in dead:
                    plan = next(drawn)
                    alive[name] = (await self._start(name, plan.variable), plan)
                await asyncio.wait(
                    {life.ended for life, _ in alive.values()},
                    timeout=plan.seconds, return_when=asyncio.FIRST_COMPLETED,
                )  # fmt: skip
                dead = [name for name, (life, _) in alive.items() if life.ended.done()]
                for name in dead or [chance.choice(sorted(alive))]:
                    where = alive[name][1].point if dead else "at a random time"
                    await self._end(name, alive.pop(name)[0], expected=bool(dead))
                    self.outcome.kills += 1
                    self.outcome.by_point[where] += 1
                    log.write(json.dumps({"victim": name, "where": where}) + "\n")
                dead = sorted(set(self._names) - set(alive))
                self.town.check()
                self.sender.check()
                told()
        for name, (life, _) in alive.items():
            await self._end(name, life, expected=False)

    async def _end(self, name: str, life: Life, *, expected: bool) -> None:
        """Kill it, unless it has died at the point it was told to; any other end is a fault."""
        if not expected:
            self.zygote.kill(name)
        if (status := await life.ended) != -signal.SIGKILL:
            raise RuntimeError(f"{name} ended with {status}: {self._tail(name)}")

    def _tail(self, name: str) -> str:
        log = self.folder / f"{name}.log"
        return log.read_text()[-2000:] if log.exists() else "it wrote no log"

    # ------------------------------------------------------------------------------------- rest

    async def _rest(self) -> None:
        """No more faults: what fires is mended, by healer or by hand, and everything must end."""
        town = self.town
        town.open_for_trouble = False
        self.sender.calm = True
        lives = {name: await self._start(name) for name in self._names}
        deadline = now() + CALM
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {TOKEN}"}, timeout=aiohttp.ClientTimeout(total=5)
        ) as session:
            patience = now() + min(PATIENCE, 5.0)
            while now() < deadline:
                town.check()
                self.sender.check()
                for name, life in lives.items():
                    if life.ended.done():
                        raise RuntimeError(f"{name} ended by itself: {self._tail(name)}")
                if now() > patience:
                    for trouble in list(town.firing.values()):
                        town.resolve(trouble)
                if not town.firing and self.sender.idle and await self._resting(session):
                    break
                await CLOCK.sleep(0.2)
        for name, life in lives.items():
            self.zygote.terminate(name)
            status = await life.within(40.0)
            if status != 0:
                raise RuntimeError(f"{name} did not drain ({status}): {self._tail(name)}")

    async def _resting(self, session: aiohttp.ClientSession) -> bool:
        """Whether nothing is open but what waits, as it should, for a silent alert to come back."""
        api = f"http://127.0.0.1:{self._ports[self._names[0]]['api']}/v1"
        try:
            async with session.get(f"{api}/status") as answer:
                counts = (await answer.json())["counts"]
            if counts["inbox"] or counts["outbox"]:
                return False
            query = [("state", str(state)) for state in EpisodeState if state != "closed"]
            async with session.get(f"{api}/episodes", params=query) as answer:
                found = (await answer.json())["episodes"]
        except aiohttp.ClientConnectorError:
            return False  # not up yet
        return all(one["reason"] == Reason.NOT_FIRING for one in found)

    # ------------------------------------------------------------------------------------ verdict

    async def _judge(self) -> None:
        history = await self.engine.read()
        with self._audit_log.open() as log:
            log.seek(self._audit_from)
            audited = tuple(audit_effects(log))
        history = replace(
            history,
            effects=tuple(sorted((*audited, *self.town.calls), key=lambda effect: effect.at)),
            sent=tuple(self.sender.sent.values()),
            firing=self.town.periods(),
            calm=True,
            tolerance=Tolerance(clock=0.5, firing=BELIEVED, stuck=30.0),
        )
        report: Report = await asyncio.to_thread(check, history)
        outcome = self.outcome
        outcome.deliveries, outcome.troubles = self.sender.counts, self.town.counts
        outcome.acknowledged = self.sender.acknowledged
        outcome.accepted = report.accepted
        outcome.effects, outcome.effects_per_step = report.effects, report.effects_per_step
        outcome.unknown, outcome.facts = report.unknown_outcomes, report.facts
        outcome.runs = report.runs
        outcome.violations = [str(found) for found in report.violations]
        outcome.kinds = Counter(str(found.kind) for found in report.violations)
        outcome.outcomes = Counter(
            str(record.outcome) for run in history.runs for record in run.steps
        )
        outcome.results = Counter(str(episode.result) for episode in history.episodes)

    def _keep(self) -> None:
        """The verdict stays; everything else only when something is wrong."""
        (self.folder / "result.json").write_text(json.dumps(vars(self.outcome)))
        if self.outcome.violations:
            with self._audit_log.open() as log:
                log.seek(self._audit_from)
                (self.folder / "audit.log").write_text(log.read())
            calls = [asdict(call) for call in self.town.calls]
            (self.folder / "calls.json").write_text(json.dumps(calls))

    async def discard(self) -> None:
        """Of a segment without any fault nothing but its verdict and its kills is kept."""
        await self.engine.discard()
        shutil.rmtree(self.folder / "playbooks")
        for file in self.folder.iterdir():
            if file.is_file() and file.name not in {"result.json", "kills.jsonl"}:
                file.unlink()


async def _ended(task: asyncio.Task[None]) -> None:
    if task.done():
        await task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
