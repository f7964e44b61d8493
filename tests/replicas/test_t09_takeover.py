"""T9: a healer that is killed is back, or stopped politely hands over, and goes on where it was."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from tests.replicas.house import House, Replica, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(180)]

#: What `app.DRAIN_SECONDS` and a pod's grace period allow.
GRACE = 30.0


async def _restarted(house: House, record: Any) -> None:
    """SIGKILL after the effect, start again, and the step is settled by a lookup."""
    flag = f"again-{house.database or 'file'}"
    await house.flags(flag)
    healer = house.replica("a")
    await healer.start(crash="after:effect")
    await healer.delivered("flag", flag)
    await healer.ended()
    await healer.start(wait=False)
    await until(healer.ready, "it to be ready")
    await until(lambda: house.facts(healer, flag, "outcome"), "the outcome")
    (outcome,) = await house.facts(healer, flag, "outcome")
    record("resumed_seconds", round(outcome["at"] - healer.spawned_at, 2))
    assert outcome["data"]["outcome"] == "applied"
    assert outcome["at"] - healer.spawned_at < 20.0, "it waited for its own lease"
    assert house.patches()[flag] == 1


async def test_a_restart_on_sqlite_goes_on_at_once(alone: House, record_property: Any) -> None:
    """A killed healer on SQLite resumes its open step when it is started again."""
    await _restarted(alone, record_property)


async def test_a_restart_on_postgres_does_not_wait_for_its_own_lease(
    house: House, record_property: Any
) -> None:
    """A killed replica with a name takes its own claims back at once, long before they end."""
    house.lease = 120.0
    await _restarted(house, record_property)


async def test_a_drain_under_load_refuses_hands_over_and_ends_in_time(house: House) -> None:
    """SIGTERM under load: 503, exit 0 within the grace period, and the other one finishes all."""
    house.lease = 120.0  # whatever is not handed over would be missed
    flags = [f"load-{n}" for n in range(60)]
    await house.flags(*flags)
    first = await house.replica("a").start()
    second = await house.replica("b").start()
    answers: list[int] = []
    ending = asyncio.Event()

    async def send(flag: str) -> None:
        status = (await first.deliver("flag", flag))[0]
        if status == 200:
            answers.append(status)
            return
        answers.append(status)
        await second.delivered("flag", flag)

    for number, flag in enumerate(flags):
        if number == 20:
            first.signal(signal.SIGTERM)
            ending.set()
        await send(flag)
    code, took = await first.ended()
    assert code == 0, first.log()[-2000:]
    assert took < GRACE
    assert 200 in answers[:20]
    assert set(answers) <= {200, 503, 0}
    assert answers[-1] != 200
    await house.mended(*flags)
    assert "the election's Lease is given back" in first.log()
    assert await _leads_soon(second)


async def _leads_soon(replica: Replica) -> bool:
    return await until(replica.leads, "the other to lead", 10.0) < 10.0
