"""T11: two replicas, killed, frozen and cut off: nothing twice, nothing lost, the other goes on."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from tests.replicas.house import CLOCK, House, Replica, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(180)]

#: Beyond the lease: a second until the next look, and what a busy machine takes.
MARGIN = 15.0


async def two(house: House, **more: Any) -> tuple[Replica, Replica]:
    """Two replicas, both ready; the first leads."""
    first = await house.replica("a", **more).start()
    await until(first.leads, "the first to lead")
    second = await house.replica("b").start()
    assert not await second.leads()
    return first, second


async def outcomes(house: House, of: Replica, flag: str) -> list[dict[str, Any]]:
    return await house.facts(of, flag, "outcome")


@pytest.mark.parametrize("point", ["before:effect", "after:effect"])
async def test_the_work_of_a_killed_replica_is_taken_over_when_its_lease_ends(
    house: House, point: str, record_property: Any
) -> None:
    """SIGKILL around the effect: the other one finishes the step after the lease, effects ≤ 1."""
    await house.flags(point[:5] + "-kill")
    flag = point[:5] + "-kill"
    first = await house.replica("a").start(crash=point)
    await until(first.leads, "the first to lead")
    await first.delivered("flag", flag)
    await first.ended()
    killed = CLOCK.now()
    second = await house.replica("b").start()  # sooner than the lease ends
    await until(lambda: outcomes(house, second, flag), "an outcome")
    (took,) = await house.facts(second, flag, "took_over")
    record_property("takeover_seconds", round(took["at"] - killed, 2))
    assert took["at"] - killed <= house.lease + MARGIN
    assert (await house.facts(second, flag, "intent"))[0]["at"] < killed
    await house.mended(flag)
    assert [f["data"]["outcome"] for f in await outcomes(house, second, flag)][-1] == "applied"
    await until(second.leads, "the other to lead")


def fenced(replica: Replica) -> bool:
    """Whether it has noticed that its lease is over: by its own renewal, or by the journal."""
    log = replica.log()
    return "another worker owns it now" in log or "lease lost; stopping" in log


@pytest.mark.parametrize("point", ["before:effect", "after:effect"])
async def test_a_frozen_replica_that_wakes_writes_no_outcome_and_does_nothing_twice(
    house: House, point: str
) -> None:
    """SIGSTOP around the effect, past the lease: woken up it is fenced, and effects stay ≤ 1."""
    flag = point[:5] + "-freeze"
    await house.flags(flag)
    first = await house.replica("a").start(crash=f"freeze:{point}")
    await first.delivered("flag", flag)
    await until(lambda: first.stopped, "the first to freeze")
    second = await house.replica("b").start()
    await until(lambda: outcomes(house, second, flag), "the other's outcome")
    settled = await outcomes(house, second, flag)
    first.signal(signal.SIGCONT)
    await until(lambda: fenced(first), "the first to be fenced")
    await until(first.ready, "the first to be ready again")
    assert (await outcomes(house, second, flag))[: len(settled)] == settled
    (took,) = await house.facts(second, flag, "took_over")
    for one in await outcomes(house, second, flag):
        assert one["at"] >= took["at"], "an outcome of the old epoch"
    assert house.patches()[flag] == 1


@pytest.mark.parametrize("point", ["before:effect", "after:effect"])
async def test_what_nobody_can_look_up_is_unknown_and_not_done_again(
    house: House, point: str
) -> None:
    """An at-most-once call of a frozen replica is unknown to the other, and made once at most."""
    flag = point[:5] + "-once"
    await house.flags(flag)
    first = await house.replica("a").start(crash=f"freeze:{point}")
    await first.delivered("once", flag)
    await until(lambda: first.stopped, "the first to freeze")
    second = await house.replica("b").start()
    await until(lambda: outcomes(house, second, flag), "the other's outcome")
    first.signal(signal.SIGCONT)
    await until(lambda: fenced(first), "the first to be fenced")
    (only,) = await outcomes(house, second, flag)
    assert only["data"]["outcome"] == "unknown"
    assert house.counted.calls[flag] == 1


async def test_a_frozen_leader_that_wakes_does_not_lead(house: House) -> None:
    """Exactly one leads at any time that can be observed, and the woken one follows."""
    first, second = await two(house)
    first.signal(signal.SIGSTOP)
    await until(second.leads, "the other to lead")
    first.signal(signal.SIGCONT)
    for _ in range(40):
        one, other = await asyncio.gather(first.leads(), second.leads())
        assert not one
        assert other
        await asyncio.sleep(0.05)  # noqa: TID251 - observed for a while
    told = (await first.ask("/v1/status"))["leader"]
    assert told == (await second.ask("/v1/status"))["owner"]
    assert [await one.status_of("/healthz") for one in (first, second)] == [200, 200]
    assert "no longer leading" in first.log()


async def test_a_replica_without_the_api_server_gives_way(house: House) -> None:
    """Cut off from the API server it stops leading and takes alerts, which the other heals."""
    relay, kubernetes = await house.api_relay("a")
    first, second = await two(house, kubernetes=kubernetes)
    relay.part()
    await until(second.leads, "the other to lead")
    assert not await first.leads()
    flags = [f"cut-{n}" for n in range(6)]
    await house.flags(*flags)
    await first.delivered("flag", *flags)
    await house.mended(*flags)
    assert await first.status_of("/healthz") == 200
    relay.mend()
    await until(first.ready, "the first to be whole again")
    assert sum([await first.leads(), await second.leads()]) == 1


async def test_a_replica_without_the_journal_refuses_and_the_other_goes_on(house: House) -> None:
    """Cut off from PostgreSQL it answers 503 and is not ready; its work goes on elsewhere."""
    relay, store = await house.database_relay("a")
    first, second = await two(house, store=store)
    await house.flags("dark", "light")
    relay.part()
    status, seconds = await first.deliver("flag", "dark")
    assert status == 503
    assert seconds < 5.0
    await second.delivered("flag", "light")
    await house.mended("light")
    await until(lambda: _not_ready(first), "the first not to be ready")
    relay.mend()
    await until(first.ready, "the first to be ready again")
    await first.delivered("flag", "dark")
    await house.mended("dark")
    assert house.patches()["light"] == 1


async def _not_ready(replica: Replica) -> bool:
    return await replica.status_of("/readyz") == 503
