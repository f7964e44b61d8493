"""What the leader alone does, what every replica does, and a change of leader loses nothing."""

import asyncio
from pathlib import Path

import pytest

from healer.domain.alert import Alert, AlertStatus
from healer.engine.sources.conditions import KEEP_SECONDS
from healer.engine.worker import DEFER_SECONDS, Worker
from healer.testing.builders import a_playbook
from tests.engine.stage import Stage, a_stage
from tests.engine.test_sources import (
    EXPR,
    LABELS,
    Asked,
    Polled,
    a_condition,
    a_query,
    watched,
)
from tests.engine.test_worker import until, working


class Terms:
    """Answers which term it is, and changes the answer after it was asked `after` times."""

    def __init__(self, stage: Stage, term: int) -> None:
        self.term = term
        self.next = term
        self.left = 0
        stage.world.term = self.ask

    def ask(self) -> int:
        if self.next != self.term:
            self.left -= 1
            if self.left < 0:
                self.term = self.next
        return self.term

    def change(self, term: int, *, after: int) -> None:
        self.next, self.left = term, after


@pytest.mark.parametrize("term", [0, 2])
async def test_a_poll_of_a_term_that_ended_is_not_handed_over(tmp_path: Path, term: int) -> None:
    """A leader that was frozen while it looked writes nothing, not even when it leads again."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        terms = Terms(stage, 1)
        polled = Polled(stage)
        stage.alerts.fire(LABELS)
        terms.change(term, after=1)
        assert await polled.poll() == []
        terms.change(3, after=0)
        assert len(await polled.poll()) == 1


async def test_absence_is_counted_within_one_term(tmp_path: Path) -> None:
    """What a new leader did not see vanish itself is resolved after its own polls only."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        terms = Terms(stage, 1)
        polled = Polled(stage)
        stage.alerts.fire(LABELS)
        await polled.poll()
        stage.clock.advance(200)
        stage.alerts.end(LABELS)
        assert len(await polled.poll(3)) == 1
        terms.change(2, after=0)
        stage.clock.advance(30)
        assert len(await polled.poll(3)) == 1
        stage.clock.advance(30)
        assert await polled.poll() == []


async def test_a_follower_evaluates_no_query_and_yet_knows_the_level(tmp_path: Path) -> None:
    """Triggers are the leader's, whether an alert still fires every replica asks for itself."""
    async with a_stage(tmp_path, a_query(lasting=30.0)) as stage:
        leader, follower = Asked(stage), Asked(stage)
        leader.metrics.set(EXPR, 200.0)
        follower.metrics = leader.metrics
        follower.queries._metrics = leader.metrics
        (known,) = await leader.ask(3)
        stage.world.term = lambda: 0
        leader.metrics.set(EXPR)
        assert len(await follower.ask(3)) == 1
        assert await follower.queries.is_firing(known) is False
        stage.world.term = lambda: 1
        assert await follower.ask() == [], "the new leader resolves what the other opened"


async def test_a_query_answered_after_the_term_is_not_told(tmp_path: Path) -> None:
    """An evaluation that outlives its term writes nothing, and the next term begins `for` anew."""
    async with a_stage(tmp_path, a_query(lasting=30.0)) as stage:
        terms = Terms(stage, 1)
        asked = Asked(stage)
        asked.metrics.set(EXPR, 200.0)
        assert await asked.ask(2) == []
        terms.change(2, after=1)
        assert await asked.ask() == []
        assert await asked.ask(2) == []
        assert len(await asked.ask()) == 1


async def test_a_follower_watches_conditions_and_tells_none(tmp_path: Path) -> None:
    """A follower knows what is so now, opens and resolves nothing, and does both once it leads."""
    async with watched(tmp_path, a_condition(lasting=2.0)) as it:
        it.stage.world.term = lambda: 0
        pod = it.stage.pod()
        it.stage.break_pod(pod)
        assert await it.tick(8) == []
        it.stage.world.term = lambda: 1
        (known,) = await it.tick(2)
        it.stage.world.term = lambda: 0
        assert await it.conditions.is_firing(known) is True
        it.stage.mend_pod(pod)
        assert len(await it.tick(int(KEEP_SECONDS) * 2)) == 1
        assert await it.conditions.is_firing(known) is False
        it.stage.world.term = lambda: 2
        assert len(await it.tick(2)) == 1
        assert await it.tick(int(KEEP_SECONDS)) == []


async def test_a_condition_that_another_leader_resolved_fires_anew(tmp_path: Path) -> None:
    """What we told in an earlier term is forgotten: the journal says what is told by now."""
    async with watched(tmp_path, a_condition(lasting=2.0)) as it:
        pod = it.stage.pod()
        it.stage.break_pod(pod)
        (known,) = await it.tick(4)
        it.stage.world.term = lambda: 0
        await it.tick()
        at = it.stage.clock.now()
        ended = Alert(
            known.source, known.fingerprint, AlertStatus.RESOLVED, known.labels, known.starts_at,
            ends_at=at, polled_at=at,
        )  # fmt: skip
        await it.stage.store.accept([ended], [], at)
        assert await it.tick(3) == []
        it.stage.world.term = lambda: 2
        (again,) = await it.tick(3)
        assert again.id != known.id


async def test_a_worker_without_the_api_server_lets_others_go_first(tmp_path: Path) -> None:
    """Whoever is cut off claims nothing that became due lately, and what nobody took in the end."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        pod = stage.pod()
        stage.clock.advance(600)
        stage.break_pod(pod)
        await stage.fire(pod)
        stage.world.cut_off = lambda: True
        worker = Worker(stage.world)
        for _ in range(int(DEFER_SECONDS) - 1):
            turn = asyncio.create_task(worker.round())
            stage.clock.advance(1)
            worker.wake()
            await turn
            assert worker.in_flight == 0
        assert stage.deleted() == []
        stage.clock.advance(DEFER_SECONDS)
        async with working(stage):
            await until(lambda: len(stage.deleted()) == 1)


async def test_what_is_claimed_while_a_drain_begins_is_given_back(tmp_path: Path) -> None:
    """A claim that was under way when the drain began is no 30 s wait for the other replica."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        pod = stage.pod()
        stage.clock.advance(600)
        stage.break_pod(pod)
        await stage.fire(pod)
        worker = Worker(stage.world)
        turn = asyncio.create_task(worker.round())
        await asyncio.sleep(0)  # noqa: TID251 - the claim is asked for now
        await worker.drain(10)
        assert worker.in_flight == 0
        assert stage.deleted() == []
        assert len(await stage.store.claim("worker-2", stage.clock.now(), 30.0, 5)) == 1
        turn.cancel()
        await asyncio.wait({turn})


async def test_a_drain_ends_though_a_step_does_not(tmp_path: Path) -> None:
    """What cannot be handed over in time is stopped, and looked up by the next owner."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        hold = stage.cluster.hold_next("delete")
        pod = stage.pod()
        stage.clock.advance(600)
        stage.break_pod(pod)
        id_ = await stage.fire(pod)
        async with working(stage) as worker:
            worker.wake()
            await until(hold.reached.is_set)
            await worker.drain(0.05)
            assert worker.in_flight == 0
        (run,) = await stage.store.runs(id_)
        assert run.open_step is not None
        assert await stage.store.claim("worker-2", stage.clock.now(), 30.0, 5) == []
