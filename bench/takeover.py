"""Takeover: how long work rests after a SIGKILL, on either engine, and after PostgreSQL's restart.

    python -m bench.takeover [--lease 10]

Real processes, a real API server and a private PostgreSQL. A killed healer left a step that was
done and not settled; measured is when its outcome is on disk, by whoever finished it.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.report import Bars, tell
from tests.crash.plane import PlaneOnly
from tests.postgres import Server
from tests.replicas.house import CLOCK, House, Replica, a_house, furnish, until


async def _outcome(house: House, by: Replica, flag: str) -> float:
    await until(lambda: house.facts(by, flag, "outcome"), "the outcome")
    return float((await house.facts(by, flag, "outcome"))[0]["at"])


async def _killed(house: House, flag: str) -> tuple[Replica, float]:
    await house.flags(flag)
    first = await house.replica("a").start(crash="after:effect")
    await first.delivered("flag", flag)
    await first.ended()
    return first, CLOCK.now()


async def restart(house: House, flag: str) -> float:
    """From the start of the next process of the same name to the outcome."""
    first, _ = await _killed(house, flag)
    await first.start()
    return await _outcome(house, first, flag) - first.spawned_at


async def other(house: House, flag: str) -> float:
    """From the SIGKILL to the outcome that another replica writes."""
    first, killed = await _killed(house, flag)
    second = await house.replica("b").start()
    took = await _outcome(house, second, flag) - killed
    first.kill()
    return took


async def database(house: House) -> float:
    """From a crash of PostgreSQL, which is started again at once, to the next answer of 200."""
    healer = await house.replica("a").start()
    assert house.postgres is not None
    began = CLOCK.monotonic()
    await asyncio.to_thread(house.postgres.restart, "immediate")
    await healer.delivered("flag", "after-restart")
    return CLOCK.monotonic() - began


async def measure(folder: Path, plane: PlaneOnly, server: Server, lease: float) -> dict[str, Any]:
    """Each once."""
    figures: dict[str, Any] = {"lease_seconds": lease}

    async def one(name: str, postgres: Server | None, work: Any, *values: str) -> None:
        async with a_house(folder / name, plane, postgres, lease=lease) as house:
            figures[name] = round(await work(house, *values), 2)

    for name in ("restart_sqlite_s", "restart_postgres_s", "other_replica_s", "database_s"):
        (folder / name).mkdir()
    await one("restart_sqlite_s", None, restart, "sqlite")
    await one("restart_postgres_s", server, restart, "postgres")
    await one("other_replica_s", server, other, "other")
    await one("database_s", server, database)
    return figures


def main() -> int:
    """Measure, print a table, then one JSON line; the exit code is 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="bench.takeover")
    parser.add_argument("--lease", type=float, default=10.0, help="of claims, seconds")
    given = parser.parse_args()
    bars: Bars = {
        "restart_sqlite_s": (2.0, True),
        "restart_postgres_s": (2.0, True),
        "other_replica_s": (given.lease + 2.0, True),
        "database_s": (5.0, True),
    }
    plane = PlaneOnly()
    with tempfile.TemporaryDirectory(prefix="healer-bench-") as place, Server() as server:
        try:
            plane.start()
            furnish(plane)
            figures = asyncio.run(measure(Path(place), plane, server, given.lease))
        finally:
            plane.stop()
    return tell(figures, bars, [])


if __name__ == "__main__":
    sys.exit(main())
