"""The metrics API under load: TLS, the front proxy's identity, 1,000 metrics, a real API server.

    python -m bench.metrics [--seconds 5] [--direct]

Open loop: a request is due at its time whether or not earlier ones were answered, and is measured
from when it was due. The client is a process of its own on the same cores as the server and the API
server, so every figure is what is left beside it. Direct requests name the HPA's account, whose
reviews the real API server answers; those through the API server carry that account's token, so
priority and fairness is in their way. The last line is one JSON object with figures, bars and `ok`.
"""

import argparse
import asyncio
import base64
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from bench.machine import Usage
from bench.report import load, quantile, tell

METRICS = 1000
RATE = 500
CONNECTIONS = 64
#: As many as the HPA controller has workers, for the figure that the HPA itself would see.
WORKERS = 5
#: name → (bar, True when smaller is better)
BARS: dict[str, tuple[float, bool]] = {
    "direct_p99_ms_at_500": (3.0, True),
    "direct_requests_per_second": (7000.0, False),
    "apiserver_p99_ms_at_500": (10.0, True),
    "server_mebibytes": (250.0, True),
}
HPA = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"


# ------------------------------------------------------------------------------------- the server


async def serve(kubeconfig: str) -> None:
    """The metrics API as the daemon runs it, over so many metrics, on a port told on stdout."""
    from healer.clients.kube.metrics_api import KubeMetricsApi
    from healer.kernel.clock import SystemClock
    from scalers.apiserver import Listening, MetricsApi
    from scalers.ports import Metric

    class Shelf:
        """A reader over as many metrics, each by its name."""

        def __init__(self, now: float) -> None:
            self._found = {
                f"m{n}": [Metric(f"m{n}", "shop", {"app": f"app-{n}"}, n + 0.5, now)]
                for n in range(METRICS)
            }

        def external(self, namespace: str, name: str) -> list[Metric]:
            return self._found.get(name, []) if namespace == "shop" else []

        def custom(self, group: str, resource: str, namespace: str, name: str) -> list[Metric]:
            return []

        def custom_names(self) -> list[tuple[str, str, bool, str]]:
            return []

    clock = SystemClock()
    kube = await KubeMetricsApi.open(clock, kubeconfig=kubeconfig)
    api = await MetricsApi.start(
        Listening(host="127.0.0.1", port=0), Shelf(clock.now()), clock,
        authentication=kube, reviewer=kube, api_services=kube,
    )  # fmt: skip
    print(api.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await api.stop()
    await kube.close()


# ------------------------------------------------------------------------------------- the client


@dataclass(frozen=True)
class Way:
    """How to reach the metrics: address, what proves who asks, and what is sent beside the path."""

    name: str
    port: int
    server_name: str
    authority: str  #: PEM
    certificate: str  #: file, or empty
    key: str
    headers: str  #: lines, each with its end

    def tls(self) -> ssl.SSLContext:
        """The client's context."""
        context = ssl.create_default_context(cadata=self.authority)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context

    def request(self, number: int) -> bytes:
        """One GET, whole."""
        path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/m{number % METRICS}"
        query = f"?labelSelector=app%3Dapp-{number % METRICS}"
        head = f"GET {path}{query} HTTP/1.1\r\nHost: {self.server_name}\r\n"
        return f"{head}Accept: application/json\r\n{self.headers}\r\n".encode()


class Channel(asyncio.Protocol):
    """One connection; one request at a time on it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._done: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, message: bytes) -> "asyncio.Future[int]":
        """The status of the answer, when all of it is there."""
        assert self._transport is not None
        self._done = asyncio.get_running_loop().create_future()
        self._buffer = b""
        self._transport.write(message)
        return self._done

    def data_received(self, data: bytes) -> None:
        """Until the head and as many bytes as it says."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or self._done is None or self._done.done():
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) >= length:
            self._done.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever waits hears of it."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(error or ConnectionError("the connection was closed"))

    def close(self) -> None:
        """Let it go."""
        if self._transport is not None:
            self._transport.close()


async def channels(way: Way, count: int) -> list[Channel]:
    """So many connections, each warmed by one request."""
    loop = asyncio.get_running_loop()
    context = way.tls()
    made = []
    for _ in range(count):
        _, channel = await loop.create_connection(
            Channel, "127.0.0.1", way.port, ssl=context, server_hostname=way.server_name
        )
        await channel.send(way.request(0))
        made.append(channel)
    return made


async def paced(way: Way, rate: float, seconds: float) -> dict[str, Any]:
    """Open loop at `rate`: milliseconds from when each request was due to its whole answer."""
    free = asyncio.Queue[Channel]()
    every = await channels(way, CONNECTIONS)
    for channel in every:
        free.put_nowait(channel)
    spent: list[float] = []
    codes: Counter[int] = Counter()

    async def one(number: int, due: float) -> None:
        channel = await free.get()
        codes[await channel.send(way.request(number))] += 1
        spent.append(time.perf_counter() - due)
        free.put_nowait(channel)

    start = time.perf_counter() + 0.05
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = start + number / rate
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)  # the open loop's own beat
            group.create_task(one(number, due))
    for channel in every:
        channel.close()
    name = f"{way.name}_p{{}}_ms_at_{rate:g}"
    figures = {name.format(share): round(quantile(spent, share / 100), 2) for share in (50, 90, 99)}
    return {"figures": figures, "codes": codes}


async def flat_out(way: Way, connections: int, seconds: float) -> dict[str, Any]:
    """Closed loop on so many connections: answers in a second."""
    every = await channels(way, connections)
    codes: Counter[int] = Counter()
    start = time.perf_counter()
    end = start + seconds

    async def one(channel: Channel, first: int) -> None:
        messages = [way.request(first + number) for number in range(100)]
        number = 0
        while time.perf_counter() < end:
            codes[await channel.send(messages[number % 100])] += 1
            number += 1

    await asyncio.gather(*(one(channel, 16 * n) for n, channel in enumerate(every)))
    rate = round(sum(codes.values()) / (time.perf_counter() - start))
    for channel in every:
        channel.close()
    suffix = "" if connections == CONNECTIONS else f"_of_{connections}"
    return {"figures": {f"{way.name}_requests_per_second{suffix}": rate}, "codes": codes}


async def ask(way: Way, seconds: float) -> dict[str, Any]:
    """Everything that is measured on one way."""
    await paced(way, 200, 1.0)  # warm
    found: list[dict[str, Any]] = []
    for rate in (50, 200, RATE):
        found.append(await paced(way, rate, seconds))  # noqa: PERF401 - one after the other
    found.append(await flat_out(way, CONNECTIONS, seconds))
    found.append(await flat_out(way, WORKERS, seconds))
    figures = {name: value for one in found for name, value in one["figures"].items()}
    return {"figures": figures, "codes": dict(sum((one["codes"] for one in found), Counter()))}


# ------------------------------------------------------------------------------------ the two ends


def client(way: Way, seconds: float) -> dict[str, Any]:
    """`ask` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.metrics", "--ask", json.dumps(asdict(way)),
         "--seconds", str(seconds)],
        stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ),
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(seconds: float, *, only_direct: bool) -> tuple[dict[str, Any], list[str]]:
    """The figures, and what was wrong."""
    # The test bed is what starts a real API server; a benchmark is run from the source tree.
    from scalers.apiserver import Listening
    from tests.apiserver.plane import ScalingPlane, account, component
    from tests.bed.api import Api
    from tests.bed.waiting import until

    plane = ScalingPlane()
    plane.prepare()
    plane.start()
    figures: dict[str, Any] = {"load_before": load()}
    codes: Counter[str] = Counter()
    server = None
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as name:
        folder = Path(name).resolve()
        try:
            kubeconfig = account(plane, folder)
            server = subprocess.Popen(
                [sys.executable, "-m", "bench.metrics", "--serve", str(kubeconfig)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ),
            )  # fmt: skip
            assert server.stdout is not None
            port = int(server.stdout.readline())
            plane.apply(*component(folder / "deploy", port))
            api = Api(plane.kubeconfig)
            path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/m1"
            until(lambda: api.get(path)["items"], "the metrics API behind the API server")
            pki = plane.authority
            service = api.get(
                "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"
            )
            direct = Way(
                "direct", port, Listening().server_name,
                base64.b64decode(service["spec"]["caBundle"]).decode(),
                str(pki.certificate("front-proxy")), str(pki.key("front-proxy")),
                f"X-Remote-User: {HPA}\r\nX-Remote-Group: system:serviceaccounts\r\n"
                "X-Remote-Group: system:authenticated\r\n",
            )  # fmt: skip
            ways = [direct]
            if not only_direct:
                plane.kubectl(
                    "-n", "kube-system", "create", "serviceaccount", "horizontal-pod-autoscaler"
                )
                token = plane.kubectl(
                    "-n", "kube-system", "create", "token", "horizontal-pod-autoscaler"
                ).strip()
                content = yaml.safe_load(plane.kubeconfig.read_text())
                address = urlsplit(content["clusters"][0]["cluster"]["server"])
                authority = pki.certificate("ca").read_text()
                ways.append(
                    Way("apiserver", int(address.port or 443), "kubernetes.default.svc",
                        authority, "", "", f"Authorization: Bearer {token}\r\n")
                )  # fmt: skip
            for way in ways:
                usage = Usage.of(server.pid)
                found = client(way, seconds)
                used = usage.since()
                asked = sum(found["codes"].values())
                figures |= found["figures"]
                figures[f"{way.name}_server_cpu_us_per_request"] = round(
                    1e6 * used.cpu_seconds / asked
                )
                figures["server_mebibytes"] = round(used.peak_mebibytes)
                codes.update(found["codes"])
        finally:
            if server is not None and server.stdin is not None:
                server.stdin.close()
                server.wait(timeout=30)
            plane.stop()
    figures["answers"] = dict(codes)
    problems = [f"not every answer was 200: {dict(codes)}"] if set(codes) - {"200"} else []
    return figures, problems


def main() -> None:
    """Measure, print a table, then one JSON line; the exit code is 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--serve", default="")
    parser.add_argument("--ask", default="")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--direct", action="store_true", help="leave the API server's way out")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
        return
    if given.ask:
        print(json.dumps(asyncio.run(ask(Way(**json.loads(given.ask)), given.seconds))))
        return
    figures, problems = measure(given.seconds, only_direct=given.direct)
    bars = {name: bar for name, bar in BARS.items() if not given.direct or "apiserver" not in name}
    raise SystemExit(tell(figures, bars, problems))


if __name__ == "__main__":
    main()
