"""The worker, the outbox, Events and the pause file: many at a time, each alone in its trouble."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from healer.domain.episode import EpisodeState
from healer.domain.journal import Fact, FactKind
from healer.domain.run import Run
from healer.domain.target import Kind
from healer.domain.verdict import Reason
from healer.engine.announcer import Announcer
from healer.engine.outbox import MAX_ATTEMPTS, Outbox
from healer.engine.switch import PauseFile
from healer.engine.worker import Worker
from healer.errors import StoreUnavailable, Unreachable
from healer.ports import Message
from healer.testing.builders import a_playbook
from healer.testing.clock import FakeClock
from healer.testing.objects import a_workload
from tests.engine.stage import Stage, a_stage


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is so; a test that waits too long fails."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - many things are waited for, most without an event
            await asyncio.sleep(0.005)  # noqa: TID251 - the journal's thread works meanwhile


@asynccontextmanager
async def working(stage: Stage) -> AsyncIterator[Worker]:
    """A worker that goes round by itself."""
    worker = Worker(stage.world)

    async def rounds() -> None:
        while True:
            await worker.round()

    task = asyncio.create_task(rounds())
    try:
        yield worker
    finally:
        task.cancel()
        await worker.drain(5)
        await asyncio.wait({task})


async def _sick(stage: Stage, count: int = 1) -> list[str]:
    stage.clock.advance(600)
    stage.cluster.change(stage.web, {"spec": {"replicas": max(3, count)}})
    found = []
    for pod in stage.cluster.pods_of(stage.web)[:count]:
        stage.break_pod(pod)
        found.append(await stage.fire(pod))
    return found


async def test_a_wake_is_answered_without_any_time_passing(tmp_path: Path) -> None:
    """A worker that rests acts as soon as it is woken."""
    async with a_stage(tmp_path, a_playbook()) as stage, working(stage) as worker:
        await until(lambda: worker.in_flight == 0)
        await _sick(stage)
        worker.wake()
        await until(lambda: len(stage.deleted()) == 1)


async def test_only_so_many_are_driven_at_a_time(tmp_path: Path) -> None:
    """With room for two, the third episode waits until one of them rests."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        stage.options(concurrency=2)
        holds = [stage.cluster.hold_next("observe") for _ in range(3)]
        await _sick(stage, 3)
        async with working(stage) as worker:
            worker.wake()
            await until(lambda: holds[0].reached.is_set() and holds[1].reached.is_set())
            assert worker.in_flight == 2
            assert not holds[2].reached.is_set()
            holds[0].release()
            await until(holds[2].reached.is_set)
            assert worker.in_flight == 2
            for hold in holds:
                hold.release()


async def test_an_episode_that_cannot_be_driven_stops_only_itself_and_is_told(
    tmp_path: Path,
) -> None:
    """One fault nobody foresaw is held, paged when it lasts, and the others are healed."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        bad, good = await _sick(stage, 2)
        poisoned = (await stage.episode(bad)).labels["pod"]
        observe = stage.cluster.observe

        async def fail_one(ref: Any) -> Any:
            if ref.name == poisoned:
                raise RuntimeError("never foreseen")
            return await observe(ref)

        stage.cluster.observe = fail_one  # type: ignore[method-assign]
        async with working(stage) as worker:
            worker.wake()
            await until(lambda: len(stage.deleted()) == 1 and worker.in_flight == 0)
            for _ in range(8):
                stage.clock.advance(15)
                worker.wake()
                await until(lambda: worker.in_flight == 0)
                await asyncio.sleep(0.05)  # noqa: TID251 - a round
            episode = await stage.episode(bad)
            assert (episode.state, episode.reason) == (
                EpisodeState.BLOCKED, Reason.TEMPORARY_FAILURE,
            )  # fmt: skip
            assert "never foreseen" in episode.detail
            assert len(await stage.told()) == 1
            assert (await stage.episode(good)).reason is not Reason.TEMPORARY_FAILURE


async def test_what_is_due_again_at_its_release_is_told_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An episode claimed again before its drive heard of its own release: nothing is missed."""
    async with a_stage(tmp_path, a_playbook()) as stage, working(stage) as worker:
        commit, claim, observe = stage.store.commit, stage.store.claim, stage.cluster.observe
        claims, written, heard = list[str](), list[Fact](), list[Fact]()

        class Ear:
            def heard(self, episode: Any, run: Any, facts: Any) -> None:
                heard.extend(facts)

        async def counted(*args: Any) -> Any:
            found = await claim(*args)
            claims.extend(one.episode.id for one in found)
            return found

        async def late(claimed: Any, change: Any) -> Any:
            after = await commit(claimed, change)
            if change.release and not written:
                written.extend(change.facts)
                stage.clock.advance(60)
                worker.wake()
                await until(lambda: len(claims) == 2)
                for _ in range(5):
                    await asyncio.sleep(0)  # noqa: TID251 - the second drive has begun
            return after

        async def fail_once(ref: Any) -> Any:
            stage.cluster.observe = observe  # type: ignore[method-assign]
            raise RuntimeError("never foreseen")

        stage.world.listeners.append(Ear())
        stage.store.claim, stage.store.commit = counted, late  # type: ignore[method-assign]
        stage.cluster.observe = fail_once  # type: ignore[method-assign]
        await _sick(stage)
        worker.wake()
        await until(lambda: len(stage.deleted()) == 1)
        assert written
        assert all(fact in heard for fact in written)
        assert "claimed again by ourselves" not in caplog.text


async def test_a_clock_that_jumps_over_a_lease_does_nothing_twice(tmp_path: Path) -> None:
    """The worker claims its own busy episode again: the first drive ends before the second."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        hold = stage.cluster.hold_next("delete")
        (episode_id,) = await _sick(stage)
        async with working(stage) as worker:
            worker.wake()
            await until(hold.reached.is_set)
            stage.clock.jump(3600)
            worker.wake()
            await until(lambda: stage.cluster.calls["delete"] >= 1 and worker.in_flight <= 1)
            for _ in range(6):
                stage.clock.advance(5)
                worker.wake()
                await asyncio.sleep(0.05)  # noqa: TID251 - a round
            hold.release()
            await until(lambda: worker.in_flight == 0)
            run = (await stage.store.runs(episode_id))[0]
            assert run.open_step is None
            assert len({w.ref.uid for w in stage.cluster.writes if w.call == "delete"}) == 1


async def test_a_lost_lease_stops_the_drive(tmp_path: Path) -> None:
    """When another worker took the episode over, ours is stopped at the next renewal."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        hold = stage.cluster.hold_next("observe")
        await _sick(stage)
        async with working(stage) as worker:
            worker.wake()
            await until(hold.reached.is_set)
            await stage.store.claim("worker-2", stage.clock.now() + 31, 30.0, 5)
            renewing = asyncio.create_task(worker.renew())
            await until(lambda: worker.in_flight == 0)
            renewing.cancel()
            assert stage.deleted() == []


async def test_a_lease_that_cannot_be_renewed_stops_its_drive_in_time(tmp_path: Path) -> None:
    """With a full disk the drive is stopped before the lease ends on the monotonic clock."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        hold = stage.cluster.hold_next("observe")
        await _sick(stage)
        async with working(stage) as worker:
            worker.wake()
            await until(hold.reached.is_set)

            async def full(*_: Any) -> set[str]:
                raise StoreUnavailable("disk full")

            stage.store.renew = full  # type: ignore[method-assign]
            with pytest.raises(StoreUnavailable):
                await worker.renew()
            assert worker.in_flight == 1, "the lease still holds"
            stage.clock.advance(21)
            with pytest.raises(StoreUnavailable):
                await worker.renew()
            await until(lambda: worker.in_flight == 0)
            del stage.store.renew  # type: ignore[method-assign]


async def test_a_drain_gives_back_what_is_under_way(tmp_path: Path) -> None:
    """After a drain another worker can take the episode at once, without waiting for a lease."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        hold = stage.cluster.hold_next("delete")
        await _sick(stage)
        async with working(stage) as worker:
            worker.wake()
            await until(hold.reached.is_set)
            draining = asyncio.create_task(worker.drain(10))
            hold.release()
            await draining
            assert worker.in_flight == 0
            assert len(await stage.store.claim("worker-2", stage.clock.now(), 30.0, 5)) == 1


class Pager:
    """Fails as it is told, then delivers."""

    name = "pager"

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.sent: list[str] = []
        self.asked = 0

    async def send(self, message: Message) -> None:
        """Deliver, or fail."""
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        self.sent.append(message.id)


async def _deliver(stage: Stage, outbox: Outbox, times: int, every: float) -> None:
    for _ in range(times):
        turn = asyncio.create_task(outbox.round())
        while not turn.done():
            stage.clock.advance(0.5)
            await asyncio.wait({turn}, timeout=0.01)
        await turn
        stage.clock.advance(every)


async def _page(stage: Stage) -> None:
    stage.cluster.pods_start = False
    await _sick(stage)
    await stage.settle()
    await stage.pass_time(90)


@pytest.mark.parametrize("error", [Unreachable("away"), RuntimeError("a fault of the notifier")])
async def test_a_message_is_tried_until_it_arrives(tmp_path: Path, error: Exception) -> None:
    """Trouble of any kind is tried again, later each time, and delivered once."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        await _page(stage)
        pager = Pager(error, error)
        outbox = Outbox(stage.world, {"pager": pager})
        await _deliver(stage, outbox, 10, 5)
        assert (len(pager.sent), pager.asked) == (1, 3)


async def test_a_message_that_never_arrives_is_dropped_loudly(tmp_path: Path) -> None:
    """After the last attempt it is counted as undelivered and no longer tried."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        await _page(stage)
        pager = Pager(*[Unreachable("away")] * (MAX_ATTEMPTS + 5))
        outbox = Outbox(stage.world, {"pager": pager})
        await _deliver(stage, outbox, MAX_ATTEMPTS + 3, 700)
        assert (pager.asked, outbox.undelivered) == (MAX_ATTEMPTS, 1)


async def test_a_message_for_a_channel_that_is_gone_is_counted(tmp_path: Path) -> None:
    """A channel that was taken out of the settings cannot hold up the queue."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        await _page(stage)
        outbox = Outbox(stage.world, {})
        await _deliver(stage, outbox, 2, 5)
        assert outbox.undelivered == 1
        assert await stage.told() == []


async def test_events_are_announced_under_names_that_the_server_takes(tmp_path: Path) -> None:
    """Even when the target's name is cut right behind a dash."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        name = "a" * 39 + "-b"
        stage.cluster.add(a_workload(Kind.DEPLOYMENT, name))
        announcer = Announcer(stage.cluster, "me")
        stage.world.listeners.append(announcer)
        (episode_id,) = await _sick(stage)
        await stage.settle()
        run = (await stage.store.runs(episode_id))[0]
        fact = Fact(FactKind.INTENT, stage.clock.now(), episode_id, run.id)
        announcer.heard(await stage.episode(episode_id), _aimed_at(run, name), [fact])
        while not announcer._queue.empty():
            await announcer.round()
        events = await stage.cluster.list(Kind.EVENT)
        assert {e["reason"] for e in events} >= {"HealerActs"}
        for event in events:
            assert re.fullmatch(
                r"([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z0-9]+", event["metadata"]["name"]
            )


def _aimed_at(run: Run, name: str) -> Run:
    from dataclasses import replace

    target = replace(run.plan.target, kind=Kind.DEPLOYMENT, name=name)
    return replace(run, plan=replace(run.plan, target=target))


async def test_the_pause_file_stops_with_its_reason_and_when_it_cannot_be_read(
    tmp_path: Path,
) -> None:
    """No file, no pause; a file with or without a reason, or an unreadable one, is a pause."""
    file = PauseFile(tmp_path / "new" / "pause", FakeClock())
    assert file.pauses() == ()
    file.set("release night")
    (pause,) = file.pauses()
    assert (pause.reason, pause.covers("any", "any", 0.0)) == ("release night", True)
    (tmp_path / "new" / "pause").write_bytes(b"\xff\xfe")
    assert len(file.pauses()) == 1
    assert len(PauseFile(tmp_path, FakeClock()).pauses()) == 1
