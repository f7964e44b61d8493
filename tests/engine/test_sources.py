"""Polls, queries and watched conditions, with a real journal: what fires is seen, once, in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from healer.domain.episode import Episode, EpisodeState
from healer.domain.playbook import Playbook, Trigger, TriggerKind
from healer.domain.target import Kind
from healer.engine.sources.conditions import KEEP_SECONDS, WATCH_SILENCE_SECONDS, Conditions
from healer.engine.sources.level import AlertLevel
from healer.engine.sources.poller import Poller
from healer.engine.sources.queries import Queries
from healer.errors import Blind, HealerError, StoreUnavailable, Unreachable
from healer.kernel.tasks import Progress
from healer.ports import EpisodeFilter
from healer.testing.builders import a_playbook, an_alert
from healer.testing.metrics import FakeMetrics
from tests.engine.stage import Stage, a_stage

LABELS = dict(an_alert().labels)


class Polled:
    """A stage with both sides of the level, and a poller."""

    def __init__(self, stage: Stage, *, alertmanager: bool = True) -> None:
        self.stage = stage
        self.metrics = FakeMetrics(stage.clock)
        self.level = AlertLevel(stage.clock, self.metrics, stage.alerts if alertmanager else None)
        self.changes = 0
        self.poller = Poller(stage.world, self.level, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def poll(self, times: int = 1, every: float = 30.0) -> list[Episode]:
        """Poll, fold, and say what is open."""
        for turn in range(times):
            if turn:
                self.stage.clock.advance(every)
            await self.poller.poll()
            await self.stage.fold()
        return await self.stage.firing()


async def test_what_the_webhook_missed_is_seen_by_a_poll_once(tmp_path: Path) -> None:
    """An alert nobody delivered becomes one episode, however often it is polled."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        polled = Polled(stage)
        stage.alerts.fire(LABELS)
        assert len(await polled.poll(4)) == 1
        assert len(await stage.store.episodes(EpisodeFilter())) == 1
        assert polled.changes == 1


async def test_a_look_from_before_the_delivery_is_no_proof_whatever_clocks_say(
    tmp_path: Path,
) -> None:
    """Taken by a replica whose clock is behind ours: the shared look is older, and asked again."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        polled = Polled(stage)
        stage.alerts.fire(LABELS)
        (episode,) = await polled.poll()
        stage.alerts.end(LABELS)
        stage.clock.advance(3.0)
        seen = await polled.level.look(max_age=0.0)
        assert not seen.fires(episode)
        stage.clock.advance(0.5)
        stage.alerts.fire(LABELS)
        delivered = replace(episode, last_seen_at=seen.at - 0.25)
        assert await polled.level.is_firing(delivered)
        stage.alerts.end(LABELS)
        stage.clock.advance(3.0)
        answers = await asyncio.gather(*(polled.level.is_firing(delivered) for _ in range(50)))
        assert set(answers) == {False}


async def test_a_poll_leaves_alone_what_no_playbook_is_for(tmp_path: Path) -> None:
    """What nobody heals is not worth an episode."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        polled = Polled(stage)
        stage.alerts.fire({"alertname": "Watchdog"})
        assert await polled.poll() == []


async def test_an_alert_that_both_sides_know_under_other_labels_is_one(tmp_path: Path) -> None:
    """Alertmanager added a label: the poll does not make a second episode of Prometheus' view."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        polled = Polled(stage)
        stage.alerts.fire({**LABELS, "cluster": "eu"})
        polled.metrics.fire(LABELS)
        (only,) = await polled.poll(3)
        assert only.labels["cluster"] == "eu"
        stage.alerts.end({**LABELS, "cluster": "eu"})
        assert len(await polled.poll(5)) == 1, "Prometheus still fires it"


async def test_what_vanished_is_resolved_after_working_polls_only(tmp_path: Path) -> None:
    """Absence counts while the poll sees, and starts anew after each poll that does not."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        polled = Polled(stage)
        stage.alerts.fire(LABELS)
        await polled.poll()
        stage.clock.advance(200)
        stage.alerts.end(LABELS)
        assert len(await polled.poll(3)) == 1, "absent for 60 s"
        stage.alerts.down = Unreachable("away")
        stage.clock.advance(30)
        assert len(await polled.poll(10)) == 1, "blind for minutes"
        stage.alerts.down = None
        stage.clock.advance(30)
        assert len(await polled.poll(3)) == 1, "the clock of absence began anew"
        stage.clock.advance(30)
        assert await polled.poll() == []
        (ended,) = await stage.store.episodes(EpisodeFilter())
        assert ended.end_inferred


async def test_the_silence_of_prometheus_resolves_nothing_while_alertmanager_is_away(
    tmp_path: Path,
) -> None:
    """Alertmanager hears from others too: without it absence means nothing, presence still does."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        polled = Polled(stage)
        stage.alerts.fire(LABELS)
        (known,) = await polled.poll()
        stage.alerts.down = Unreachable("away")
        stage.clock.advance(300)
        polled.metrics.fire({**LABELS, "pod": "web-1"})
        assert len(await polled.poll(10)) == 2
        stage.clock.advance(30)
        assert await polled.level.is_firing(known) is None


@pytest.mark.parametrize("alertmanager", [True, False])
async def test_whether_an_alert_fires_is_asked_freshly(
    tmp_path: Path, *, alertmanager: bool
) -> None:
    """Yes, no and nobody knows, from Alertmanager or from Prometheus alone."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        polled = Polled(stage, alertmanager=alertmanager)
        side: Any = stage.alerts if alertmanager else polled.metrics
        side.fire(LABELS)
        (known,) = await polled.poll()
        stage.clock.advance(10)
        assert await polled.level.is_firing(known) is True
        side.end(LABELS)
        stage.clock.advance(10)
        assert await polled.level.is_firing(known) is False
        side.down = Unreachable("away")
        stage.clock.advance(10)
        assert await polled.level.is_firing(known) is None


async def test_a_poll_asked_before_a_resolution_reopens_nothing(tmp_path: Path) -> None:
    """The level was on its way when the webhook said resolved: its news are older."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        polled = Polled(stage)
        pod = stage.pod()
        episode_id = await stage.fire(pod)
        await stage.settle()
        firing = stage.alerts.firing

        async def slow(receiver: str = "") -> Any:
            found = await firing(receiver)
            stage.clock.advance(2)
            await stage.resolve(episode_id)
            await stage.settle()
            return found

        stage.alerts.firing = slow  # type: ignore[method-assign]
        assert await polled.poll() == []
        stage.alerts.firing = firing  # type: ignore[method-assign]
        stage.clock.advance(5)
        stage.alerts.fire((await stage.episode(episode_id)).labels)
        assert len(await polled.poll()) == 1, "it really fires again"


async def test_a_young_delivery_is_not_resolved_by_a_poll_that_does_not_know_it_yet(
    tmp_path: Path,
) -> None:
    """An episode heard of within absent_seconds stays, whatever the level says."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        polled = Polled(stage)
        await stage.deliver(LABELS)
        assert len(await polled.poll(3)) == 1
        stage.clock.advance(10)
        await stage.deliver(LABELS, later=True)
        assert len(await polled.poll(3)) == 1
        stage.clock.advance(60)
        assert await polled.poll(3) == []


async def test_what_a_person_closed_stays_closed_while_the_same_alert_fires(tmp_path: Path) -> None:
    """A poll does not bring back an acknowledged episode; a new firing does."""
    async with a_stage(tmp_path) as stage:
        stage.playbooks = [replace(a_playbook(), steps=a_playbook().steps)]
        polled = Polled(stage)
        stage.alerts.fire(LABELS)
        (known,) = await polled.poll()
        await stage.settle()
        assert (await stage.episode(known.id)).state is EpisodeState.SETTLED
        await stage.store.acknowledge(known.id, "ada", "known", stage.clock.now())
        await polled.poll(3)
        assert len(await stage.store.episodes(EpisodeFilter())) == 1
        stage.clock.advance(10)
        stage.alerts.fire(LABELS)
        await polled.poll()
        assert len(await stage.store.episodes(EpisodeFilter())) == 2


async def test_a_cut_delivery_makes_the_poller_hurry(tmp_path: Path) -> None:
    """Told to hurry it polls at once, and not at the end of its half minute."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        polled = Polled(stage)
        turn = asyncio.create_task(polled.poller.round())
        while polled.level._last is None:
            await asyncio.wait({turn}, timeout=0.01)
        assert not turn.done()
        polled.poller.hurry()
        await asyncio.wait_for(turn, 5)


async def test_an_alert_that_waited_over_a_restart_is_not_fresh(tmp_path: Path) -> None:
    """What was accepted before a long stop is looked at again before anything is done."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        pod = stage.pod()
        stage.break_pod(pod)
        alert = an_alert(labels={"pod": pod.name}, starts_at=stage.clock.now())
        await stage.store.accept([alert], [], stage.clock.now())
        stage.clock.advance(1800)
        await stage.fold()
        await stage.settle()
        assert stage.deleted() == []


# --- queries

EXPR = "queue_depth > 100"


def a_query(name: str = "deep-queue", *, lasting: float = 60.0, expr: str = EXPR) -> Playbook:
    """A playbook with a query trigger, evaluated every 15 s."""
    trigger = Trigger(
        TriggerKind.QUERY, expr=expr, for_seconds=lasting, every_seconds=15.0,
        labels={"namespace": "shop"},
    )  # fmt: skip
    return replace(a_playbook(name), trigger=trigger)


class Asked:
    """A stage with query triggers."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.metrics = FakeMetrics(stage.clock)
        self.queries = Queries(stage.world, self.metrics, lambda: None)

    def restart(self) -> None:
        """Forget everything that only memory knows."""
        self.queries = Queries(self.stage.world, self.metrics, lambda: None)

    async def ask(self, times: int = 1) -> list[Episode]:
        """Evaluate every 15 s, and say what is open."""
        for _ in range(times):
            await self.queries.evaluate()
            await self.stage.fold()
            self.stage.clock.advance(15)
        return await self.stage.firing()


async def test_a_query_fires_for_each_series_once_it_lasts(tmp_path: Path) -> None:
    """Each series is an alert of its own, with the trigger's labels, after `for`."""
    async with a_stage(tmp_path, a_query()) as stage:
        asked = Asked(stage)
        asked.metrics.set(EXPR, ({"queue": "a"}, 200.0))
        assert await asked.ask(2) == []
        asked.metrics.set(EXPR, ({"queue": "a"}, 200.0), ({"queue": "b"}, 300.0))
        (first,) = await asked.ask(3)
        assert first.labels == {"queue": "a", "namespace": "shop", "alertname": "deep-queue"}
        assert len(await asked.ask(4)) == 2
        asked.metrics.set(EXPR, ({"queue": "b"}, 300.0))
        (left,) = await asked.ask()
        assert left.labels["queue"] == "b"
        assert len(await stage.store.episodes(EpisodeFilter())) == 2


@pytest.mark.parametrize("way", ["empty", "bad", "down"])
async def test_a_gap_starts_the_time_anew(tmp_path: Path, way: str) -> None:
    """An answer without the series, or none at all, and `for` begins again."""
    async with a_stage(tmp_path, a_query()) as stage:
        asked = Asked(stage)
        asked.metrics.set(EXPR, ({"queue": "a"}, 200.0))
        await asked.ask(3)
        match way:
            case "empty":
                asked.metrics.set(EXPR)
            case "bad":
                asked.metrics.fail(EXPR, Blind("NaN"))
            case _:
                asked.metrics.down = Unreachable("away")
        await asked.ask()
        asked.metrics.down = None
        asked.metrics.set(EXPR, ({"queue": "a"}, 200.0))
        assert await asked.ask(4) == []
        assert len(await asked.ask()) == 1


async def test_a_bad_query_holds_what_fires_and_hurts_no_other(tmp_path: Path) -> None:
    """While a query cannot be answered its alerts neither resolve nor stop others."""
    other = a_query("other", lasting=0.0, expr="up == 0")
    async with a_stage(tmp_path, a_query(lasting=0.0), other) as stage:
        asked = Asked(stage)
        asked.metrics.set(EXPR, 200.0)
        (known,) = await asked.ask()
        asked.metrics.fail(EXPR, Blind("NaN"))
        asked.metrics.set("up == 0", 1.0)
        assert len(await asked.ask(3)) == 2
        assert await asked.queries.is_firing(known) is None
        asked.metrics.set(EXPR)
        assert await asked.queries.is_firing(known) is False
        assert len(await asked.ask()) == 1


async def test_a_restart_knows_what_fires_and_resolves_it(tmp_path: Path) -> None:
    """After a restart nothing fires twice, and what has ended meanwhile is resolved."""
    async with a_stage(tmp_path, a_query(lasting=0.0)) as stage:
        asked = Asked(stage)
        asked.metrics.set(EXPR, ({"queue": "a"}, 1.0), ({"queue": "b"}, 1.0))
        await asked.ask()
        asked.restart()
        asked.metrics.set(EXPR, ({"queue": "a"}, 1.0))
        (left,) = await asked.ask(2)
        assert left.labels["queue"] == "a"
        assert await asked.queries.is_firing(left) is True
        assert len(await stage.store.episodes(EpisodeFilter())) == 2


async def test_a_full_disk_loses_no_query_alert(tmp_path: Path) -> None:
    """What the journal could not take is handed over again, both ways."""
    async with a_stage(tmp_path, a_query(lasting=0.0)) as stage:
        asked = Asked(stage)
        for answer, wanted in ((({"queue": "a"}, 1.0),), 1), ((), 0):
            asked.metrics.set(EXPR, *answer)
            with full_disk(stage), pytest.raises(StoreUnavailable):
                await asked.queries.evaluate()
            stage.clock.advance(15)
            assert len(await asked.ask()) == wanted


async def test_a_series_that_ends_before_it_is_folded_is_resolved_too(tmp_path: Path) -> None:
    """The firing still waits in the inbox when the query turns empty: both arrive in order."""
    async with a_stage(tmp_path, a_query(lasting=0.0)) as stage:
        asked = Asked(stage)
        asked.metrics.set(EXPR, 1.0)
        await asked.queries.evaluate()
        asked.metrics.set(EXPR)
        stage.clock.advance(15)
        assert await asked.ask() == []
        assert len(await stage.store.episodes(EpisodeFilter())) == 1


class full_disk:  # noqa: N801 - reads as a circumstance
    """The journal takes no alert meanwhile."""

    def __init__(self, stage: Stage) -> None:
        self._store = stage.store

    def __enter__(self) -> None:
        async def refuse(*_: object) -> Any:
            raise StoreUnavailable("disk full")

        self._store.accept = refuse  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        del self._store.accept  # type: ignore[method-assign]


# --- conditions


def a_condition(*, lasting: float = 5.0, **more: Any) -> Playbook:
    """A playbook for pods that crash loop, without Prometheus."""
    trigger = Trigger(
        TriggerKind.CONDITION, condition_kind=Kind.POD, reason="CrashLoopBackOff",
        for_seconds=lasting, **more,
    )  # fmt: skip
    return replace(a_playbook("crash-loop"), trigger=trigger)


class Watched:
    """A stage with condition triggers."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.progress = Progress(stage.clock)
        self.conditions = Conditions(stage.world, self.progress, lambda: None)

    async def tick(self, times: int = 1, every: float = 1.0) -> list[Episode]:
        """Follow and judge as a round does, once all that happened has arrived."""
        for _ in range(times):
            self.conditions._follow({p.trigger.condition_kind for p in self.conditions._triggers()})
            for _ in range(20):
                await asyncio.sleep(0)  # noqa: TID251 - the watch reads its queue
            await self.conditions.judge()
            await self.stage.fold()
            self.stage.clock.advance(every)
        return await self.stage.firing()


@asynccontextmanager
async def watched(path: Path, *playbooks: Playbook) -> AsyncIterator[Watched]:
    """A stage that watches, ended afterwards."""
    async with a_stage(path, *playbooks) as stage:
        it = Watched(stage)
        try:
            yield it
        finally:
            it.conditions.stop()
            await asyncio.sleep(0)  # noqa: TID251 - the watches end


async def test_a_lasting_condition_fires_and_its_end_resolves(tmp_path: Path) -> None:
    """A crash loop fires after `for`, and resolves once it is over for KEEP_SECONDS."""
    async with watched(tmp_path, a_condition()) as it:
        pod = it.stage.pod()
        it.stage.break_pod(pod)
        assert await it.tick(5) == []
        (known,) = await it.tick(2)
        assert (known.labels["pod"], known.labels["namespace"]) == (pod.name, "shop")
        assert await it.conditions.is_firing(known) is True
        it.stage.mend_pod(pod)
        assert len(await it.tick(int(KEEP_SECONDS) - 1)) == 1
        assert await it.tick(3) == []
        assert await it.conditions.is_firing(known) is False


async def test_a_crash_loop_that_flaps_is_one_alert(tmp_path: Path) -> None:
    """Waiting and running in turns is one firing period, from the first time it was seen."""
    async with watched(tmp_path, a_condition()) as it:
        pod = it.stage.pod()
        for _ in range(6):
            it.stage.break_pod(pod)
            await it.tick(4)
            it.stage.mend_pod(pod)
            await it.tick(int(KEEP_SECONDS) - 4)
        assert len(await it.stage.firing()) == 1
        assert len(await it.stage.store.episodes(EpisodeFilter())) == 1


async def test_what_is_not_in_the_next_full_list_is_gone(tmp_path: Path) -> None:
    """A pod that disappeared while the watch was cut is resolved after the new list."""
    async with watched(tmp_path, a_condition(lasting=0.0)) as it:
        pod = it.stage.pod()
        it.stage.break_pod(pod)
        assert len(await it.tick(2)) == 1
        it.stage.cluster.break_watches()
        it.stage.cluster.remove(pod)
        assert await it.tick(int(KEEP_SECONDS) + 3) == []


async def test_a_blind_watch_neither_fires_nor_resolves_nor_answers(tmp_path: Path) -> None:
    """Before its first full list, and after its death, a watch says nothing."""
    async with watched(tmp_path, a_condition(lasting=0.0)) as it:
        pod = it.stage.pod()
        it.stage.break_pod(pod)
        hold = it.stage.cluster.hold_next("watch")
        assert await it.tick(20) == []
        hold.release()
        (known,) = await it.tick(2)
        it.stage.cluster.fail_next("watch", Unreachable("away"), times=1000)
        it.stage.cluster.break_watches()
        it.stage.mend_pod(pod)
        assert len(await it.tick(60)) == 1
        assert await it.conditions.is_firing(known) is None


async def test_a_watch_that_dies_is_started_again_and_one_that_keeps_dying_stalls(
    tmp_path: Path,
) -> None:
    """A dead watch comes back with a full list; one that never does is seen by liveness."""
    async with watched(tmp_path, a_condition(lasting=0.0)) as it:
        await it.tick(2)
        it.stage.cluster.fail_next("watch", Unreachable("away"), times=2)
        it.stage.cluster.break_watches()
        await it.tick(3)
        it.stage.break_pod(it.stage.pod())
        assert len(await it.tick(5)) == 1
        assert it.progress.stalled() == {}
        it.stage.cluster.fail_next("watch", Unreachable("away"), times=1000)
        it.stage.cluster.break_watches()
        await it.tick(int(WATCH_SILENCE_SECONDS / 5) + 2, every=5)
        assert list(it.progress.stalled()) == ["watch Pod"]


async def test_only_the_namespaces_that_are_named_count(tmp_path: Path) -> None:
    """A pod of another namespace does not fire."""
    async with watched(tmp_path, a_condition(lasting=0.0, namespaces=("prod",))) as it:
        it.stage.break_pod(it.stage.pod())
        assert await it.tick(3) == []


async def test_a_restart_resolves_the_conditions_that_ended_meanwhile(tmp_path: Path) -> None:
    """What the journal knows to fire and the new list does not show is resolved, once."""
    async with watched(tmp_path, a_condition(lasting=0.0)) as it:
        pod = it.stage.pod()
        it.stage.break_pod(pod)
        assert len(await it.tick(2)) == 1
        it.conditions.stop()
        it.stage.mend_pod(pod)
        it.conditions = Conditions(it.stage.world, it.progress, lambda: None)
        assert len(await it.tick(3)) == 1
        assert await it.tick(int(KEEP_SECONDS)) == []


async def test_a_full_disk_loses_no_condition(tmp_path: Path) -> None:
    """What the journal could not take is handed over at the next tick, both ways."""
    async with watched(tmp_path, a_condition(lasting=0.0)) as it:
        pod = it.stage.pod()
        await it.tick()
        it.stage.break_pod(pod)
        with full_disk(it.stage), pytest.raises(HealerError):
            await it.tick(2)
        assert len(await it.tick()) == 1
        it.stage.mend_pod(pod)
        with full_disk(it.stage), pytest.raises(HealerError):
            await it.tick(int(KEEP_SECONDS) + 2)
        assert await it.tick() == []


async def test_a_resolution_by_the_source_is_what_fold_makes_of_it(tmp_path: Path) -> None:
    """A resolved query alert closes the episode that it opened."""
    async with a_stage(tmp_path, a_query(lasting=0.0)) as stage:
        asked = Asked(stage)
        asked.metrics.set(EXPR, 1.0)
        (known,) = await asked.ask()
        await stage.settle()
        asked.metrics.set(EXPR)
        await asked.ask()
        await stage.settle()
        assert (await stage.episode(known.id)).state is EpisodeState.CLOSED
