"""The ground for experiments: the bed's cluster with healer, its ways to others in our hands.

healer reaches the API server and Prometheus by lanes (lane.py); hooks are commands that pull a rope
here, because nodes, lanes and healer's process belong to this process.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.bed.cluster import Cluster
from tests.bed.enclosure import python_environment, python_module
from tests.bed.exporter import StateMetrics
from tests.bed.kubeconfig import write_yaml
from tests.bed.ports import free_port
from tests.bed.waiting import until
from tests.demo.stack import ROOT, Stack

SETUP = ROOT / "chaos" / "setup"
NAMESPACE = "chaos"
KEY = "healer.dev/chaos"
LABEL = f"{KEY}=allowed"
#: Everything that healer says to the API server is late by this. Seconds.
SLOW = 0.8


class Lane:
    """One lane, and the file that says how it is."""

    def __init__(self, cluster: Cluster, folder: Path, name: str) -> None:
        self._file = folder / f"{name}.json"
        self.port = free_port()
        self._to = ""
        self._cluster, self._name = cluster, f"lane-{name}-{secrets.token_hex(3)}"
        self._process: Any = None

    def start(self, to: str) -> Lane:
        """Lead to `host:port`, as a spawned process sees it."""
        self._to = to
        self.set()
        arguments = [str(self.port), str(self._file)]
        module = python_module("tests.chaos.lane", *arguments)
        self._process = self._cluster.spawn(self._name, module, python_environment())
        return self

    def set(self, *, delay: float = 0.0, cut: bool = False) -> None:
        """How it is from now on."""
        whole = self._file.with_suffix(".new")
        whole.write_text(json.dumps({"to": self._to, "delay": delay, "cut": cut}))
        whole.rename(self._file)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.stop()


class Ropes:
    """A loopback server: POST /NAME/NODE pulls a rope, GET /pages tells what people were told."""

    def __init__(self, pull: dict[str, Callable[[str], None]], pages: Callable[[], Any]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(200, json.dumps(pages()))

            def do_POST(self) -> None:
                _, name, *rest = self.path.split("/")
                try:
                    pull[name](rest[0] if rest else "")
                    self._say(200, "{}")
                except Exception as error:  # noqa: BLE001 - told to whoever pulled
                    self._say(500, f"{type(error).__name__}: {error}")

            def _say(self, status: int, text: str) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Stay quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()


class Ground:
    """Everything an experiment needs; `site` is the file that tells the experiments about it."""

    def __init__(
        self, cluster: Cluster, folder: Path, state_metrics: StateMetrics | None = None
    ) -> None:
        self.cluster, self._folder = cluster, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._api, self._sight = (Lane(cluster, folder, name) for name in ("api", "prometheus"))
        viewer = folder / "viewer.token"
        viewer.write_text(secrets.token_hex(16) + "\n")
        inner = f"http://{cluster.inner_address}:{self._sight.port}"
        self.stack = Stack(
            cluster, folder, playbooks=[SETUP / "playbooks"], rules=[SETUP / "rules.yml"],
            state_metrics=state_metrics,
            settings={
                "kubernetes": {"kubeconfig": str(self._kubeconfig())},
                "prometheus": {"url": inner},
                "worker": {"hold_page_seconds": 8},
                "people": {
                    "demo": {"token_files": [str(folder / "api.token")], "role": "operator"},
                    "chaos": {"token_files": [str(viewer)], "role": "viewer"},
                },
            },
        )  # fmt: skip
        self._ropes = Ropes(self._pulls(), self._pages)

    def _kubeconfig(self) -> Path:
        """healer's: as the bed's own, but by way of the lane."""
        content = yaml.safe_load(self.cluster.inner_kubeconfig.read_text())
        server = content["clusters"][0]["cluster"]
        self._server = urlsplit(server["server"])
        server["server"] = f"https://{self.cluster.inner_address}:{self._api.port}"
        return write_yaml(self._folder / "healer.conf", content)

    def start(self) -> Ground:
        """Start everything, label what may be broken, and write the site file."""
        cluster, stack = self.cluster, self.stack
        self._api.start(f"{self._server.hostname}:{self._server.port}")
        stack.start_surroundings()
        self._sight.start(urlsplit(stack.prometheus.inner_url).netloc)
        stack.healer.start()
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        cluster.kubectl("label", "namespace", NAMESPACE, LABEL, "--overwrite")
        for node in cluster.nodes:
            cluster.kubectl("label", "node", node, LABEL, "--overwrite")
        account = ("serviceaccount", "default", "-n", NAMESPACE)
        until(lambda: cluster.get(*account), "the namespace's account")
        self._write_site()
        return self

    @property
    def site(self) -> Path:
        """The site file."""
        return self._folder / "site.yaml"

    def _write_site(self) -> None:
        stack, cluster = self.stack, self.cluster
        host, port = cluster.expose(stack.webhook_port)
        names = ["slow_api", "fast_api", "blind_prometheus", "sight_prometheus", "kill_healer",
                 "start_healer"]  # fmt: skip
        nodes = ["freeze_node", "thaw_node", "kill_node", "restore_node"]
        names += nodes if cluster.kind == "local" else []
        pull = [sys.executable, str(Path(__file__).with_name("pull.py"))]
        write_yaml(self.site, {
            "namespace": NAMESPACE,
            "kubeconfig": str(cluster.kubeconfig),
            "prometheus": stack.prometheus.url,
            "alertmanager": stack.alertmanager.url,
            "healer": {
                "url": stack.healer.url,
                "token_file": str(self._folder / "viewer.token"),
                "pause_token_file": str(self._folder / "api.token"),
                "webhook": f"http://{host}:{port}/v1/alertmanager",
                "webhook_token_file": str(self._folder / "source.token"),
            },
            "victim": {"image": "localhost/app:1", "shipped": False},
            "pages": f"{self._ropes.url}/pages",
            "audit_log": str(cluster.audit_log) if cluster.audit_log else None,
            "hooks": {
                name: [*pull, f"{self._ropes.url}/{name}/{'{node}' if name in nodes else ''}"]
                for name in names
            },
        })  # fmt: skip

    @property
    def context(self) -> str:
        """The context to name."""
        content = yaml.safe_load(self.cluster.kubeconfig.read_text())
        return str(content["current-context"])

    def stop(self) -> None:
        """Take it down; the cluster stays."""
        self._ropes.stop()
        self.stack.stop()
        self._api.stop()
        self._sight.stop()
        self.cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
        for node in self.cluster.nodes:
            self.cluster.kubectl("label", "node", node, f"{KEY}-")

    def _pages(self) -> list[dict[str, Any]]:
        return [{"at": one["at"], "reason": one["reason"]} for one in self.stack.pager.pages()]

    def _pulls(self) -> dict[str, Callable[[str], None]]:
        cluster = self.cluster
        return {
            "slow_api": lambda _: self._api.set(delay=SLOW),
            "fast_api": lambda _: self._api.set(),
            "blind_prometheus": lambda _: self._sight.set(cut=True),
            "sight_prometheus": lambda _: self._sight.set(),
            "kill_healer": lambda _: self._kill_healer(),
            "start_healer": lambda _: self._start_healer(),
            "freeze_node": cluster.freeze_kubelet,
            "thaw_node": cluster.thaw_kubelet,
            "kill_node": cluster.kill_node,
            "restore_node": cluster.restore_node,
        }

    def _kill_healer(self) -> None:
        process = self.stack.healer.process
        assert process is not None
        process.kill()

    def _start_healer(self) -> None:
        self.stack.healer.start()
