"""T13: N, then N+1 beside it, then N again, on one journal with runs in flight: all runs finish."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.replicas.house import House, Replica, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(180)]


async def test_versions_follow_each_other_with_runs_in_flight(house: House) -> None:
    """N works on the schema of N+1 too, beside and after it, and each step is done once."""
    house.lease = 120.0  # what is not handed over would be missed
    first, after = house.replica("n"), house.replica("n-again")
    second = house.replica("next")
    second.module = "tests.replicas.next_version"
    flags = [f"{house.database}-v{n}" for n in range(30)]
    await house.flags(*flags)

    async def roll(old: Replica, new: Replica, some: list[str]) -> None:
        await asyncio.gather(*(old.delivered("flag", flag) for flag in some[:5]))
        await new.start()
        old.signal(signal.SIGTERM)
        await asyncio.gather(*(new.delivered("flag", flag) for flag in some[5:]))
        assert (await old.ended())[0] == 0, old.log()[-2000:]

    await first.start()
    await roll(first, second, flags[:15])
    assert house.postgres is not None
    columns = "SELECT count(*) FROM information_schema.columns WHERE column_name = "
    found = await asyncio.to_thread(
        house.postgres.sql, columns + "'next_version_hint'", house.database
    )
    assert found == [["1"]]
    await roll(second, after, flags[15:])
    await house.mended(*flags)
    for flag in flags:
        await until(lambda flag=flag: house.facts(after, flag, "outcome"), "every outcome")
    for log in (first.log(), second.log(), after.log()):
        assert "could not be driven" not in log
