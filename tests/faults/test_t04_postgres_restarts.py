"""T4 on PostgreSQL: its server is killed again and again under load and a real process."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import aiohttp

from healer.domain.alert import Alert
from healer.kernel.clock import SystemClock
from healer.settings.listen import Limits
from healer.store.chain import verify_chain
from healer.store.postgres import PostgresStore
from healer.web.alertmanager import parse
from tests.faults.process import Sender, Served, now
from tests.postgres import Server

RATE = 50.0
KILLS = 3
BETWEEN_SECONDS = 1.5
#: From a server that takes connections again to the first alert on disk.
BAR_SECONDS = 5.0


def _first_after(sender: Sender, at: float) -> float:
    """Seconds from `at` to the first acknowledgement."""
    return min(a.at for a in sender.answers if a.status == 200 and a.at >= at) - at


async def test_t4_postgres_killed_under_load_loses_nothing_and_is_back_in_seconds(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each `stop -m immediate` is answered 503, the next commit comes in time, nothing is lost."""
    record_property("fault", "T4")
    async with AsyncExitStack() as stack:
        server = stack.enter_context(Server())
        dsn = await asyncio.to_thread(server.new_database)
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        served = Served(tmp_path, {"url": dsn})
        await stack.enter_async_context(served)
        sender = Sender(served, http)
        await sender.until_ready(200)
        stop = asyncio.Event()
        flowing = asyncio.create_task(sender.flow(RATE, stop))
        back = []
        for _ in range(KILLS):
            await asyncio.sleep(BETWEEN_SECONDS)  # noqa: TID251 - load in real time
            await asyncio.to_thread(server.stop, "immediate")
            await asyncio.sleep(0.5)  # noqa: TID251 - it is away meanwhile
            await asyncio.to_thread(server.start)
            back.append(now())
        await sender.until_ready(200)
        await asyncio.sleep(BETWEEN_SECONDS)  # noqa: TID251 - load in real time
        stop.set()
        await flowing
        assert {answer.status for answer in sender.answers} == {200, 503}
        first = [_first_after(sender, at) for at in back]
        assert max(first) <= BAR_SECONDS, first
        assert served.stop() == 0
        missing = await _missing(dsn, sender.acknowledged)
        assert missing == 0
    refusals = sorted(a.seconds for a in sender.answers if a.status == 503)
    assert all(later > earlier for earlier, later in pairwise(back))
    record_property(
        "worst",
        f"PostgreSQL killed {KILLS} times: first commit {max(first):.2f} s after it is back, "
        f"{len(refusals)} refusals (p99 {refusals[int(len(refusals) * 0.99)] * 1000:.0f} ms), "
        f"0 of {len(sender.acknowledged)} lost",
    )


async def _missing(dsn: str, bodies: list[bytes]) -> int:
    alerts: list[Alert] = []
    for each in bodies:
        alerts += parse(each, "alertmanager", Limits()).alerts
    store = await PostgresStore.open(dsn, clock=SystemClock())
    try:
        new = 0
        for start in range(0, len(alerts), 50):
            new += (await store.accept(alerts[start : start + 50], (), SystemClock().now())).new
        assert await verify_chain(store) is None
        return new
    finally:
        await store.close()
