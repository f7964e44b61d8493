"""`python -m tests.faults soak --minutes 10`: does anything leak?

A daemon in a process of its own, over a fake cluster of 500 pods; one new alert a second, each
acted on and resolved a little later. Memory, open files and the journal's log are looked at all the
while; what counts is the slope after the first third, when caches are warm.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.report import Bars, tell
from healer.kernel.clock import rfc3339
from tests.faults.fast import REAL

#: Five pods each.
DEPLOYMENTS = 100
#: How long each alert fires. Seconds.
FIRES = 20.0
BARS: Bars = {
    "rss_slope_kib_per_minute": (1024.0, True),
    "fds_grown": (4, True),
    "wal_mebibytes_worst": (64.0, True),
    "refused": (0, True),
}


@dataclass(frozen=True)
class Look:
    """The process at one moment."""

    at: float
    rss_kib: int
    fds: int
    wal_bytes: int

    @classmethod
    def at_process(cls, pid: int, folder: Path, at: float) -> "Look":
        """Now."""
        status = Path(f"/proc/{pid}/status").read_text().split()
        wal = folder / "healer.db-wal"
        return cls(
            at, int(status[status.index("VmRSS:") + 1]),
            len(list(Path(f"/proc/{pid}/fd").iterdir())),
            wal.stat().st_size if wal.exists() else 0,
        )  # fmt: skip


def slope(looks: Sequence[Look]) -> float:
    """KiB a minute, by least squares."""
    count = len(looks)
    mean_at = sum(one.at for one in looks) / count
    mean = sum(one.rss_kib for one in looks) / count
    above = sum((one.at - mean_at) * (one.rss_kib - mean) for one in looks)
    return 60 * above / sum((one.at - mean_at) ** 2 for one in looks)


def _alert(number: int, since: float, *, over: bool) -> bytes:
    labels = {
        "alertname": "Sick" if number % 2 else "Nobody", "namespace": "shop",
        "deployment": f"web-{number % DEPLOYMENTS}", "number": str(number),
    }  # fmt: skip
    alert = {
        "status": "resolved" if over else "firing", "labels": labels, "annotations": {},
        "startsAt": rfc3339(since), "fingerprint": "", "generatorURL": "",
        "endsAt": rfc3339(REAL.now()) if over else "0001-01-01T00:00:00Z",
    }  # fmt: skip
    return json.dumps({"version": "4", "receiver": "healer", "alerts": [alert]}).encode()


async def soak(folder: Path, seconds: float, *, rate: float = 1.0) -> dict[str, Any]:
    """One alert each `1 / rate` seconds for so long; the figures."""
    command = [sys.executable, "-m", "tests.faults.alone", str(folder), str(DEPLOYMENTS)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    try:
        ports = json.loads(await asyncio.to_thread(process.stdout.readline))
        looks, refused, number = await _load(ports["webhook"], process.pid, folder, seconds, rate)
    finally:
        process.terminate()
        code = await asyncio.to_thread(process.wait, 60)
        process.stdout.close()
    warm = [one for one in looks if one.at >= seconds / 3]
    return {
        "minutes": round(seconds / 60, 1), "alerts": number, "refused": refused,
        "rss_mebibytes_warm": round(warm[0].rss_kib / 1024, 1),
        "rss_mebibytes_end": round(warm[-1].rss_kib / 1024, 1),
        "rss_slope_kib_per_minute": round(slope(warm), 1),
        "fds_warm": warm[0].fds, "fds_grown": warm[-1].fds - warm[0].fds,
        "wal_mebibytes_worst": round(max(one.wal_bytes for one in looks) / 2**20, 1),
        "journal_mebibytes": round((folder / "healer.db").stat().st_size / 2**20, 1),
        "exit_code": code,
    }  # fmt: skip


async def _load(
    port: int, pid: int, folder: Path, seconds: float, rate: float
) -> tuple[list[Look], int, int]:
    url = f"http://127.0.0.1:{port}/v1/alertmanager"
    looks: list[Look] = []
    refused = number = ended = 0
    since: list[float] = []
    began = REAL.monotonic()
    async with aiohttp.ClientSession() as http:

        async def post(body: bytes) -> int:
            async with http.post(url, data=body) as answer:
                await answer.read()
                return answer.status

        while (now := REAL.monotonic() - began) < seconds:
            since.append(REAL.now())
            refused += await post(_alert(number, since[number], over=False)) != 200
            number += 1
            while ended < number and REAL.now() - since[ended] >= FIRES:
                refused += await post(_alert(ended, since[ended], over=True)) != 200
                ended += 1
            looks.append(Look.at_process(pid, folder, now))
            await REAL.sleep(max(0.0, number / rate - (REAL.monotonic() - began)))
    return looks, refused, number


def problems(figures: Mapping[str, Any]) -> list[str]:
    """What else was wrong."""
    return [f"healer ended with {figures['exit_code']}"] if figures["exit_code"] else []


def main(arguments: Sequence[str]) -> int:
    """Soak, print a table, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=1.0, help="alerts a second")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".soak-") as folder:
        figures = asyncio.run(soak(Path(folder), 60 * given.minutes, rate=given.rate))
    return tell(figures, BARS, problems(figures))
