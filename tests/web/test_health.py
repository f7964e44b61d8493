"""Health pages and metrics over real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from healer.domain.episode import Episode, fold
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Result
from healer.domain.pause import Pause
from healer.domain.plan import Plan, PlannedStep
from healer.domain.playbook import Guards, Mode
from healer.domain.run import Phase, Run
from healer.domain.target import Kind, TargetRef
from healer.domain.verdict import Reason
from healer.errors import TimedOut
from healer.kernel.tasks import Progress
from healer.settings.listen import Health as HealthListener
from healer.settings.listen import Limits
from healer.store.sqlite import SqliteStore
from healer.testing.clock import START, FakeClock
from healer.web.alertmanager import parse
from healer.web.conditions import HELD_SECONDS, Conditions
from healer.web.health import Health, LagSampler
from healer.web.listeners import Server
from healer.web.metrics import Instruments, MetricsListener, metered
from tests.web.payloads import alert, group


class Ward:
    """Running health pages."""

    def __init__(self, store: SqliteStore, tokens: tuple[Path, ...] = ()) -> None:
        self.clock = FakeClock()
        self.progress = Progress(self.clock)
        self.instruments = Instruments()
        self.conditions = Conditions(self.clock)
        self.loaded = 3
        self.pauses: tuple[Pause, ...] = ()
        self.health = Health(
            store, self.clock, self.progress, instruments=self.instruments,
            conditions=self.conditions, playbooks=lambda: self.loaded,
            local_pauses=lambda: self.pauses, metrics_token_files=tokens,
        )  # fmt: skip
        self.url = ""
        self.http: aiohttp.ClientSession

    async def get(self, path: str, **kwargs: Any) -> tuple[int, str]:
        async with self.http.get(self.url + path, **kwargs) as answer:
            return answer.status, await answer.text()


async def _open(ward: Ward, stack: AsyncExitStack) -> Ward:
    server = await Server.start(
        ward.health.application(), HealthListener(port=0), ward.clock, "health"
    )
    stack.push_async_callback(server.stop)
    ward.http = await stack.enter_async_context(aiohttp.ClientSession())
    ward.url = f"http://127.0.0.1:{server.port}"
    return ward


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def ward(store: SqliteStore, stack: AsyncExitStack) -> Ward:
    return await _open(Ward(store), stack)


async def test_alive_is_progress_of_every_loop(ward: Ward) -> None:
    """A loop that is late makes `/healthz` 503 with its name, and its next report mends it."""
    ward.progress.expect("worker", within=10)
    assert (await ward.get("/healthz"))[0] == 200
    ward.clock.advance(11)
    assert await ward.get("/healthz") == (503, "worker is 1 s late\n")
    ward.progress.report("worker")
    assert (await ward.get("/healthz"))[0] == 200


async def test_ready_needs_playbooks_and_a_journal(ward: Ward, store: SqliteStore) -> None:
    """`/readyz` is 503 and says why without playbooks, after a failed commit, or when draining."""
    assert (await ward.get("/readyz"))[0] == 200
    ward.loaded = 0
    status, text = await ward.get("/readyz")
    assert (status, "no playbook is loaded" in text) == (503, True)
    ward.loaded = 1
    ward.conditions.hold("store_unavailable", "the disk is full")
    assert await ward.get("/readyz") == (503, "the disk is full\n")
    ward.clock.advance(16)
    assert (await ward.get("/readyz"))[0] == 200
    ward.health.drain()
    assert (await ward.get("/readyz"))[0] == 503


async def test_a_closed_journal_is_not_ready(ward: Ward, store: SqliteStore) -> None:
    """When the journal cannot commit, `/readyz` is 503 and `/metrics` still answers."""
    await store.close()
    status, text = await ward.get("/readyz")
    assert (status, "journal" in text) == (503, True)
    status, text = await ward.get("/metrics")
    assert status == 200
    assert "healer_store_up 0.0" in text


async def test_ready_does_not_ask_prometheus(ward: Ward) -> None:
    """Conditions about anything but the journal leave `/readyz` at 200."""
    ward.conditions.hold("webhook_malformed", "somebody posts nonsense")
    assert (await ward.get("/readyz"))[0] == 200


async def test_the_page_shows_the_journal(ward: Ward, store: SqliteStore) -> None:
    """Inbox, episodes, pauses, the chain's head and conditions are on the metrics page."""
    delivery = parse(json.dumps(group(alert(1), alert(2))).encode(), "alertmanager", Limits())
    await store.accept(delivery.alerts, (), START)
    ward.clock.advance(7)
    ward.conditions.hold("webhook_truncated", "cut")
    ward.pauses = (Pause("file", "stop", "me", START),)
    _, before = await ward.get("/metrics")
    for line in [
        "healer_inbox_alerts 2.0",
        "healer_inbox_age_seconds 7.0",
        'healer_pauses{scope="global"} 1.0',
        'healer_condition{condition="webhook_truncated"} 1.0',
        'healer_condition{condition="webhook_malformed"} 0.0',
        "healer_playbooks 3.0",
        "healer_store_up 1.0",
    ]:
        assert line in before.splitlines(), line
    await store.fold(fold, START + 8, 10)
    _, after = await ward.get("/metrics")
    assert 'healer_episodes{state="open"} 2.0' in after.splitlines()
    assert "healer_inbox_alerts 0.0" in after.splitlines()
    newest = (await store.facts())[-1]
    assert f"healer_journal_head_seq {float(newest.seq)}" in after.splitlines()
    head = ward.instruments.registry.get_sample_value("healer_journal_head_hash")
    assert head is not None
    assert f"{int(head):013x}" == newest.hash[:13]


async def test_the_page_can_need_a_token(
    store: SqliteStore, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """With a metrics token only its bearer reads `/metrics`; the probes stay open."""
    (tmp_path / "token").write_text("scrape-me")
    ward = await _open(Ward(store, (tmp_path / "token",)), stack)
    assert (await ward.get("/metrics"))[0] == 401
    headers = {"Authorization": "Bearer scrape-me"}
    assert (await ward.get("/metrics", headers=headers))[0] == 200
    assert (await ward.get("/healthz"))[0] == 200


def _run(phase: Phase, result: Result | None, finished_at: float | None) -> tuple[Episode, Run]:
    pod = TargetRef(Kind.POD, "api-1", "shop", "uid-1")
    step = PlannedStep(0, "again", "delete_pod", "restart", pod, {}, 1, True, True)
    plan = Plan("ep-1", "p", "f" * 64, Mode.AUTO, pod, pod, "shop", "z", (step,), Guards(), START)
    run = Run(
        "ep-1-1", "ep-1", plan, phase, 0, START, result=result, reason=Reason.RECOVERED,
        finished_at=finished_at,
    )  # fmt: skip
    episode = Episode("ep-1", "alertmanager", "a" * 16, 1, {}, START, START, START)
    return episode, run


def test_facts_become_counts() -> None:
    """Verdicts, steps, verifications and the end of a run are counted with their public words."""
    instruments = Instruments()
    listener = MetricsListener(instruments, START)
    episode, run = _run(Phase.DONE, Result.HEALED, START + 9)
    facts = [
        Fact(FactKind.VERDICT, START, reason=Reason.COOLDOWN, data={"effect": "defer"}),
        Fact(
            FactKind.INTENT, START + 2, reason=Reason.ALLOWED,
            data={"step": 0, "attempt": 0, "undo": False, "action": "delete_pod"},
        ),
        Fact(FactKind.OUTCOME, START + 3, data={"action": "delete_pod", "outcome": "applied"}),
        Fact(FactKind.VERIFIED, START + 4, data={"recovery": "recovered"}),
    ]  # fmt: skip
    listener.heard(episode, run, facts)
    listener.heard(episode, run, [Fact(FactKind.CLOSED, START + 20)])
    sample = instruments.registry.get_sample_value
    assert sample("healer_verdicts_total", {"effect": "defer", "reason": "cooldown"}) == 1
    assert sample("healer_verdicts_total", {"effect": "allow", "reason": "allowed"}) == 1
    assert sample("healer_steps_total", {"action": "delete_pod", "outcome": "applied"}) == 1
    assert sample("healer_verifications_total", {"recovery": "recovered"}) == 1
    assert sample("healer_runs_total", {"result": "healed", "reason": "recovered"}) == 1
    assert sample("healer_reaction_seconds_sum") == 2


def test_a_run_of_an_earlier_process_is_not_counted_again() -> None:
    """News of a run that ended before this process started is no new run."""
    instruments = Instruments()
    episode, run = _run(Phase.DONE, Result.ESCALATED, START - 5)
    MetricsListener(instruments, START).heard(episode, run, [Fact(FactKind.CLOSED, START + 1)])
    assert instruments.registry.get_sample_value("healer_runs_total", {}) is None
    assert b"healer_runs_total{" not in _page(instruments)


def _page(instruments: Instruments) -> bytes:
    from prometheus_client import generate_latest

    page: bytes = generate_latest(instruments.registry)
    return page


class _Far:
    """A client that never answers in time."""

    name = "far"

    async def query(self, expr: str) -> str:
        """Times out for `slow`."""
        if expr == "slow":
            raise TimedOut("no answer")
        return expr


async def test_failed_calls_are_counted_and_passed_on() -> None:
    """A metered client behaves as before, and its errors are counted by kind."""
    instruments = Instruments()
    far = metered(_Far(), "prometheus", instruments)
    assert (await far.query("up"), far.name) == ("up", "far")
    with pytest.raises(TimedOut):
        await far.query("slow")
    sample = instruments.registry.get_sample_value
    labels = {"client": "prometheus", "error": "timed_out"}
    assert sample("healer_client_errors_total", labels) == 1


def test_a_condition_ends_by_silence() -> None:
    """A condition is held while it is seen, counts, and ends when it was not seen for long."""
    clock = FakeClock()
    conditions = Conditions(clock)
    conditions.hold("webhook_malformed", "once")
    clock.advance(HELD_SECONDS)
    conditions.hold("webhook_malformed", "again")
    (condition,) = conditions.active()
    assert (condition.detail, condition.count) == ("again", 2)
    clock.advance(HELD_SECONDS + 1)
    assert conditions.active() == []


async def test_lag_is_how_late_a_timer_fires() -> None:
    """A sleep that took two seconds longer than asked for is two seconds of lag."""
    clock = FakeClock()
    instruments = Instruments()
    task = asyncio.create_task(LagSampler(clock, instruments, every=0.5).round())
    await asyncio.sleep(0)  # noqa: TID251 - lets the task reach its sleep
    clock.advance(2.5)
    await task
    assert instruments.registry.get_sample_value("healer_event_loop_lag_seconds") == 2.0
