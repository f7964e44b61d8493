"""What healer costs while nothing is wrong: processor time and memory, with all shipped playbooks.

    python -m bench.idle [--seconds 60]

A `healer serve` process with default settings beside a real API server, Prometheus and
Alertmanager; no alert fires. Its watches, polls, queries and loops are what is measured.
"""

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.machine import Usage
from bench.report import Bars, load, tell
from tests.bed.cluster import Options
from tests.bed.simulated import SimulatedCluster
from tests.bed.waiting import pause
from tests.demo.stack import ROOT, Stack

BARS: Bars = {"cpu_percent_of_a_core": (1.0, True), "peak_rss_mebibytes": (150.0, True)}
#: Not measured: loading playbooks, the first lists, connecting.
SETTLE_SECONDS = 10.0


def measure(folder: Path, seconds: float, settle: float) -> tuple[dict[str, Any], list[str]]:
    """Bring everything up, let it settle, and watch it do nothing."""
    with ExitStack() as opened:
        cluster = SimulatedCluster(Options(nodes=3))
        opened.callback(cluster.stop)
        cluster.start()
        stack = Stack(cluster, folder, playbooks=[ROOT / "playbooks"], rules=[])
        # Everything as it ships: the stack's own polls are quicker, for tests.
        stack.healer.settings["alertmanager"].pop("poll_seconds")
        opened.callback(stack.stop)
        stack.start()
        playbooks = stack.healer.get("/v1/status")["playbooks"]
        assert stack.healer.process is not None
        pid = stack.healer.process.pid
        pause(settle)
        before, mark = load(), Usage.of(pid)
        pause(seconds)
        used = mark.since()
        episodes = len(stack.healer.episodes())
    figures = {
        "playbooks": playbooks,
        "seconds": round(used.seconds, 1),
        "cpu_percent_of_a_core": round(100 * used.cpu_seconds / used.seconds, 2),
        "wake_ups_per_second": round(used.wake_ups / used.seconds, 1),
        "rss_mebibytes": round(used.rss_mebibytes, 1),
        "peak_rss_mebibytes": round(used.peak_mebibytes, 1),
        "load_before": before,
        "load_after": load(),
    }
    return figures, [f"it was not idle: {episodes} episodes"] if episodes else []


async def run(seconds: float, settle: float = SETTLE_SECONDS) -> tuple[dict[str, Any], list[str]]:
    """Measure in a folder of its own, off the event loop of the caller."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        return await asyncio.to_thread(measure, Path(folder), seconds, settle)


def main() -> int:
    """Measure, print a table, then one JSON line; the exit code is 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="bench.idle")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--settle", type=float, default=SETTLE_SECONDS)
    given = parser.parse_args()
    figures, problems = asyncio.run(run(given.seconds, given.settle))
    return tell(figures, BARS, problems)


if __name__ == "__main__":
    sys.exit(main())
