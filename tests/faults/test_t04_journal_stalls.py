"""T4: the journal is locked by a stranger, or its disk is slow, under load and a real process.

The stalls are shorter than in the field (seconds, not a minute): healer gives an answer up after
80 ms, so what follows is the same.
"""

import asyncio
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.faults.kept import missing_in
from tests.faults.preload import compiled
from tests.faults.process import Sender, Served, now, recovered

RATE = 100.0
STALL_SECONDS = 2.0
CALM_SECONDS = 1.0
LOCKER = """
import sqlite3, sys
stranger = sqlite3.connect(sys.argv[1], isolation_level=None)
stranger.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
stranger.execute("ROLLBACK")
"""


@asynccontextmanager
async def locked(folder: Path, journal: Path) -> AsyncIterator[None]:
    """Another process holds the write lock of the file."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(journal)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as stranger:  # fmt: skip
        assert stranger.stdin is not None
        assert stranger.stdout is not None
        assert await asyncio.to_thread(stranger.stdout.readline) == b"locked\n"
        yield
        stranger.stdin.close()


@asynccontextmanager
async def slow(folder: Path, journal: Path) -> AsyncIterator[None]:
    """Each fsync takes 700 ms."""
    (folder / "slow").write_text("700")
    yield
    (folder / "slow").unlink()


def _plain(folder: Path) -> Mapping[str, str]:
    return {}


def _preloaded(folder: Path) -> Mapping[str, str]:
    """Every fsync of the process goes through ours."""
    library = compiled("slow_sync", folder)
    return {"LD_PRELOAD": str(library), "SLOW_SYNC": str(folder / "slow")}


@pytest.mark.parametrize(
    ("stall", "environment"), [(locked, _plain), (slow, _preloaded)], ids=["locked", "slow-fsync"]
)
async def test_t4_a_stalled_journal_loses_nothing_and_recovers(
    tmp_path: Path,
    stall: Callable[[Path, Path], AbstractAsyncContextManager[None]],
    environment: Callable[[Path], Mapping[str, str]],
    record_property: Callable[[str, object], None],
) -> None:
    """While commits stall the answer is 503 in time; afterwards all is well in seconds."""
    record_property("fault", "T4 R2")
    journal = tmp_path / "healer.db"
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        served = Served(tmp_path, {"path": str(journal)}, environment(tmp_path))
        await stack.enter_async_context(served)
        sender = Sender(served, http)
        await sender.until_ready(200)
        stop = asyncio.Event()
        flowing = asyncio.create_task(sender.flow(RATE, stop))
        await asyncio.sleep(CALM_SECONDS)  # noqa: TID251 - load in real time
        async with stall(tmp_path, journal):
            began = now()
            await asyncio.sleep(STALL_SECONDS)  # noqa: TID251 - load in real time
            ended = now()
        await asyncio.sleep(2 * CALM_SECONDS)  # noqa: TID251 - load in real time
        stop.set()
        await flowing
        refusals = [a.seconds for a in sender.answers if a.status == 503]
        during = [a for a in sender.answers if began + 0.2 < a.at < ended]
        again = recovered(sender.answers, ended)
        assert {answer.status for answer in sender.answers} == {200, 503}
        assert sum(answer.status == 503 for answer in during) > len(during) / 2
        assert statistics.median(refusals) < 0.1
        assert again < 5.0
        for body in list(sender.refused):  # as Alertmanager does
            await sender.post(body)
        assert served.stop() == 0
        assert await missing_in(journal, sender.acknowledged) == 0
    refusals.sort()
    record_property(
        "worst",
        f"{len(refusals)} refusals, p99 {refusals[int(len(refusals) * 0.99)] * 1000:.0f} ms; fast "
        f"again {again:.2f} s after the stall, 0 of {len(sender.acknowledged)} lost",
    )


def test_t4_the_stranger_really_holds_the_lock(tmp_path: Path) -> None:
    """The stranger's script keeps others from writing, so the test above tests something."""
    path = tmp_path / "one.db"
    sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close()
    with subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as stranger:
        assert stranger.stdin is not None
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == b"locked\n"
        other = sqlite3.connect(path, timeout=0.05)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("INSERT INTO t VALUES (1)")
        other.close()
        stranger.stdin.close()
