"""Webhook to disk: real sockets, a real journal with fsync, the server in a process of its own.

    python -m bench.ingest [--seconds 5]

Latencies are open loop: a request is due at its time whether or not earlier ones were answered, and
is measured from when it was due. The last line is one JSON object with figures, bars and `ok`.
The client is on the same cores as the server, so every figure is what is left beside it.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from bench.journal import raw_rates
from bench.report import quantile, tell

#: At full speed so many deliveries may be told to come again, each within this time.
MAX_REFUSED = 0.001
REFUSAL_MS = 100.0
#: name → (bar, True when smaller is better)
BARS: dict[str, tuple[float, bool]] = {
    "ack_p99_ms_at_100": (10.0, True),
    "ack_p99_ms_at_1000": (50.0, True),
    "single_alerts_per_second": (2500.0, False),
    "grouped_alerts_per_second": (15000.0, False),
    "post_of_10000_seconds": (1.0, True),
}
CONNECTIONS = 64
_numbers = count(1)


# ------------------------------------------------------------------------------------- the server


async def serve(path: Path) -> None:
    """The webhook as the daemon runs it, with default settings, on a free port told on stdout."""
    from healer.kernel.clock import SystemClock
    from healer.settings.listen import Limits
    from healer.settings.listen import Webhook as Listener
    from healer.store.sqlite import SqliteStore
    from healer.web.conditions import Conditions
    from healer.web.listeners import Server
    from healer.web.metrics import Instruments
    from healer.web.webhook import Webhook

    clock = SystemClock()
    store = await SqliteStore.open(path, clock=clock)
    webhook = Webhook(
        store, clock, sources={}, limits=Limits(), instruments=Instruments(),
        conditions=Conditions(clock),
    )  # fmt: skip
    server = await Server.start(webhook.application(), Listener(port=0), clock, "webhook")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(server.port, flush=True)
    await stop.wait()
    await server.stop()
    inbox = (await store.counts())["inbox"]
    await store.close()
    webhook.close()
    print(inbox, flush=True)


# ------------------------------------------------------------------------------------- the client


def _alert(number: int) -> str:
    return (
        '{"status":"firing","labels":{"alertname":"PodCrashLooping","namespace":"shop",'
        f'"pod":"api-{number}","container":"api","severity":"warning","job":"kube-state-metrics",'
        '"instance":"10.1.0.7:8080","prometheus":"monitoring/k8s"},"annotations":{"summary":'
        f'"Pod shop/api-{number} is crash looping.","runbook_url":"https://runbooks.example/Pod"}},'
        '"startsAt":"2026-01-05T10:48:17.123Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":'
        f'"http://prometheus.example/graph?g0.expr=up&g0.tab=1","fingerprint":"{number:016x}"}}'
    )


def request(alerts: int) -> bytes:
    """One delivery of so many new alerts, head and body."""
    inner = ",".join(_alert(next(_numbers)) for _ in range(alerts))
    body = (
        '{"version":"4","groupKey":"{}:{}","truncatedAlerts":0,"status":"firing","receiver":'
        f'"healer","groupLabels":{{}},"commonLabels":{{}},"commonAnnotations":{{}},"alerts":[{inner}]}}'
    ).encode()
    head = (
        "POST /v1/alertmanager HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client:
    """Connections that are kept; one request at a time on each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.statuses: dict[int, int] = {}
        self.slowest_refusal = 0.0  #: seconds

    async def send(self, message: bytes) -> None:
        """One delivery and its whole answer."""
        pair = self._free.pop() if self._free else await self._connect()
        began = time.perf_counter()
        pair[1].write(message)
        head = await pair[0].readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status != 200:
            self.slowest_refusal = max(self.slowest_refusal, time.perf_counter() - began)
        if b"Content-Length: 0\r\n" in head:
            self._free.append(pair)
        else:
            pair[1].close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)

    def close(self) -> None:
        """Let the connections go."""
        for _, writer in self._free:
            writer.close()


async def paced(client: Client, rate: float, seconds: float) -> list[float]:
    """Open loop at `rate`; seconds from when each request was due to its answer."""
    messages = [request(1) for _ in range(int(rate * seconds))]
    spent: list[float] = []

    async def one(due: float, message: bytes) -> None:
        await client.send(message)
        spent.append(time.perf_counter() - due)

    start = time.perf_counter() + 0.05
    async with asyncio.TaskGroup() as group:
        for number, message in enumerate(messages):
            due = start + number / rate
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)  # the open loop's own beat
            group.create_task(one(due, message))
    return spent


async def hammered(
    client: Client, size: int, seconds: float, connections: int
) -> tuple[float, int]:
    """Closed loop on so many connections; durable alerts in a second, and how many there were."""
    rounds = max(1, int(8000 * seconds / size))
    messages = [request(size) for _ in range(rounds)]
    sent = 0
    start = time.perf_counter()
    end = start + seconds

    async def one() -> None:
        nonlocal sent
        while messages and time.perf_counter() < end:
            await client.send(messages.pop())
            sent += size

    await asyncio.gather(*(one() for _ in range(connections)))
    return sent / (time.perf_counter() - start), sent


@dataclass
class Process:
    """The server's process."""

    popen: "subprocess.Popen[str]"
    port: int

    @classmethod
    def start(cls, folder: Path) -> "Process":
        """Start it and wait until it has bound its port."""
        popen = subprocess.Popen(
            [sys.executable, "-m", "bench.ingest", "--serve", str(folder / "journal.db")],
            stdout=subprocess.PIPE, text=True, env=dict(os.environ),
        )  # fmt: skip
        assert popen.stdout is not None
        return cls(popen, int(popen.stdout.readline()))

    def peak_mebibytes(self) -> float:
        """Peak resident memory so far."""
        for line in Path(f"/proc/{self.popen.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def cpu_seconds(self) -> float:
        """Processor time it has used so far: this does not depend on what else the machine does."""
        parts = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        """End it by its id; how many alerts its journal holds."""
        self.popen.terminate()
        out, _ = self.popen.communicate(timeout=60)
        return int(out.split()[-1])


async def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """Every figure, one after the other, against one server."""
    process = Process.start(folder)
    client = Client(process.port)
    figures: dict[str, Any] = {}
    try:
        await paced(client, 200, 1.0)  # warm
        for rate in (100, 1000):
            spent = await paced(client, rate, seconds)
            figures[f"ack_p50_ms_at_{rate}"] = round(quantile(spent, 0.5), 2)
            figures[f"ack_p99_ms_at_{rate}"] = round(quantile(spent, 0.99), 2)
        # From here on the server is driven to its limit, where refusing in time is its duty.
        figures["refused_at_these_rates"] = _refused(client)
        used = process.cpu_seconds()
        single, sent = await hammered(client, 1, seconds, CONNECTIONS)
        figures["server_cpu_us_per_single"] = round(1e6 * (process.cpu_seconds() - used) / sent)
        used = process.cpu_seconds()
        grouped, sent = await hammered(client, 100, seconds, 16)
        figures["server_cpu_us_per_grouped"] = round(1e6 * (process.cpu_seconds() - used) / sent)
        large = request(10_000)
        used, began = process.cpu_seconds(), time.perf_counter()
        await client.send(large)
        figures["post_of_10000_seconds"] = round(time.perf_counter() - began, 3)
        figures["post_of_10000_cpu_seconds"] = round(process.cpu_seconds() - used, 3)
        figures["post_of_10000_bytes"] = len(large)
        figures["single_alerts_per_second"] = round(single)
        figures["grouped_alerts_per_second"] = round(grouped)
        figures["peak_mebibytes"] = round(process.peak_mebibytes())
    finally:
        client.close()
        kept = process.stop()
    figures["answers"] = client.statuses
    figures["slowest_refusal_ms"] = round(1000 * client.slowest_refusal, 1)
    figures["acknowledged_and_kept"] = kept
    return figures


def with_shares(figures: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The figures beside the least any durable store must do on this disk, in the same run."""
    hundred, thousand = raw_rates(folder, callers=(100, 1000), seconds=1.0)
    return {
        **figures,
        "raw_rows_per_second_of_100": round(hundred.rows_per_second),
        "raw_rows_per_second_of_1000": round(thousand.rows_per_second),
        "single_share_of_raw": round(
            figures["single_alerts_per_second"] / hundred.rows_per_second, 3
        ),
        "grouped_share_of_raw": round(
            figures["grouped_alerts_per_second"] / thousand.rows_per_second, 3
        ),
    }


def main() -> None:
    """Measure, print a table, then one JSON line; the exit code is 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    if given.serve is not None:
        asyncio.run(serve(given.serve))
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        figures = asyncio.run(measure(Path(folder), given.seconds))
        figures = with_shares(figures, Path(folder))
    raise SystemExit(report(figures))


def _refused(client: Client) -> int:
    return sum(count for code, count in client.statuses.items() if code != 200)


def report(figures: dict[str, Any]) -> int:
    """The table and the last line; the exit code."""
    problems = []
    answers = figures["answers"]
    refused = {code: count for code, count in answers.items() if code != 200}
    if figures["refused_at_these_rates"]:
        problems.append(f"refused at 100 or 1,000 requests/s: {refused}")
    if set(refused) - {503}:
        problems.append(f"overload was answered with {refused}; only 503 is sent again")
    if sum(refused.values()) > MAX_REFUSED * sum(answers.values()):
        problems.append(f"more than {MAX_REFUSED:.1%} refused at full speed: {refused}")
    if figures["slowest_refusal_ms"] > REFUSAL_MS:
        problems.append(f"a refusal took {figures['slowest_refusal_ms']} ms")
    return tell(figures, BARS, problems)


if __name__ == "__main__":
    main()
