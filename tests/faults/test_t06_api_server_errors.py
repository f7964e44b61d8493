"""T6: the API server throttles, fails, conflicts, rejects the token, answers late, hangs, freezes.

One daemon meets all of them at once, each on a Deployment of its own, through a proxy before a real
API server: so each also shows that the others are not blocked. Time runs eight times as fast.
"""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from healer.domain.journal import FactKind
from tests.bed.simulated import SimulatedCluster
from tests.faults.daemon import Daemon, daemon, playbook
from tests.faults.fast import REAL, FastClock
from tests.faults.proxy import Fault, FaultProxy
from tests.faults.senders import Alertmanager
from tests.faults.workloads import CALL_SECONDS, deploy, effects, reached

pytestmark = pytest.mark.cluster

FACTOR = 8.0
RETRY_AFTER = 8.0
RESTART = playbook(
    "restart", {"alert": '{alertname="Sick", deployment!=""}'},
    {"kind": "Deployment", "namespace": "default", "name": "${labels.deployment}"},
)  # fmt: skip
#: What happens to the patch of one Deployment.
CASES: dict[str, dict[str, Any]] = {
    "429": {"status": 429, "headers": {"Retry-After": f"{RETRY_AFTER:g}"}, "times": 2},
    "500-before": {"status": 500, "times": 1},
    "500-after": {"status": 500, "times": 1, "forward": True},
    "503-status": {"status": 503, "times": 2},
    "503-page-before": {"status": 503, "page": True, "times": 1},
    "503-page-after": {"status": 503, "page": True, "times": 1, "forward": True},
    "504-after": {"status": 504, "page": True, "times": 1, "forward": True},
    "409": {"status": 409, "times": 1},
    "slow": {"delay": 0.7, "times": 2},
    "too-slow": {"delay": 2.0, "times": 1},
    "hang": {"hang": True, "times": 1},
    "cut-before": {"cut": True, "times": 1},
    "cut-after": {"cut": True, "times": 1, "forward": True},
    # The request arrives when it was already looked up, not found, and sent again.
    "late": {"cut": True, "times": 1, "late": 2.5},
}
FOR_EVER = {"gone-1": {"status": 503}, "gone-2": {"status": 503}}


@dataclass
class Life:
    """What became of each Deployment."""

    names: dict[str, str] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    patches: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    effects: dict[str, int] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)


def _verified(house: Daemon) -> set[str]:
    """Targets whose restart is known to have helped."""
    return {
        str(f.data["target"]).rpartition("/")[2]
        for f in house.heard.of(FactKind.VERIFIED)
        if f.data["phase"] == "done"
    }


def _escalated(house: Daemon) -> dict[str, str]:
    return {
        str(f.data["target"]).rpartition("/")[2]: str(f.reason)
        for f in house.heard.of(FactKind.ESCALATED)
    }


@asynccontextmanager
async def _house(
    plane: SimulatedCluster, folder: Path, book: dict[str, Any] | None = None
) -> AsyncIterator[tuple[Daemon, FaultProxy, Alertmanager]]:
    """A daemon behind a proxy, and an Alertmanager that it hears and asks."""
    clock = FastClock(FACTOR)
    sender = Alertmanager("", clock=clock)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FaultProxy(plane).serving())
        cluster = await stack.enter_async_context(reached(proxy, folder, clock))
        await stack.enter_async_context(sender.running())
        house = await stack.enter_async_context(
            daemon(
                folder, [book or RESTART], cluster=cluster, clock=clock,
                settings={"alertmanager": {"urls": [sender.api], "poll_seconds": 5}},
            )
        )  # fmt: skip
        sender.url = house.url
        yield house, proxy, sender


async def _live(plane: SimulatedCluster, folder: Path) -> Life:
    life = Life()
    cases = {**CASES, **FOR_EVER, "untouched": {}}
    stems = list(cases)
    life.names = dict(zip(stems, deploy(plane, *stems), strict=True))
    async with _house(plane, folder) as (house, proxy, sender):
        for stem, how in cases.items():
            if how:
                path = f"/deployments/{life.names[stem]}[?]"
                life.faults[stem] = proxy.fault(method="PATCH", path=path, **how)
        began = REAL.monotonic()
        for name in life.names.values():
            sender.fire({"alertname": "Sick", "deployment": name})
        whole = {life.names[stem] for stem in stems if stem not in FOR_EVER}
        lost = {life.names[stem] for stem in FOR_EVER}
        await house.heard.until(
            lambda: whole <= _verified(house) and lost <= set(_escalated(house)), "all of them"
        )
        await REAL.sleep(2.5)  # whatever is still on its way arrives: the latest is 2.5 s late
        life.ends = {stem: _escalated(house).get(name, "") for stem, name in life.names.items()}
        for stem, name in life.names.items():
            passed = proxy.asked("PATCH", f"/deployments/{name}[?]")
            life.patches[stem] = [one.at - began for one in passed]
            life.seconds[stem] = life.patches[stem][-1]
    by_name = effects(plane, list(life.names.values()))
    life.effects = {stem: by_name[name] for stem, name in life.names.items()}
    return life


@pytest.fixture(scope="module")
def life(plane: SimulatedCluster, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """All cases, lived through once."""
    return asyncio.run(_live(plane, tmp_path_factory.mktemp("t06")))


@pytest.mark.parametrize("case", CASES)
def test_t6_a_failing_call_takes_effect_once(
    life: Life, case: str, record_property: Callable[[str, object], None]
) -> None:
    """Whatever happens to its patch, a Deployment is restarted exactly once, and in the end is."""
    record_property("fault", f"T6 API server: {case}")
    sent, took = len(life.patches[case]), life.seconds[case]
    record_property("worst", f"{sent} requests, {life.effects[case]} restart, {took:.1f} s")
    assert life.faults[case].hits, "the fault never struck"
    assert life.effects[case] == 1
    assert life.ends[case] == ""
    assert sent <= 5


def test_t6_retry_after_is_waited_for(
    life: Life, record_property: Callable[[str, object], None]
) -> None:
    """After a 429 nothing is sent before the time it names has passed."""
    first, second, third = life.patches["429"][:3]
    shortest = min(second - first, third - second) * FACTOR
    record_property("fault", "T6 API server: 429 with Retry-After")
    record_property("worst", f"again after {shortest:.1f} s of {RETRY_AFTER:g} s asked for")
    assert shortest >= RETRY_AFTER


def test_t6_retries_are_few_and_spread(
    life: Life, record_property: Callable[[str, object], None]
) -> None:
    """A server that fails for ever is asked four times, ever more rarely, by no two alike."""
    gaps = []
    for case in FOR_EVER:
        at = life.patches[case]
        assert len(at) == 4
        gaps.append([(b - a) * FACTOR for a, b in itertools.pairwise(at)])
        assert life.effects[case] == 0
        assert life.ends[case] == "action_failed"
    record_property("fault", "T6 API server: 503 for ever")
    record_property("worst", f"4 requests in {max(map(sum, gaps)):.0f} s, then a person")
    for one in gaps:
        assert [base <= gap for base, gap in zip((2.0, 4.0, 8.0), one, strict=True)] == [True] * 3
    assert max(abs(a - b) for a, b in zip(*gaps, strict=True)) > 0.3, gaps


def test_t6_the_others_are_not_blocked(
    life: Life, record_property: Callable[[str, object], None]
) -> None:
    """A Deployment whose calls all pass is patched before those that fail have ended."""
    took = life.seconds["untouched"]
    record_property("fault", "T6 API server: others while calls hang")
    record_property("worst", f"patched after {took:.1f} s")
    assert life.effects["untouched"] == 1
    assert len(life.patches["untouched"]) == 1
    assert took < life.seconds["hang"]


async def test_t6_a_rotated_token_goes_unnoticed(
    plane: SimulatedCluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """When the token is replaced while episodes are worked on, each is still acted on once."""
    names = deploy(plane, "token-a", "token-b")
    async with _house(plane, tmp_path) as (house, proxy, sender):
        sender.fire({"alertname": "Sick", "deployment": names[0]})
        await house.heard.until(lambda: house.heard.of(FactKind.OUTCOME), "the first restart")
        (tmp_path / "token").write_text("the-second-token")
        proxy.tokens = {"the-second-token"}
        sender.fire({"alertname": "Sick", "deployment": names[1]})
        await house.heard.until(lambda: set(names) <= _verified(house), "both")
    refused = sum(one.status == 401 for one in proxy.passed)
    record_property("fault", "T6 API server: token rotated")
    record_property("worst", f"{refused} requests refused with 401, 1 restart each")
    assert set(effects(plane, names).values()) == {1}
    assert "missing_right" not in {str(f.reason) for f in house.heard.facts}


async def test_t6_a_frozen_server_gets_every_request_once(
    plane: SimulatedCluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """While the API server is stopped nothing ends, and when it wakes each restart is there once,
    though what was sent before is still read from its sockets."""
    names = deploy(plane, *(f"frozen-{number}" for number in range(6)))
    server = plane.run.process("kube-apiserver")
    assert server is not None
    async with _house(plane, tmp_path) as (house, _, sender):
        for name in names[:3]:
            sender.fire({"alertname": "Sick", "deployment": name})
        await house.heard.until(lambda: house.heard.of(FactKind.INTENT), "the first intent")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for name in names[3:]:
                sender.fire({"alertname": "Sick", "deployment": name})
            await REAL.sleep(3 * CALL_SECONDS)  # the fault has this length
            ended = len(house.heard.of(FactKind.ESCALATED))
        finally:
            os.kill(server.pid, signal.SIGCONT)
        woken = REAL.monotonic()
        await house.heard.until(lambda: set(names) <= _verified(house), "all six")
        took = REAL.monotonic() - woken
    record_property("fault", "T6 API server: SIGSTOP for 3 s")
    record_property("worst", f"6 restarted once each, the last {took:.1f} s after it woke")
    assert ended == 0
    assert set(effects(plane, names).values()) == {1}


async def test_t6_budgets_hold_while_calls_fail(
    plane: SimulatedCluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Repetitions are not paid for twice, and however many calls fail, no more than the budget is
    ever done."""
    names = deploy(plane, *(f"budget-{number}" for number in range(5)))
    book = playbook(
        "restart", RESTART["spec"]["when"], RESTART["spec"]["target"],
        guards={"budgets": {"playbook": "2/1h"}},
    )  # fmt: skip
    async with _house(plane, tmp_path, book) as (house, proxy, sender):
        proxy.fault(method="PATCH", path="/deployments/", status=503, page=True, times=3)
        for name in names:
            sender.fire({"alertname": "Sick", "deployment": name})
        await house.heard.until(lambda: len(_verified(house)) == 2, "two restarts")
        short = [f for f in house.heard.of(FactKind.VERDICT) if str(f.reason) == "budget_exhausted"]
    record_property("fault", "T6 API server: 503 under a budget of 2")
    record_property("worst", f"{sum(effects(plane, names).values())} restarts of 5 asked for")
    assert sorted(effects(plane, names).values()) == [0, 0, 0, 1, 1]
    assert len({f.episode_id for f in short}) >= 3
