"""T12: what does not help, what flaps and what we cause ourselves is done a few times at most."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from healer.domain.guard import RECURRENCE
from healer.domain.playbook import Guards, Rate, Scope
from healer.domain.target import Kind, TargetRef
from healer.domain.verdict import Reason
from healer.engine.worker import tick
from healer.errors import Fenced
from healer.ports import Claim, EpisodeFilter
from healer.testing.builders import a_playbook
from healer.testing.objects import a_workload
from tests.engine.stage import Stage, a_stage
from tests.faults.storms import Effects

Record = Callable[[str, object], None]
PLENTY = {scope: Rate(100_000, 1.0) for scope in Scope}
#: Only the breaker and the number at work hold anything back.
FREE = Guards(budgets=PLENTY, storm_minimum=1000, cooldown_seconds=1.0, max_age_seconds=86400.0)
SICK = 12


async def _many_sick(stage: Stage) -> list[str]:
    """Twelve workloads in one zone, one pod of each broken; nothing that is done helps."""
    for name in ("node-b", "node-c"):
        zone = {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}}
        stage.cluster.change(TargetRef(Kind.NODE, name), zone)
    apps = [stage.cluster.add(a_workload(Kind.DEPLOYMENT, f"app{n}")) for n in range(SICK)]
    stage.clock.advance(600)
    stage.cluster.pods_start = False
    ids = []
    for app in apps:
        pod = stage.cluster.pods_of(app)[0]
        stage.break_pod(pod)
        ids.append(await stage.fire(pod))
    return ids


async def _at_once(stage: Stage) -> None:
    """Everything that is due is driven at the same time, as many workers would."""

    async def drive(claim: Claim) -> None:
        try:
            while claim.owner:
                claim = await tick(stage.world, claim)
        except Fenced:
            return

    claims = await stage.store.claim(stage.world.owner, stage.clock.now(), 30.0, 100)
    await asyncio.gather(*(drive(claim) for claim in claims))


async def _pass(stage: Stage, seconds: float) -> None:
    ends = stage.clock.now() + seconds
    while stage.clock.now() < ends:
        stage.clock.advance(15)
        await _at_once(stage)


async def test_t12_a_remedy_that_does_not_help_opens_the_breaker(
    tmp_path: Path, record_property: Record
) -> None:
    """The breaker opens within maxInFlight; half open it lets exactly one run through."""
    record_property("fault", "T12")
    async with a_stage(tmp_path, a_playbook(guards=FREE)) as stage:
        effects = Effects(stage)
        await _many_sick(stage)
        await _pass(stage, 1200)
        first = len(effects.at)
        assert FREE.breaker_failures <= first <= FREE.breaker_failures - 1 + FREE.max_in_flight
        waiting = await stage.store.episodes(EpisodeFilter(firing=True, limit=100))
        assert {e.reason for e in waiting if not e.result} == {Reason.BREAKER_OPEN}
        trials = []
        for _ in range(3):
            before = len(effects.at)
            await _pass(stage, FREE.breaker_seconds)
            trials.append(len(effects.at) - before)
        assert trials == [1, 1, 1]
        record_property("worst", f"{first} actions until open, then {max(trials)} an hour")


async def test_t12_a_canary_that_helps_lets_the_others_go_on(tmp_path: Path) -> None:
    """Once one run has helped the breaker is closed, and all that still fires is healed."""
    async with a_stage(tmp_path, a_playbook(guards=FREE)) as stage:
        effects = Effects(stage)
        await _many_sick(stage)
        await _pass(stage, 1200)
        first = len(effects.at)
        stage.cluster.pods_start = True
        await _pass(stage, FREE.breaker_seconds)
        assert len(effects.at) - first == SICK - first
        healed = [run for run in await stage.store.runs() if run.result == "healed"]
        assert sum(run.canary for run in healed) == 1


async def test_t12_a_flapping_alert_is_answered_within_its_budget(
    tmp_path: Path, record_property: Record
) -> None:
    """An alert that comes and goes every five minutes for hours is acted on within its budget."""
    record_property("fault", "T12")
    guards = Guards(cooldown_seconds=1.0, budgets={Scope.TARGET: Rate(100, 1.0)})
    async with a_stage(tmp_path, a_playbook(guards=guards)) as stage:
        effects = Effects(stage)
        stage.clock.advance(600)
        for _ in range(8 * 12):
            pod = stage.pod()
            stage.break_pod(pod)
            episode_id = await stage.fire(pod)
            await stage.pass_time(150, step=30)
            stage.alerts.end((await stage.episode(episode_id)).labels)
            if (await stage.episode(episode_id)).firing:
                await stage.resolve_only(episode_id)
            await stage.pass_time(150, step=30)
        an_hour, in_all = (
            effects.most_on_one_owner(3600),
            effects.most_within(RECURRENCE.per_seconds),
        )
        assert 0 < an_hour <= 2 * 4  # the default bucket of an owner, full, and refilled meanwhile
        assert in_all <= max(RECURRENCE.count, 3)
        record_property("worst", f"flapping: {an_hour} actions an hour, {in_all} in six hours")


@pytest.mark.parametrize("budgets", [{}, PLENTY], ids=["default-budgets", "no-budgets"])
async def test_t12_an_alert_that_our_own_action_causes_ends_with_a_person(
    tmp_path: Path, budgets: dict[Scope, Rate], record_property: Record
) -> None:
    """Each new pod that we make breaks in turn: after a few a person is asked for the cause."""
    record_property("fault", "T12")
    guards = Guards(cooldown_seconds=1.0, budgets=budgets)
    async with a_stage(tmp_path, a_playbook(guards=guards)) as stage:
        effects = Effects(stage)
        stage.clock.advance(600)
        broken: set[str] = set()
        ids = []
        for _ in range(36):
            for pod in stage.cluster.pods_of(stage.web):
                if (
                    (not broken or effects.at)
                    and pod.uid not in broken
                    and len(broken) <= len(effects.at)
                ):
                    broken.add(pod.uid)
                    stage.break_pod(pod)
                    ids.append(await stage.fire(pod))
            await stage.pass_time(600, step=30)
        done = len(effects.at)
        assert 1 < done <= RECURRENCE.count
        reasons = {(await stage.episode(one)).reason for one in ids}
        assert Reason.RECURRED in reasons
        assert any(title.startswith("Left alone") for title in await stage.told())
        record_property("worst", f"self-inflicted: {done} actions in six hours, then a person")
