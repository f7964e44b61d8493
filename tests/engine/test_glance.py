"""Looks at a target that the episodes of one moment share."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from healer.domain.episode import EpisodeState
from healer.domain.target import Kind
from healer.domain.verdict import Reason
from healer.engine.glance import SHARED_SECONDS, Glances
from healer.errors import Unreachable
from healer.testing.builders import a_playbook
from healer.testing.clock import FakeClock
from healer.testing.cluster import FakeCluster
from healer.testing.objects import a_workload
from tests.engine.stage import a_stage


async def test_a_young_look_is_shared_and_an_old_one_is_not() -> None:
    """Whoever will share gets a look of the last second, also one under way, and no older one."""
    clock, glances = FakeClock(), Glances()
    cluster = FakeCluster(clock)
    web = cluster.add(a_workload(Kind.DEPLOYMENT, "web"))

    async def look(share: bool = True) -> bool:
        return (await glances.observe(cluster, clock, web, share=share))[1]

    hold = cluster.hold_next("observe")
    looks = [asyncio.create_task(look()) for _ in range(5)]
    await hold.reached.wait()
    hold.release()
    assert await asyncio.gather(*looks) == [False, True, True, True, True]
    assert not await look(share=False)
    assert cluster.calls["observe"] == 2
    clock.advance(SHARED_SECONDS)
    assert await look()
    clock.advance(0.01)
    assert not await look()


async def test_a_failed_look_is_not_shared() -> None:
    """When the look under way fails, those who waited for it look by themselves."""
    clock, glances = FakeClock(), Glances()
    cluster = FakeCluster(clock)
    web = cluster.add(a_workload(Kind.DEPLOYMENT, "web"))
    hold = cluster.hold_next("observe")
    cluster.fail_next("observe", Unreachable("the line is cut"))
    first = asyncio.create_task(glances.observe(cluster, clock, web, share=True))
    await hold.reached.wait()
    second = asyncio.create_task(glances.observe(cluster, clock, web, share=True))
    hold.release()
    with pytest.raises(Unreachable):
        await first
    seen, shared = await second
    assert (seen.ref.uid, shared) == (web.uid, False)


async def test_what_waits_shares_a_look(tmp_path: Path) -> None:
    """Of many alerts of one object, those that must wait do so without a look of their own."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        stage.break_pod(stage.pod())
        for number in range(8):
            await stage.fire(stage.pod(), {"container": f"c-{number}"})
        await stage.settle()
        held = [e for e in await stage.firing() if e.state is EpisodeState.BLOCKED]
        assert [e.reason for e in held] == [Reason.TARGET_LOCKED] * 7
        assert stage.cluster.calls["observe"] < 8


async def test_nobody_acts_or_gives_up_on_the_look_of_another(tmp_path: Path) -> None:
    """When a shared look says anything but to wait, the target is looked at anew."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        pod, world = stage.pod(), stage.world
        stage.break_pod(pod)
        found = replace(pod, uid="")
        await world.glances.observe(stage.cluster, stage.clock, found, share=False)
        stage.cluster.remove(pod)
        late = await stage.fire(pod)
        await stage.settle()
        assert (await stage.episode(late)).reason is Reason.TARGET_GONE
        assert stage.cluster.calls["delete"] == 0
