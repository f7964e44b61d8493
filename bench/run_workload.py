"""The workload of `bench.runs` on healer: runs of three steps through the real worker and journal.

Everything is real but the world: the cluster answers from memory, and the step changes nothing. A
run locks its target, pays every budget for each step, has its intent on disk before each effect and
its outcome after, and ends with a verification.

    python -m bench.run_workload sqlite --folder . --runs 2000 --flight 50
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bench.report import spread
from healer.actions.contract import ActionContext, Params, Presence
from healer.domain.alert import Alert, AlertStatus, parse_matchers
from healer.domain.episode import Episode, fold
from healer.domain.outcome import Applied, Finding, Outcome, Recovery, Result
from healer.domain.playbook import (
    Guards,
    Mode,
    Playbook,
    ProbeRule,
    Rate,
    Scope,
    StepRule,
    TargetRule,
    Trigger,
    TriggerKind,
    VerifyRule,
)
from healer.domain.run import Phase
from healer.domain.target import Kind, Observation, PodState, TargetRef
from healer.engine.worker import Worker
from healer.engine.world import EngineOptions, World
from healer.kernel.clock import SystemClock
from healer.ports import Change, Claim, Permission, Store
from healer.probes.contract import ProbeContext
from healer.store.chain import verify_chain

STEPS = 3
_TEXT = "# three steps that change nothing\n"


class Nothing:
    """A step that changes nothing and costs one pod, so that locks and budgets are real."""

    name: ClassVar[str] = "nothing"
    summary: ClassVar[str] = "Change nothing."
    params: ClassVar[type[Params]] = Params
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.DEPLOYMENT})
    action_class: ClassVar[str] = "restart"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """What a rollout restart needs."""
        return (
            Permission("get", "deployments", "apps"),
            Permission("patch", "deployments", "apps"),
        )

    def cost(self, params: Any, seen: Observation) -> int:
        """One pod."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """What a rollout restart writes down."""
        return {"uid": seen.ref.uid, "resourceVersion": seen.resource_version}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Nothing."""
        return Applied(Outcome.APPLIED, f"changed nothing of {target}")

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """It is done."""
        return Presence.APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Nothing."""
        return None


class Well:
    """A probe that says recovered."""

    name: ClassVar[str] = "well"
    summary: ClassVar[str] = "Recovered."
    params: ClassVar[type[Params]] = Params

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Nothing."""
        return ()

    async def look(self, ctx: ProbeContext, params: Any) -> Finding:
        """Recovered."""
        return Finding(self.name, Recovery.RECOVERED, "as asked")


class StillWorld:
    """The parts of a cluster that the engine asks here, answered from memory."""

    def __init__(self) -> None:
        self._seen: dict[TargetRef, Observation] = {}

    async def observe(self, ref: TargetRef) -> Observation:
        """A Deployment with one bad pod of three."""
        pinned = ref.with_uid(f"uid-{ref.name}")
        if (seen := self._seen.get(pinned)) is None:
            pods = tuple(
                PodState(
                    TargetRef(Kind.POD, f"{ref.name}-{n}", ref.namespace, f"{ref.name}-{n}"),
                    f"node-{n}", "", n > 0, "Running",
                )
                for n in range(3)
            )  # fmt: skip
            seen = self._seen[pinned] = Observation(
                pinned, time.time(), "1", replicas=3, ready=2, updated=3, pods=pods
            )
        return seen

    async def missing_right(self, permission: Permission, namespace: str) -> str:
        """None is."""
        return ""

    async def is_firing(self, episode: Episode) -> bool:
        """It fires."""
        return True


def playbook() -> Playbook:
    """Three steps, the last with a verification; budgets so large that none of them runs out."""
    plain = [StepRule(f"step {n}", "nothing", {}) for n in range(1, STEPS)]
    last = StepRule(
        f"step {STEPS}", "nothing", {}, VerifyRule((ProbeRule("well", {}),), 60.0, 5.0, 0.0)
    )
    return Playbook(
        name="bench",
        summary="Three steps that change nothing.",
        trigger=Trigger(TriggerKind.ALERT, parse_matchers('alertname="Bench"')),
        target=TargetRule(Kind.DEPLOYMENT, "${labels.deployment}", "${labels.namespace}"),
        steps=(*plain, last),
        guards=Guards(budgets={scope: Rate(10**9, 3600.0) for scope in Scope}),
        mode=Mode.AUTO,
        sha256="b" * 64,
        text=_TEXT,
    )


def alerts(count: int) -> list[Alert]:
    """So many alerts of a Deployment each, in forty namespaces."""
    return [
        Alert(
            "alertmanager/main", f"{number:016x}", AlertStatus.FIRING,
            {
                "alertname": "Bench", "namespace": f"team-{number % 40}",
                "deployment": f"web-{number:07d}", "severity": "warning", "cluster": "eu-1",
            },
            time.time(), None,
            {"summary": f"Deployment web-{number:07d} does not serve"},
            "http://prometheus.example/graph?g0.expr=up",
        )
        for number in range(count)
    ]  # fmt: skip


@dataclass
class Watched:
    """A store that notes when a claim was given and when the commit that ended it was on disk."""

    store: Store
    began: dict[str, float] = field(default_factory=dict)
    spent: list[float] = field(default_factory=list)
    wanted: int = 0
    all_done: asyncio.Event = field(default_factory=asyncio.Event)
    last: float = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def claim(
        self, owner: str, now: float, lease_seconds: float, limit: int
    ) -> Sequence[Claim]:
        """As the store, and note the time."""
        claims = await self.store.claim(owner, now, lease_seconds, limit)
        at = time.perf_counter()
        for claim in claims:
            self.began[claim.episode.id] = at
        return claims

    async def commit(self, claim: Claim, change: Change) -> Claim:
        """As the store, and note the time when the run is over."""
        after = await self.store.commit(claim, change)
        if change.run is not None and change.run.phase is Phase.DONE:
            self.last = time.perf_counter()
            self.spent.append(self.last - self.began[claim.episode.id])
            if len(self.spent) == self.wanted:
                self.all_done.set()
        return after


def world_on(store: Any, flight: int) -> World:
    """The engine's world with everything in memory but the journal."""
    still: Any = StillWorld()
    world = World(
        store=store,
        cluster=still,
        clock=SystemClock(),
        actions={"nothing": Nothing()},
        probes={"well": Well()},
        playbooks=lambda: (BOOK,),
        owner="bench",
        options=EngineOptions(concurrency=flight),
    )
    world.levels["alertmanager/"] = still
    return world


BOOK = playbook()


async def fill(store: Store, count: int) -> None:
    """Accept and fold so many alerts; each opens an episode that waits for the worker."""
    sent = alerts(count)
    for start in range(0, count, 250):
        await store.accept(sent[start : start + 250], (), time.time())
    folded = 0
    while folded < count:
        folded += len(await store.fold(fold, time.time(), 500))


async def drive(store: Store, runs: int, flight: int) -> dict[str, Any]:
    """All runs by one worker with `flight` at a time; figures, having checked what is on disk."""
    watched = Watched(store, wanted=runs)
    worker = Worker(world_on(watched, flight))
    await fill(store, runs)
    began = time.perf_counter()
    used, loop_used = time.process_time(), time.thread_time()

    async def rounds() -> None:
        while True:
            await worker.round()

    working = asyncio.create_task(rounds())
    done = asyncio.create_task(watched.all_done.wait())
    await asyncio.wait({working, done}, return_when=asyncio.FIRST_COMPLETED)
    working.cancel()
    if not done.done():
        done.cancel()
        await working
    used, loop_used = time.process_time() - used, time.thread_time() - loop_used
    await worker.drain(10.0)
    took = watched.last - began
    # Without the ends, where fewer are in flight and the first ones meet cold caches.
    steady = watched.spent[min(runs // 10, 4 * flight) :]
    return {
        "runs_per_second": round(runs / took, 1),
        **spread("run", steady),
        "cpu_ms_per_run": round(1000 * used / runs, 3),
        "loop_cpu_ms_per_run": round(1000 * loop_used / runs, 3),
        **await checked(store, runs),
    }


async def checked(store: Store, runs: int) -> dict[str, Any]:
    """That every run healed with three confirmed steps and a whole chain; what was written."""
    found = await store.runs(limit=runs + 1)
    whole = [
        run
        for run in found
        if run.result is Result.HEALED
        and [step.outcome for step in run.steps] == [Outcome.APPLIED] * STEPS
    ]
    if len(whole) != runs:
        raise SystemExit(f"only {len(whole)} of {runs} runs healed with {STEPS} steps")
    if (broken := await verify_chain(store)) is not None:
        raise SystemExit(f"the chain of facts is broken at {broken}")
    facts = await store.facts(found[0].episode_id)
    return {"facts_per_run": len(facts) - 1}  # the first was written when the alert was accepted


async def on_sqlite(folder: Path, runs: int, flight: int) -> dict[str, Any]:
    """The workload on a file of its own."""
    from healer.store.sqlite import SqliteStore

    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "healer.db"
        store = await SqliteStore.open(path, clock=SystemClock(), accept_seconds=30.0)
        try:
            return await drive(store, runs, flight)
        finally:
            await store.close()


async def on_postgres(url: str, runs: int, flight: int) -> dict[str, Any]:
    """The workload on an empty database."""
    from healer.store.postgres import PostgresStore

    store = await PostgresStore.open(url, clock=SystemClock(), accept_seconds=30.0)
    try:
        return await drive(store, runs, flight)
    finally:
        await store.close()


def main() -> None:
    """One measurement, as one JSON line."""
    parser = argparse.ArgumentParser(description="three-step runs through healer's own engine")
    parser.add_argument("store", choices=["sqlite", "postgres"])
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--url", default="")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--flight", type=int, default=50)
    given = parser.parse_args()
    if given.store == "sqlite":
        work = on_sqlite(given.folder, given.runs, given.flight)
    else:
        work = on_postgres(given.url, given.runs, given.flight)
    print(json.dumps(asyncio.run(work)))


if __name__ == "__main__":
    main()
