"""healer with everything it lives between: Prometheus, Alertmanager, state metrics and a pager.

Used by `make demo` and by the acceptance tests, on whatever cluster the bed gives.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.bed.alertmanager import Alertmanager, webhook_config
from tests.bed.cluster import Cluster
from tests.bed.exporter import StateMetrics
from tests.bed.ports import free_port
from tests.bed.processes import Process
from tests.bed.prometheus import Prometheus, Scrape
from tests.bed.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent


class Pager:
    """A local receiver of healer's webhook notifications: what a person would be woken by."""

    def __init__(self) -> None:
        self.notices: list[dict[str, Any]] = []
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                notice = json.loads(self.rfile.read(length))
                if "title" not in notice or not self.headers.get("Idempotency-Key"):
                    self.send_error(400, "not a notice")
                    return
                pager.notices.append(notice)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Stay quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def pages(self) -> list[dict[str, Any]]:
        """What opened trouble, in order of arrival."""
        return [notice for notice in self.notices if notice["event"] == "trigger"]

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Healer:
    """One `healer serve` process beside the cluster, and how to ask it."""

    cluster: Cluster
    folder: Path
    settings: dict[str, Any]
    token: str
    name: str = "healer"
    environment: Mapping[str, str] = field(default_factory=dict)
    process: Process | None = None
    url: str = ""
    _starts: int = 0

    def start(self) -> Healer:
        """Start it and wait until it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "healer.yaml"
        config.write_text(yaml.safe_dump(self.settings))
        self._starts += 1
        name = self.name if self._starts == 1 else f"{self.name}-{self._starts}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self.environment}
        self.process = self.cluster.spawn(
            name,
            [sys.executable, "-m", "healer", "serve", "--config", str(config)],
            env=environment,
            log=self.folder / f"{name}.log",
        )
        host, port = self.cluster.expose(self.settings["listen"]["api"]["port"])
        self.url = f"http://{host}:{port}"
        until(self._ready, "healer to be ready", timeout=30)
        return self

    def _ready(self) -> bool:
        if self.process is not None and not self.process.alive():
            raise RuntimeError(f"healer ended:\n{self.process.tail()}")
        return bool(self.get("/v1/status")["playbooks"])

    def stop(self) -> None:
        """End it with SIGTERM."""
        if self.process is not None:
            self.process.stop()

    def get(self, path: str) -> Any:
        """A JSON answer of its API."""
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One API call; raises HTTPError for a refusal."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def episodes(self, query: str = "limit=500") -> list[dict[str, Any]]:
        """Episodes, newest first."""
        found: list[dict[str, Any]] = self.get(f"/v1/episodes?{query}")["episodes"]
        return found

    def story(self, episode_id: str) -> dict[str, Any]:
        """One episode with runs, facts and explanation."""
        story: dict[str, Any] = self.get(f"/v1/episodes/{episode_id}")
        return story


class Stack:
    """Everything around one healer; `start` brings it up in order, `stop` takes it down."""

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        *,
        playbooks: Sequence[Path],
        rules: Sequence[Path],
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        state_metrics: StateMetrics | None = None,
    ) -> None:
        self.cluster = cluster
        self.pager = Pager()
        self._own_metrics = state_metrics is None
        self.state_metrics = state_metrics or StateMetrics(cluster)
        self._folder = folder
        self._rules = rules
        tag = secrets.token_hex(3)
        self._tag = tag
        folder.mkdir(parents=True, exist_ok=True)
        self.source_token, api_token = secrets.token_hex(16), secrets.token_hex(16)
        (folder / "source.token").write_text(self.source_token + "\n")
        (folder / "api.token").write_text(api_token + "\n")
        self.token_file = folder / "api.token"
        ports = {name: free_port() for name in ("webhook", "api", "health")}
        self.webhook_port = ports["webhook"]
        address = cluster.inner_address
        host = "127.0.0.1" if address == "127.0.0.1" else "0.0.0.0"
        hook = f"http://{address}:{ports['webhook']}/v1/alertmanager"
        self.alertmanager = Alertmanager(
            cluster, folder / "alertmanager", webhook_config(hook, self.source_token),
            f"alertmanager-{tag}",
        )  # fmt: skip
        self._prometheus: Prometheus | None = None
        pager_host, pager_port = cluster.admit(self.pager.port)
        base: dict[str, Any] = {
            "listen": {name: {"host": host, "port": port} for name, port in ports.items()},
            "sources": {"alertmanager": {"token_files": [str(folder / "source.token")]}},
            "people": {"demo": {"token_files": [str(folder / "api.token")], "role": "operator"}},
            "kubernetes": {"kubeconfig": str(cluster.inner_kubeconfig)},
            "alertmanager": {"urls": [self.alertmanager.inner_url], "poll_seconds": 5},
            "playbooks": {"paths": [str(path) for path in playbooks]},
            "notifiers": {
                "pager": {"type": "webhook", "url": f"http://{pager_host}:{pager_port}/page"}
            },
        }
        base.update(settings or {})
        self._settings, self._api_token, self._healers = base, api_token, 0
        self.healer = self._healer(environment or {})

    def _healer(self, environment: Mapping[str, str]) -> Healer:
        """A healer that nobody started yet, with a journal and a pause file of its own."""
        self._healers += 1
        folder = self._folder / f"healer-{self._healers}"
        own = {"store": {"path": str(folder / "healer.db")}, "pause_file": str(folder / "pause")}
        name = f"healer-{self._tag}-{self._healers}"
        settings = {**self._settings, **own}
        return Healer(self.cluster, folder, settings, self._api_token, name, environment)

    def another_healer(self, environment: Mapping[str, str] | None = None) -> Healer:
        """Start a fresh healer in place of the last one: same surroundings, empty journal."""
        self.healer.stop()
        self.healer = self._healer(environment or {})
        return self.healer.start()

    @property
    def prometheus(self) -> Prometheus:
        """The Prometheus, once started."""
        if self._prometheus is None:
            raise RuntimeError("the stack is not started")
        return self._prometheus

    def start(self) -> Stack:
        """State metrics, Alertmanager, Prometheus, healer: each ready before the next."""
        self.start_surroundings()
        self.healer.start()
        return self

    def start_surroundings(self) -> Stack:
        """All but healer."""
        if self._own_metrics:
            self.state_metrics.start()
        self.alertmanager.start()
        scrape = Scrape(
            rules=self._rules,
            jobs={"kube-state-metrics": [self.state_metrics.target]},
            alertmanagers=[self.alertmanager.target],
            containers=False,
        )
        name = f"prometheus-{self._tag}"
        self._prometheus = Prometheus(self.cluster, self._folder / "prometheus", scrape, name)
        self._prometheus.start()
        prometheus = {"url": self._prometheus.inner_url}
        self._settings.setdefault("prometheus", prometheus)
        self.healer.settings.setdefault("prometheus", prometheus)
        return self

    def stop(self) -> None:
        """Take everything down that `start` brought up."""
        self.healer.stop()
        if self._prometheus is not None:
            self._prometheus.stop()
        self.alertmanager.stop()
        if self._own_metrics:
            self.state_metrics.stop()
        self.pager.stop()


def refused(error: urllib.error.HTTPError) -> str:
    """The API's own words in a refusal."""
    with error:
        return str(json.load(error)["error"])
