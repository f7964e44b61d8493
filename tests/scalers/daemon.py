"""The whole way from a load to replicas: exporter, Prometheus, `healer serve`, API server, HPA."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from scalers.apiserver import Listening
from scalers.hpa_object import manifest
from scalers.policy import ScalingPolicy
from tests.apiserver.plane import REGISTRATION, ScalingPlane, account, component
from tests.bed.api import Api
from tests.bed.builds import binary
from tests.bed.ports import free_port
from tests.bed.processes import Process, launch
from tests.bed.simulated import LOOPBACK
from tests.bed.waiting import until
from tests.demo.stack import ROOT


class WorkloadPlane(ScalingPlane):
    """Besides the HPA's controller those that make a Deployment's pods; no pod ever runs."""

    def __init__(self) -> None:
        super().__init__()
        wanted = "horizontal-pod-autoscaler-controller,deployment-controller,replicaset-controller"
        self.options = replace(
            self.options, controller_manager_flags=(f"--controllers={wanted}",), hpa_sync="2s"
        )


class Exporter:
    """The series `load{service=…}`, with whatever values the test gives; text, so also NaN."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = "".join(f"{line}\n" for line in exporter.lines.values())
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Stay quiet."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def give(self, service: str, value: str) -> None:
        """From now on."""
        self.lines[service] = f'load{{service="{service}"}} {value}'

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Prometheus:
    """Scrapes the exporter each second; can be frozen, killed and begun again."""

    folder: Path
    target: int
    retention: str = "1d"
    port: int = field(default_factory=free_port)
    process: Process | None = None
    starts: int = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.folder.mkdir(exist_ok=True)
        jobs = [
            {"job_name": "load", "static_configs": [{"targets": [f"{LOOPBACK}:{self.target}"]}]}
        ]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs,
        }  # fmt: skip
        (self.folder / "prometheus.yml").write_text(json.dumps(config))
        self.starts += 1
        self.process = launch(
            f"prometheus-{self.starts}",
            [
                str(binary("prometheus")), f"--config.file={self.folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--storage.tsdb.retention.time={self.retention}",
                f"--web.listen-address={LOOPBACK}:{self.port}",
            ],
            log=self.folder / f"log-{self.starts}",
        )  # fmt: skip
        until(self._ready, "Prometheus to be ready", timeout=60)

    def _ready(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2):
            return True

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def stop(self) -> None:
        """End it, frozen or not."""
        if self.process is not None and self.process.alive():
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGCONT)
            self.process.stop()


@dataclass
class Daemon:
    """`healer serve` with scaling policies and the rights that deploy/ gives it."""

    folder: Path
    kubeconfig: Path
    prometheus: str
    policies: Path
    port: int = field(default_factory=free_port)
    api: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        """Start it and wait until it answers people."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "playbooks").mkdir(exist_ok=True)
        self.starts += 1
        settings = {
            "store": {"path": str(self.folder / "healer.db")},
            "pause_file": str(self.folder / "pause"),
            "listen": {
                "webhook": {"port": 0}, "api": {"port": self.api}, "health": {"port": 0},
            },
            "playbooks": {"paths": [str(self.folder / "playbooks")]},
            "kubernetes": {"kubeconfig": str(self.kubeconfig)},
            "prometheus": {"url": self.prometheus, "timeout_seconds": 3},
            "scaling": {
                "policies": [str(self.policies)],
                "state_path": str(self.folder / "forecasts"),
                "metrics_api": {"host": LOOPBACK, "port": self.port},
            },
            "log": {"format": "json"},
        }  # fmt: skip
        (self.folder / "healer.yaml").write_text(yaml.safe_dump(settings))
        with (self.folder / f"healer-{self.starts}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "healer", "serve", "--config",
                 str(self.folder / "healer.yaml")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
            )  # fmt: skip
        try:
            until(lambda: self.get("/v1/status"), "healer to answer", timeout=60)
        except Exception as error:
            raise AssertionError(f"{error}\n{self.log()[-4000:]}") from error

    def log(self) -> str:
        """What the newest process has said."""
        return (self.folder / f"healer-{self.starts}.log").read_text()

    def get(self, path: str) -> Any:
        """A JSON answer of its API."""
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.api}{path}", timeout=5) as answer:
            return json.load(answer)

    def told(self) -> Mapping[str, Mapping[str, Any]]:
        """Every policy's round, by name."""
        return {one["policy"]: one for one in self.get("/v1/scaling")["policies"]}

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(40)


@dataclass
class Scene:
    """All of it, running."""

    plane: WorkloadPlane
    api: Api
    exporter: Exporter
    prometheus: Prometheus
    daemon: Daemon

    def hpa(self, name: str) -> Mapping[str, Any]:
        """Its status."""
        found = self.api.get(
            f"/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/{name}"
        )
        status: Mapping[str, Any] = found.get("status") or {}
        return status

    def replicas(self, name: str) -> int:
        """What the Deployment is asked for."""
        found = self.api.get(f"/apis/apps/v1/namespaces/shop/deployments/{name}")
        return int(found["spec"]["replicas"])

    def active(self, name: str) -> Mapping[str, str]:
        """The condition ScalingActive; empty before there is one."""
        conditions = self.hpa(name).get("conditions") or ()
        return next((c for c in conditions if c["type"] == "ScalingActive"), {})

    def available(self) -> bool:
        """Whether the aggregator finds all of healer's versions well."""
        for name in Listening().api_services:
            status = self.api.get(f"{REGISTRATION}/{name}").get("status") or {}
            states = {c["type"]: c["status"] for c in status.get("conditions") or ()}
            if states.get("Available") != "True":
                return False
        return True


def policy_text(policy: ScalingPolicy) -> str:
    """The policy as its file."""
    return yaml.safe_dump({
        "apiVersion": "healer.dev/v1alpha1", "kind": "ScalingPolicy",
        "metadata": {"name": policy.name},
        "spec": {
            "workload": {"kind": policy.workload.kind, "namespace": policy.workload.namespace,
                         "name": policy.workload.name},
            "demand": {"query": policy.query, "maxAge": f"{policy.max_age_seconds:g}s",
                       "hold": f"{policy.hold_seconds:g}s"},
            "capacity": policy.capacity, "utilisation": f"{policy.utilisation:.0%}",
            "replicas": {"min": policy.min_replicas, "max": policy.max_replicas},
            "metric": policy.metric, "mode": str(policy.mode),
        },
    })  # fmt: skip


def deployment(name: str) -> dict[str, Any]:
    """One replica of something."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": "none.invalid/web:1"}]},
            },
        },
    }  # fmt: skip


def autoscaler(policy: ScalingPolicy) -> dict[str, Any]:
    """As `healer scaling hpa` prints it, but that it scales down at once."""
    assert policy.capacity is not None
    made = manifest(policy, policy.capacity, tolerance_field=False)
    made["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = 0
    return made


@contextlib.contextmanager
def scene(
    folder: Path, policies: Mapping[str, ScalingPolicy], loads: Mapping[str, str]
) -> Iterator[Scene]:
    """Everything up, each policy's workload there, and the API server passing requests on."""
    plane = WorkloadPlane()
    plane.prepare()
    with contextlib.ExitStack() as stack:
        plane.start()
        stack.callback(plane.stop)
        kubeconfig = account(plane, folder)
        exporter = Exporter()
        stack.callback(exporter.stop)
        for service, value in loads.items():
            exporter.give(service, value)
        prometheus = Prometheus(folder / "prometheus", exporter.port)
        prometheus.start()
        stack.callback(prometheus.stop)
        (folder / "policies").mkdir()
        for name, policy in policies.items():
            (folder / "policies" / f"{name}.yaml").write_text(policy_text(policy))
        daemon = Daemon(folder / "healer", kubeconfig, prometheus.url, folder / "policies")
        made = Scene(plane, Api(plane.kubeconfig), exporter, prometheus, daemon)
        plane.apply(*component(folder / "deploy", daemon.port))
        plane.apply(*(deployment(one.workload.name) for one in policies.values()))
        plane.apply(*(autoscaler(one) for one in policies.values()))
        daemon.start()
        stack.callback(daemon.stop)
        until(made.available, "the APIServices to be available", timeout=90)
        plane.start_scaling()
        yield made
