"""Random schedules of alerts, faults, crashes and time: what holds in every one of them."""

import random
from pathlib import Path
from typing import Any

import pytest

from healer.domain.budget import Bucket
from healer.domain.episode import EpisodeState
from healer.domain.pause import Pause
from healer.domain.playbook import Guards, Rate, Scope
from healer.domain.run import Phase
from healer.domain.storm import is_storm
from healer.domain.target import TargetRef
from healer.engine.worker import tick
from healer.errors import Conflict, Fenced, Refused, Throttled, TimedOut, Unreachable
from healer.testing.builders import a_playbook
from tests.engine.stage import Stage, a_stage

LEASE = 30.0
STEPS = 80
TARGET_BUDGET = 3
RESTING = {EpisodeState.CLOSED, EpisodeState.SETTLED, EpisodeState.ESCALATED}
GUARDS = Guards(
    cooldown_seconds=60.0,
    storm_minimum=4,
    budgets={scope: Rate(1000, 1.0) for scope in Scope}
    | {Scope.OWNER: Rate(TARGET_BUDGET, 3600.0)},
)


class Chaos:
    """One random schedule."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.dice = random.Random(seed)
        self.owners = 1
        self.paused = False
        self.done: list[tuple[float, TargetRef]] = []  #: deletes that took effect
        self._watch_deletes()

    def _watch_deletes(self) -> None:
        delete = self.stage.cluster.delete

        async def watched(ref: TargetRef, **named: Any) -> None:
            zones = await self.stage.cluster.zones()
            zone = self._zone(ref)
            assert not self.paused, "nothing is done while paused"
            assert self.stage.alerts.down is None or await self._just_told(), "not while blind"
            assert zone not in zones or not is_storm(zones[zone], GUARDS), "nothing in a storm"
            there = ref in self.stage.cluster.pods_of(self.stage.web)
            try:
                await delete(ref, **named)
            finally:
                if there and ref not in self.stage.cluster.pods_of(self.stage.web):
                    self.done.append((self.stage.clock.now(), ref))

        self.stage.cluster.delete = watched  # type: ignore[method-assign]

    async def _just_told(self) -> bool:
        """A delivery of a moment ago needs no look at its source."""
        limit = self.stage.clock.now() - self.stage.world.options.fresh_seconds
        return any(episode.last_seen_at >= limit for episode in await self.stage.firing())

    def _zone(self, ref: TargetRef) -> str:
        node = next(
            (
                self.stage.cluster.object(pod)["spec"].get("nodeName", "")
                for pod in self.stage.cluster.pods_of(self.stage.web)
                if pod == ref
            ),
            "",
        )
        return node.removeprefix("node-")

    async def step(self) -> None:  # noqa: PLR0912 - one branch for each thing that can happen
        """One thing happens."""
        stage, dice = self.stage, self.dice
        pods = stage.cluster.pods_of(stage.web)
        match dice.randrange(14):
            case 0 | 1 | 2:
                pod = dice.choice(pods)
                stage.break_pod(pod)
                for _ in range(dice.randint(1, 3)):  # peers deliver it again
                    await stage.fire(pod)
            case 3:
                stage.mend_pod(dice.choice(pods))
            case 4:
                if firing := await stage.firing():
                    await stage.resolve(dice.choice(firing).id)
            case 5:
                error = dice.choice(
                    [TimedOut("?"), Unreachable("no", sent=False), Throttled("slow"),
                     Conflict("changed"), Refused("no")]
                )  # fmt: skip
                after = isinstance(error, TimedOut) and dice.random() < 0.5
                stage.cluster.fail_next("delete", error, after=after)
            case 6:
                stage.cluster.fail_next("observe", Unreachable("cut"))
            case 7:
                stage.alerts.down = Unreachable("away") if self._rarely(stage.alerts.down) else None
            case 8:
                self.paused = self._rarely(self.paused)
                if self.paused:
                    await stage.store.set_pause(Pause("p", "stop", "ada", stage.clock.now()))
                else:
                    await stage.store.clear_pause("p", "ada", stage.clock.now())
            case 9:
                stage.cluster.pods_start = not self._rarely(not stage.cluster.pods_start)
            case _:
                stage.clock.advance(dice.choice([1, 5, 20, 90, 600, 1800]))
        await self.work()

    def _rarely(self, already: object) -> bool:
        """Trouble begins now and then, and ends with the next throw."""
        return not already and self.dice.random() < 0.4

    async def work(self) -> None:
        """The worker does what is due; now and then it dies between two commits."""
        for _ in range(60):
            owner = f"worker-{self.owners}"
            claims = await self.stage.store.claim(owner, self.stage.clock.now(), LEASE, 10)
            if not claims:
                return
            for claim in claims:
                held = claim
                try:
                    while held.owner:
                        if self.dice.random() < 0.08:
                            self.owners += 1  # it never comes back; its lease runs out
                            break
                        held = await tick(self.stage.world, held)
                except Fenced:
                    continue
        raise AssertionError("the engine does not come to rest")


@pytest.mark.parametrize("seed", range(12))
async def test_every_schedule_keeps_the_promises(tmp_path: Path, seed: int) -> None:
    """One effect per pod, none blind, paused or in a storm, budgets kept, everything ends."""
    async with a_stage(tmp_path, a_playbook(guards=GUARDS)) as stage:
        stage.cluster.change(stage.web, {"spec": {"replicas": 6}})
        stage.clock.advance(600)
        chaos = Chaos(stage, seed)
        for _ in range(STEPS):
            await chaos.step()
        await _calm(chaos)
        uids = [ref.uid for _, ref in chaos.done]
        assert len(uids) == len(set(uids))
        _within_budget(chaos.done)
        for run in await stage.store.runs(limit=10_000):
            assert all(record.outcome is not None for record in run.steps), run.id
            assert run.phase is Phase.DONE or run.phase is Phase.GUARD, run.id
        for episode in await stage.store.episodes(_all()):
            assert episode.state in RESTING, (episode.id, episode.state, episode.reason)
        again = await stage.fire(stage.pod())
        await chaos.work()
        assert (await stage.episode(again)).detail.find("is being worked on") < 0


async def _calm(chaos: Chaos) -> None:
    """The trouble ends: all alerts resolve, and enough time passes for whatever was begun."""
    stage = chaos.stage
    chaos.paused = False
    await stage.store.clear_pause("p", "ada", stage.clock.now())
    stage.alerts.down = None
    stage.cluster.pods_start = True
    chaos.dice = random.Random(1)
    chaos.dice.random = lambda: 1.0  # type: ignore[method-assign]  # nobody dies any more
    for pod in stage.cluster.pods_of(stage.web):
        stage.mend_pod(pod)
    for episode in await stage.firing():
        await stage.resolve(episode.id)
    for _ in range(40):
        stage.clock.advance(120)
        await chaos.work()


def _within_budget(done: list[tuple[float, TargetRef]]) -> None:
    bucket = Bucket(float(TARGET_BUDGET), done[0][0] if done else 0.0)
    for at, _ in done:
        tokens = min(TARGET_BUDGET, bucket.tokens + (at - bucket.at) * TARGET_BUDGET / 3600.0)
        assert tokens >= 1 - 1e-6, "more was done than the budget grants"
        bucket = Bucket(tokens - 1, at)


def _all() -> Any:
    from healer.ports import EpisodeFilter

    return EpisodeFilter(limit=10_000)
