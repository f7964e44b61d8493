"""How fast this disk commits in groups, and how fast the journal accepts alerts on it.

`raw_rates` is the yardstick: the least that any durable store with group commit must do (one
SQLite file, WAL, `synchronous=FULL`, one table, one thread). Rates of healer itself are told as
ratios to it, so that they mean the same on every machine.

    python -m bench.journal [folder]
"""

import asyncio
import os
import queue
import resource
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from healer.domain.alert import Alert, AlertStatus
from healer.domain.episode import fold
from healer.kernel.clock import SystemClock
from healer.store.sqlite import SqliteStore

#: About the size of one alert as JSON.
ROW_BYTES = 500
_AT = 1_767_571_200.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Rows made durable by `callers` that each wait for their own row."""

    callers: int
    rows_per_second: float
    p50_ms: float
    p99_ms: float


def raw_rates(
    folder: Path, callers: tuple[int, ...] = (1, 100, 1000), seconds: float = 1.0
) -> list[Rate]:
    """The raw group-commit rate of the disk under `folder` for each number of callers."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return [asyncio.run(_raw(Path(place) / f"raw-{n}.db", n, seconds)) for n in callers]


async def _raw(path: Path, callers: int, seconds: float) -> Rate:
    loop = asyncio.get_running_loop()
    waiting: queue.SimpleQueue[asyncio.Future[None] | None] = queue.SimpleQueue()
    row = os.urandom(ROW_BYTES)

    def told(group: list[asyncio.Future[None]]) -> None:
        for future in group:
            if not future.done():
                future.set_result(None)

    def commit() -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB)")
        while True:
            group = [waiting.get()]
            while not waiting.empty():
                group.append(waiting.get())
            futures = [future for future in group if future is not None]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO row (body) VALUES (?)", [(row,)] * len(futures))
            connection.execute("COMMIT")
            loop.call_soon_threadsafe(told, futures)
            if len(futures) < len(group):
                break
        connection.close()

    async def put() -> None:
        future: asyncio.Future[None] = loop.create_future()
        waiting.put(future)
        await future

    thread = threading.Thread(target=commit)
    thread.start()
    await put()
    rate, spent = await _hammer([put] * callers, seconds)
    waiting.put(None)
    await asyncio.to_thread(thread.join)
    return Rate(callers, rate, _quantile(spent, 0.5), _quantile(spent, 0.99))


async def _hammer(
    calls: list[Callable[[], Awaitable[object]]], seconds: float
) -> tuple[float, list[float]]:
    """Each call again and again for some time; calls a second, and how long each took."""
    spent: list[float] = []
    end = time.perf_counter() + seconds

    async def one(call: Callable[[], Awaitable[object]]) -> None:
        while time.perf_counter() < end:
            began = time.perf_counter()
            await call()
            spent.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one(call) for call in calls))
    return len(spent) / (time.perf_counter() - began), spent


def _quantile(spent: list[float], share: float) -> float:
    return sorted(spent)[min(len(spent) - 1, int(len(spent) * share))] * 1000


class Alerts:
    """Alerts as Alertmanager sends them, each another one."""

    def __init__(self) -> None:
        self._number = 0

    def take(self, count: int) -> list[Alert]:
        """The next `count` alerts."""
        first = self._number
        self._number += count
        return [_alert(number) for number in range(first, first + count)]


def _alert(number: int) -> Alert:
    labels = {
        "alertname": "KubePodCrashLooping",
        "namespace": f"team-{number % 40}",
        "pod": f"web-{number:08d}-x7k2p",
        "container": "app",
        "severity": "warning",
        "cluster": "eu-1",
    }
    annotations = {
        "summary": f"Pod {labels['pod']} is in a crash loop for more than fifteen minutes",
        "runbook_url": "https://runbooks.example/KubePodCrashLooping",
    }
    return Alert(
        "webhook/main", f"{number:016x}", AlertStatus.FIRING, labels, _AT, None, annotations,
        "http://prometheus.example/graph?g0.expr=rate(kube_pod_container_status_restarts_total)",
    )  # fmt: skip


async def journal_rates(folder: Path) -> dict[str, float]:
    """What the journal does on the disk under `folder`, by name; times in milliseconds."""
    found: dict[str, float] = {}
    alerts = Alerts()
    with tempfile.TemporaryDirectory(dir=folder) as place:
        store = await SqliteStore.open(
            Path(place) / "journal.db", clock=SystemClock(), accept_seconds=5.0
        )

        async def single() -> None:
            await store.accept(alerts.take(1), (), _AT)

        async def group() -> None:
            await store.accept(alerts.take(100), (), _AT)

        rate, spent = await _hammer([single] * 64, 2.0)
        found["single, 64 callers: alerts/s"] = rate
        found["single, 64 callers: p99 ms"] = _quantile(spent, 0.99)
        rate, _ = await _hammer([group] * 8, 2.0)
        found["groups of 100, 8 callers: alerts/s"] = rate * 100
        storm = alerts.take(10_000)
        began = time.perf_counter()
        await store.accept(storm, (), _AT)
        found["one of 10,000: ms"] = (time.perf_counter() - began) * 1000
        began = time.perf_counter()
        folded = 0
        while some := await store.fold(fold, _AT, 500):
            folded += len(some)
        found["fold: alerts/s"] = folded / (time.perf_counter() - began)
        spent = await _paced(single, 100.0, 5.0)
        found["100 a second: p50 ms"] = _quantile(spent, 0.5)
        found["100 a second: p99 ms"] = _quantile(spent, 0.99)
        spent = await _paced(single, 1000.0, 5.0)
        found["1,000 a second: p99 ms"] = _quantile(spent, 0.99)
        found["memory, peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        await store.close()
    return found


async def _paced(
    call: Callable[[], Awaitable[object]], per_second: float, seconds: float
) -> list[float]:
    """Open loop: a call at each due time whether or not the last is back; times from due time."""
    spent: list[float] = []

    async def one(due: float) -> None:
        await call()
        spent.append(time.perf_counter() - due)

    began = time.perf_counter()
    tasks = []
    for number in range(int(per_second * seconds)):
        due = began + number / per_second
        await SystemClock().sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.ensure_future(one(due)))
    await asyncio.gather(*tasks)
    return spent


def main() -> None:
    """Print everything for the folder named, or the temporary one."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir())
    for rate in raw_rates(folder):
        print(
            f"raw, {rate.callers} callers: {rate.rows_per_second:,.0f} rows/s, "
            f"p50 {rate.p50_ms:.2f} ms, p99 {rate.p99_ms:.2f} ms"
        )
    for name, value in asyncio.run(journal_rates(folder)).items():
        print(f"{name}: {value:,.1f}")


if __name__ == "__main__":
    main()
