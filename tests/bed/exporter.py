"""The stand-in for kube-state-metrics: `python -m tests.bed.exporter`, and how to start it.

Each scrape lists the objects and tells their state at that moment; what cannot be listed
makes the scrape fail, because half an answer would look like objects that vanished.
"""

from __future__ import annotations

import argparse
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from tests.bed.api import Api
from tests.bed.cluster import Cluster
from tests.bed.enclosure import python_environment, python_module
from tests.bed.errors import BedError
from tests.bed.ports import free_port
from tests.bed.processes import Process
from tests.bed.state_metrics import SOURCES, Sample
from tests.bed.waiting import now, until

NAME = "kube-state-metrics"
FRESH_SECONDS = 0.5


class Exporter:
    """Reads the cluster and renders what it saw."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = Lock()
        self._seen_at = 0.0
        self._text = b""

    def text(self) -> bytes:
        """The metrics, at most half a second old: several scrapers cost no more than one."""
        with self._lock:
            if not self._text or now() - self._seen_at > FRESH_SECONDS:
                self._text = render(self._samples())
                self._seen_at = now()
            return self._text

    def _samples(self) -> list[Sample]:
        def read(path: str) -> list[Sample]:
            # Version 0 is answered from the API server's memory, not from etcd.
            items = self._api.get(f"{path}?resourceVersion=0")["items"]
            return [sample for item in items for sample in SOURCES[path](item)]

        with ThreadPoolExecutor(4) as pool:
            return [sample for samples in pool.map(read, SOURCES) for sample in samples]


def render(samples: Iterable[Sample]) -> bytes:
    """The text format of Prometheus; samples of one name stand together."""
    families: dict[str, list[str]] = {}
    for name, labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        families.setdefault(name, []).append(f"{name}{{{inside}}} {float(value):.17g}\n")
    parts: list[str] = []
    for name, lines in families.items():
        parts.append(f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n")
        parts += lines
    return "".join(parts).encode()


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def serve(kubeconfig: Path, address: str, port: int) -> None:
    """Answer scrapes until ended."""
    exporter = Exporter(Api(kubeconfig))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                status, body = 200, exporter.text() if self.path == "/metrics" else b"ok\n"
            except (OSError, BedError) as error:
                status, body = 503, f"{error}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: a line a scrape would hide what matters."""

    ThreadingHTTPServer((address, port), Handler).serve_forever()


class StateMetrics:
    """A running exporter; `target` is what Prometheus is told."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._port = free_port()
        self.target = f"{cluster.inner_address}:{self._port}"
        self.process: Process | None = None

    def start(self) -> StateMetrics:
        """Start it and wait until it listens."""
        local = self._cluster.inner_address == "127.0.0.1"
        arguments = [
            *("--kubeconfig", str(self._cluster.inner_kubeconfig)),
            *("--address", "127.0.0.1" if local else "0.0.0.0"),
            *("--port", str(self._port)),
        ]
        self.process = process = self._cluster.spawn(
            NAME, python_module("tests.bed.exporter", *arguments), python_environment()
        )
        host, port = self._cluster.expose(self._port)

        def listening() -> bool:
            if not process.alive():
                raise RuntimeError(f"the exporter ended:\n{process.tail()}")
            with urllib.request.urlopen(f"http://{host}:{port}/", timeout=2) as answer:
                return bool(answer.status == 200)

        try:
            until(listening, "the exporter", timeout=20)
        except RuntimeError as error:
            raise BedError(str(error)) from error
        return self

    def stop(self) -> None:
        """End it: rules over its metrics then see nothing."""
        if self.process is not None:
            self.process.stop()


def main() -> None:
    """Serve, as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    serve(options.kubeconfig, options.address, options.port)


if __name__ == "__main__":
    main()
