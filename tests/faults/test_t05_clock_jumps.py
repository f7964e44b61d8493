"""T5: the wall clock jumps an hour or a day, either way; the process is suspended."""

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from healer.clients.prometheus import Prometheus
from healer.domain.alert import AlertStatus
from healer.domain.guard import decide
from healer.domain.playbook import (
    Guards,
    Playbook,
    ProbeRule,
    Rate,
    Scope,
    StepRule,
    TargetRule,
    VerifyRule,
    Window,
)
from healer.domain.target import Kind
from healer.domain.verdict import Reason
from healer.engine.sources.level import AlertLevel
from healer.engine.sources.poller import Poller
from healer.errors import Blind
from healer.kernel.steady import RATE, SteadyClock
from healer.store.sqlite import SqliteStore
from healer.testing.builders import a_plan, a_playbook, an_alert, calm
from healer.testing.clock import FakeClock
from tests.engine.stage import Stage
from tests.faults.kept import missing_in
from tests.faults.preload import compiled
from tests.faults.process import PATIENCE, Sender, Served, body, now
from tests.faults.prometheus_api import PrometheusApi

HOUR, DAY = 3600.0, 86400.0
JUMPS = [HOUR, -HOUR, DAY, -DAY]
Record = Callable[[str, object], None]
COOLDOWN = 900.0
GUARDS = Guards(cooldown_seconds=COOLDOWN, budgets={scope: Rate(1000, 1.0) for scope in Scope})
READY = VerifyRule((ProbeRule("workload_ready", {}),), 60.0, 5.0, 10.0)
#: Restarts the whole workload: each of its pods' alerts has the same target and cooldown.
RESTART = a_playbook(
    target=TargetRule(Kind.POD, "${labels.pod}", "${labels.namespace}", owner=True),
    steps=(StepRule("restart", "restart_rollout", {}, READY),),
    guards=GUARDS,
)


class Jumpy(FakeClock):
    """A fake machine whose wall clock can jump, seen as the daemon sees it."""

    def __init__(self) -> None:
        super().__init__()
        self._steady = SteadyClock(_Raw(self))

    def now(self) -> float:
        return self._steady.now()

    def wall(self) -> float:
        """What the machine's own clock says."""
        return super().now()


class _Raw:
    def __init__(self, clock: Jumpy) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.wall()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


@asynccontextmanager
async def jumpy(folder: Path, *playbooks: Playbook) -> AsyncIterator[tuple[Stage, Jumpy]]:
    """A stage on such a machine."""
    clock = Jumpy()
    store = await SqliteStore.open(folder / "healer.db", clock=clock, accept_seconds=10.0)
    try:
        yield Stage(store, clock, *playbooks), clock
    finally:
        await store.close()


@given(st.lists(st.tuples(st.floats(0.001, 600), st.floats(-2 * DAY, 2 * DAY)), max_size=30))
def test_t5_steady_time_neither_jumps_nor_goes_back(steps: list[tuple[float, float]]) -> None:
    """Whatever the wall clock does, time runs between half and one and a half as fast as real."""
    machine = FakeClock()
    clock = SteadyClock(machine)
    before = clock.now()
    for passed, jump in steps:
        machine.jump(jump)
        machine.advance(passed)
        after = clock.now()
        assert passed * (1 - RATE) - 1e-3 <= after - before <= passed * (1 + RATE) + 1e-3
        before = after


@pytest.mark.parametrize("jump", JUMPS)
def test_t5_a_jump_is_made_up_for(jump: float) -> None:
    """After twice the jump's length the clock shows the wall's time again."""
    machine = FakeClock()
    clock = SteadyClock(machine)
    machine.jump(jump)
    for _ in range(100):
        machine.advance(2 * abs(jump) / 100)
        clock.now()
    assert abs(clock.off) < 1e-3


@pytest.mark.parametrize("jump", JUMPS)
async def test_t5_no_cooldown_is_skipped_or_endless(
    tmp_path: Path, jump: float, record_property: Record
) -> None:
    """After a jump the next action comes no earlier than 2/3 and no later than twice its wait."""
    record_property("fault", "T5")
    async with jumpy(tmp_path, RESTART) as (stage, clock):
        effects = stage.cluster.writes
        await stage.pass_time(600, step=60)
        for _ in range(2):
            pod = stage.pod()
            stage.break_pod(pod)
            await stage.fire(pod)
            await stage.pass_time(30)
        first = clock.monotonic()
        assert len(effects) == 1
        clock.jump(jump)
        while len(effects) == 1:
            await stage.pass_time(5)
            assert clock.monotonic() - first < 2 * COOLDOWN + 700, "nothing is done any more"
        waited = clock.monotonic() - first
        assert waited >= (COOLDOWN - 60) / (1 + RATE)
        record_property("worst", f"{jump:+.0f} s: cooldown of {COOLDOWN:.0f} s took {waited:.0f} s")


@pytest.mark.parametrize("jump", JUMPS)
async def test_t5_no_lease_is_taken_over_early_or_never(tmp_path: Path, jump: float) -> None:
    """A lease of 30 s is left alone until its holder has stopped, and free a minute later."""
    async with jumpy(tmp_path, a_playbook()) as (stage, clock):
        await stage.pass_time(600, step=60)
        pod = stage.pod()
        stage.break_pod(pod)
        await stage.fire(pod)
        assert await stage.store.claim("gone", clock.now(), 30.0, 1)
        clock.jump(jump)
        waited = 0.0
        while not await stage.store.claim("next", clock.now(), 30.0, 1):
            clock.advance(0.5)
            waited += 0.5
            assert waited <= 60.5
        assert waited >= 20.0  # its holder stops after two thirds, on the monotonic clock


@pytest.mark.parametrize("jump", JUMPS)
async def test_t5_a_run_ends_as_if_nothing_had_happened(tmp_path: Path, jump: float) -> None:
    """A jump while it verifies neither fails nor heals the step, which ends in its own time."""
    async with jumpy(tmp_path, a_playbook(guards=GUARDS)) as (stage, clock):
        await stage.pass_time(600, step=60)
        stage.cluster.pods_start = False
        pod = stage.pod()
        stage.break_pod(pod)
        episode_id = await stage.fire(pod)
        await stage.pass_time(10)
        clock.jump(jump)
        await stage.pass_time(20)
        assert (await stage.store.runs(episode_id))[0].phase == "verifying"
        await stage.pass_time(120)
        assert (await stage.store.runs(episode_id))[0].result == "escalated"


async def test_t5_a_clock_set_back_while_nobody_served_delays_nothing(tmp_path: Path) -> None:
    """After a restart a day earlier a blocked episode, its cooldown and budget wait as before."""
    clock = FakeClock()
    clock.advance(600)
    store = await SqliteStore.open(tmp_path / "healer.db", clock=clock, accept_seconds=10.0)
    stage = Stage(store, clock, RESTART)
    for _ in range(2):
        pod = stage.pod()
        stage.break_pod(pod)
        await stage.fire(pod)
        await stage.pass_time(30)
    assert len(stage.cluster.writes) == 1
    await store.close()
    clock.jump(-DAY)
    again = await SqliteStore.open(tmp_path / "healer.db", clock=clock, accept_seconds=10.0)
    stage.store = stage.world.store = again
    await stage.pass_time(COOLDOWN - 120, step=15)
    assert len(stage.cluster.writes) == 1
    await stage.pass_time(600, step=15)
    assert len(stage.cluster.writes) == 2
    await again.close()


async def test_t5_a_sample_is_as_old_as_the_true_clock_says() -> None:
    """After a suspend of eight hours a fresh sample is stale by the steady clock alone."""
    clock = Jumpy()
    clock.jump(8 * HOUR)
    true = _Raw(clock)
    async with PrometheusApi(true).serving() as api:
        api.series["up"] = [{"job": "web"}]
        for judge, blind in ((clock, True), (true, False)):
            client = Prometheus(api.url, clock=judge, external_labels={})
            try:
                if blind:
                    with pytest.raises(Blind):
                        await client.query("up")
                else:
                    assert await client.query("up")
            finally:
                await client.close()


@pytest.mark.parametrize("off", [8 * HOUR, -HOUR])
def test_t5_a_calendar_is_kept_by_the_true_clock(off: float) -> None:
    """A freeze holds while it is on by the true time, and ends then, said in steady time."""
    wall = calm().now + off
    minute = int(wall // 60) % 1440
    window = Window(tuple(range(7)), minute - 5, minute + 10, True, "release")
    plan = a_plan(guards=Guards(windows=(window,)))
    verdict, _ = decide(plan, plan.steps[0], replace(calm(), wall=wall))
    assert verdict.reason is Reason.FREEZE_WINDOW
    assert verdict.until is not None
    assert 0 < verdict.until - calm().now <= 600
    verdict, allow = decide(plan, plan.steps[0], replace(calm(), wall=wall + 700))
    assert allow is not None, verdict


async def test_t5_what_fires_after_a_suspend_is_not_taken_for_what_ended_before(
    tmp_path: Path,
) -> None:
    """An alert that ended and fires again while the steady clock lags is opened by a poll."""
    async with jumpy(tmp_path, RESTART) as (stage, clock):
        stage.world.wall_clock = _Raw(clock)
        pod = stage.pod()
        episode_id = await stage.fire(pod)
        clock.jump(8 * HOUR)
        ended = replace(
            an_alert(labels=(await stage.episode(episode_id)).labels),
            status=AlertStatus.RESOLVED,
            ends_at=clock.wall(),
        )
        await stage.store.accept([ended], [], clock.now())
        await stage.fold()
        await stage.settle()
        assert not await stage.firing()
        clock.advance(60)
        stage.alerts.fire(ended.labels, clock.wall())
        level = AlertLevel(clock, None, stage.alerts, wall=stage.world.wall)
        await Poller(stage.world, level, lambda: None).poll()
        await stage.fold()
        assert [e.fingerprint for e in await stage.firing()] == [ended.fingerprint]


def _newest_look(journal: Path) -> float:
    """When the episodes of the journal were looked at last, by the process's own clock."""
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as connection:
        docs = connection.execute("SELECT doc FROM episode").fetchall()
    return max((float(json.loads(doc)["updated_at"]) for (doc,) in docs), default=0.0)


async def test_t5_a_real_process_goes_on_through_jumps_and_a_stop(
    tmp_path: Path, record_property: Record
) -> None:
    """A day forward, a day back and a stop: it stays alive, accepts, looks again, loses nothing."""
    record_property("fault", "T5")
    journal, offset = tmp_path / "healer.db", tmp_path / "offset"
    offset.write_text("0")
    shim = {"LD_PRELOAD": str(compiled("jump_clock", tmp_path)), "JUMP_CLOCK": str(offset)}
    worst = 0.0
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        served = Served(tmp_path, {"path": str(journal)}, shim)
        await stack.enter_async_context(served)
        sender = Sender(served, http)
        await sender.until_ready(200)
        assert (await sender.post(body())).status == 200
        while not _newest_look(journal):
            await sender.post(body())
        for seconds in ("86400", "-86400", "-3600", "stop"):
            before = _newest_look(journal)
            if seconds == "stop":
                served.send(signal.SIGSTOP)
                await asyncio.sleep(2.0)  # noqa: TID251 - the time in which it is stopped
                served.send(signal.SIGCONT)
            else:
                offset.write_text(seconds)
            began = now()
            while (await sender.post(body())).status != 200:
                assert now() - began < PATIENCE
            await sender.until_ready(200)
            while not before < _newest_look(journal) < before + 60 + 2 * (now() - began):
                looks = (seconds, before, _newest_look(journal), [a.status for a in sender.answers])
                assert now() - began < PATIENCE / 4, f"no episode is looked at any more: {looks}"
                await asyncio.sleep(0.2)  # noqa: TID251 - another process
                await sender.post(body())
            worst = max(worst, now() - began)
        assert served.stop() == 0
        assert await missing_in(journal, sender.acknowledged) == 0
    record_property("worst", f"a real process: looks again {worst:.1f} s after a jump or stop")
