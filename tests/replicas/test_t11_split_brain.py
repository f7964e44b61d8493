"""T11: two replicas, killed, frozen and cut off: nothing twice, nothing lost, the other goes on."""

from __future__ import annotations

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
    second = await house.replica("b").start()
    second.signal(signal.SIGSTOP)  # so that the first claims it
    assert (await first.deliver("flag", flag))[0] == 200
    await first.ended()
    killed = CLOCK.now()
    second.signal(signal.SIGCONT)
    await until(lambda: outcomes(house, second, flag), "an outcome")
    (took,) = await house.facts(second, flag, "took_over")
    record_property("takeover_seconds", round(took["at"] - killed, 2))
    assert took["at"] - killed <= house.lease + MARGIN
    assert (await house.facts(second, flag, "intent"))[0]["at"] < killed
    await until(lambda: house.patches()[flag] == 1, "the effect")
    assert [f["data"]["outcome"] for f in await outcomes(house, second, flag)][-1] == "applied"
    await until(second.leads, "the other to lead")
