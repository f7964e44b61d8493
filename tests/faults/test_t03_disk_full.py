"""T3: the disk is full under a real process. Also remedy T2: refused in time, nothing is lost."""

import resource
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.faults.kept import missing_in
from tests.faults.process import Sender, Served, body, now
from tests.store.disks import small_disk

#: Refusals that are looked at while the disk is full.
LOOKS = 40


@dataclass
class Disk:
    """A healer whose disk has little room, and how to give it more."""

    served: Served
    journal: Path
    stuff: Callable[[], None]  #: takes the last room there is
    space: Callable[[], None]  #: there is room again


@asynccontextmanager
async def _tmpfs(folder: Path) -> AsyncIterator[Disk]:
    # The room that is given back must hold the backlog: facts about all that was accepted.
    with small_disk(folder / "small", 36) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * (32 << 20))

        def stuff() -> None:
            with (disk / "rest").open("wb", buffering=0) as rest:
                try:
                    while rest.write(b"\0" * 4096):
                        continue
                except OSError:
                    return

        def space() -> None:
            ballast.unlink()
            (disk / "rest").unlink()

        async with Served(folder / "around", {"path": str(disk / "healer.db")}) as served:
            yield Disk(served, disk / "healer.db", stuff, space)


@asynccontextmanager
async def _limited(folder: Path) -> AsyncIterator[Disk]:
    """No file may grow above 2 MiB: what a quota does, by RLIMIT_FSIZE with SIGXFSZ ignored."""
    limit = 2 << 20

    def space() -> None:
        most = resource.RLIM_INFINITY
        resource.prlimit(served.pid, resource.RLIMIT_FSIZE, (most, most))

    async with Served(
        folder / "around", {"path": str(folder / "healer.db")},
        limits=("prlimit", f"--fsize={limit}:unlimited"),
    ) as served:  # fmt: skip
        yield Disk(served, folder / "healer.db", lambda: None, space)


@pytest.mark.parametrize("kind", [_tmpfs, _limited], ids=["tmpfs", "rlimit"])
async def test_t3_a_full_disk_refuses_in_time_and_resumes_by_itself(
    tmp_path: Path,
    kind: Callable[[Path], AbstractAsyncContextManager[Disk]],
    record_property: Callable[[str, object], None],
) -> None:
    """Every answer of a full disk is 503 in under 100 ms, and nothing acknowledged is missing."""
    record_property("fault", "T3 R2")
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        disk = await stack.enter_async_context(kind(tmp_path))
        sender = Sender(disk.served, http)
        await sender.until_ready(200)
        while (await sender.post(body(6000))).status == 200:
            assert len(sender.acknowledged) < 5000, "the disk never gets full"
        disk.stuff()
        full = [answer for _ in range(LOOKS) if (answer := await sender.post(body(6000)))]
        refusals = [answer.seconds for answer in full if answer.status == 503]
        assert {answer.status for answer in sender.answers} <= {200, 503}
        assert len(refusals) >= LOOKS * 0.9  # room in the log may be used again, durably
        assert statistics.median(refusals) < 0.1
        assert await sender.ready() == 503
        disk.space()
        began = now()
        while (await sender.post(body(200))).status != 200:
            assert now() - began < 60
        resumed = now() - began
        await sender.until_ready(200)
        for again in list(sender.refused):  # as Alertmanager does: until it is taken
            while (answer := await sender.post(again)).status != 200:
                assert now() - began < 60, f"{resumed:.1f} s to resume, then {answer}"
        assert disk.served.stop() == 0
        assert await missing_in(disk.journal, sender.acknowledged) == 0
    record_property(
        "worst",
        f"slowest refusal {max(refusals) * 1000:.0f} ms of {len(refusals)}, "
        f"resumed after {resumed * 1000:.0f} ms, 0 of {len(sender.acknowledged)} lost",
    )
