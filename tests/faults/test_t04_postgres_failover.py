"""T4 on PostgreSQL: its primary dies under load, and a standby takes its place."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from healer.domain.alert import Alert
from healer.kernel.clock import SystemClock
from healer.ports import Change, Claim
from healer.settings.listen import Limits
from healer.store.chain import verify_chain
from healer.store.postgres import PostgresStore
from healer.web.alertmanager import parse
from tests.faults.process import PATIENCE, Sender, Served, now
from tests.postgres import Server, Standby

RATE = 50.0
BEFORE_SECONDS = 1.5
#: From a standby that takes writes to the first alert that it holds.
BAR_SECONDS = 5.0
#: A sender is told within this that nothing was kept; Alertmanager gives up after 10 s and more.
REFUSAL_SECONDS = 2.0
LEASE_SECONDS = 120.0


def _accepted(sender: Sender, at: float) -> int:
    """How many were acknowledged since `at`."""
    return sum(1 for answer in sender.answers if answer.status == 200 and answer.at >= at)


async def test_t4_a_standby_takes_over_under_load_and_nothing_acknowledged_is_lost(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Refusals are quick, commits and a claim from before go on, each alert is there."""
    record_property("fault", "T4")
    async with AsyncExitStack() as stack:
        primary = stack.enter_context(Server())
        await asyncio.to_thread(primary.new_database, "healer")
        standby = Standby(primary)
        stack.callback(standby.remove)
        await asyncio.to_thread(standby.start)
        dsn = (
            f"postgresql://healer@/healer?host={primary.folder},{standby.folder}"
            "&target_session_attrs=read-write"
        )
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        served = Served(tmp_path, {"url": dsn})
        await stack.enter_async_context(served)
        sender = Sender(served, http)
        await sender.until_ready(200)
        stop = asyncio.Event()
        flowing = asyncio.create_task(sender.flow(RATE, stop))
        await asyncio.sleep(BEFORE_SECONDS)  # noqa: TID251 - load in real time
        assert _accepted(sender, 0.0), "nothing was accepted before"
        replica = await PostgresStore.open(dsn)
        stack.push_async_callback(replica.close)
        claim = await _claimed(replica)
        await asyncio.to_thread(primary.stop, "immediate")
        await asyncio.to_thread(standby.promote)
        promoted = now()
        while _accepted(sender, promoted) < RATE:
            assert now() - promoted < PATIENCE, "nothing is accepted any more"
            await asyncio.sleep(0.05)  # noqa: TID251 - another process
        await sender.until_ready(200)
        stop.set()
        await flowing
        # On a quick machine the standby is there before anything had to be refused.
        assert {answer.status for answer in sender.answers} <= {200, 503}
        first = min(a.at for a in sender.answers if a.status == 200 and a.at >= promoted) - promoted
        assert first <= BAR_SECONDS
        refusals = sorted(a.seconds for a in sender.answers if a.status == 503)
        assert max(refusals, default=0.0) <= REFUSAL_SECONDS
        assert await replica.renew([claim], 0.0, LEASE_SECONDS) == {claim.episode.id}
        later = await replica.commit(claim, Change(claim.episode, release=True))
        assert not later.owner
        assert await asyncio.to_thread(served.stop) == 0
        missing = await _missing(standby.dsn("healer"), sender.acknowledged)
        assert missing == 0
    record_property(
        "worst",
        f"PostgreSQL failed over to its standby: first commit {first:.2f} s after it takes writes, "
        f"{len(refusals)} refusals (slowest {max(refusals, default=0.0) * 1000:.0f} ms), "
        f"0 of {len(sender.acknowledged)} lost",
    )


async def _claimed(replica: PostgresStore) -> Claim:
    """An episode that another replica holds."""
    ends = now() + PATIENCE
    while not (claims := await replica.claim("replica", 0.0, LEASE_SECONDS, 1)):
        assert now() < ends, "there is no episode to claim"
        await asyncio.sleep(0.02)  # noqa: TID251 - another process
    return claims[0]


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
