"""A real Prometheus beside the cluster, finding pods and nodes as one in production does."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bed.builds import binary
from tests.bed.cluster import Cluster
from tests.bed.errors import BedError
from tests.bed.kubeconfig import write_yaml
from tests.bed.ports import free_port
from tests.bed.processes import Process
from tests.bed.waiting import until


@dataclass
class Scrape:
    """What Prometheus reads and evaluates."""

    #: Rule files, as Prometheus names them (globs work).
    rules: Sequence[Path] = ()
    #: Job name to "host:port" targets, as seen by a spawned process.
    jobs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: "host:port" of Alertmanagers, as seen by a spawned process.
    alertmanagers: Sequence[str] = ()
    interval: str = "1s"
    evaluation: str = "1s"
    #: Pods annotated prometheus.io/scrape: "true" (and .../port, .../path).
    pods: bool = True
    #: The kubelets' cAdvisor, where nodes are real.
    containers: bool = True
    extra: Sequence[Mapping[str, Any]] = ()
    retention: str = "1d"


class Prometheus:
    """One Prometheus, spawned in the cluster's network.

    `url` leads to it from this machine, `inner_url` from spawned processes and pods.
    """

    def __init__(
        self, cluster: Cluster, folder: Path, scrape: Scrape, name: str = "prometheus"
    ) -> None:
        self._cluster = cluster
        self._folder = folder
        self._name = name
        self._port = free_port()
        self.scrape = scrape
        self.process: Process | None = None
        self.url = ""
        self.inner_url = f"http://{cluster.inner_address}:{self._port}"

    def start(self) -> Prometheus:
        """Start it and wait until it is ready."""
        config = self.write_config()
        listen = "127.0.0.1" if self._cluster.inner_address == "127.0.0.1" else "0.0.0.0"
        self.process = self._cluster.spawn(
            self._name,
            [
                str(binary("prometheus")),
                f"--config.file={config}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={listen}:{self._port}",
                "--web.enable-lifecycle",
                "--web.enable-remote-write-receiver",
                f"--storage.tsdb.retention.time={self.scrape.retention}",
            ],
        )
        host, port = self._cluster.expose(self._port)
        self.url = f"http://{host}:{port}"
        self._wait_ready()
        return self

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.stop()

    def reload(self) -> None:
        """Write the configuration again and have it read; a wrong one is an error."""
        self.write_config()
        request = urllib.request.Request(f"{self.url}/-/reload", method="POST")
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except urllib.error.HTTPError as error:
            with error:
                raise BedError(f"Prometheus refused: {error.read().decode()[:1000]}") from error

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result vector of an instant query."""
        result: list[dict[str, Any]] = self.call("/api/v1/query", query=expression)["result"]
        return result

    def value(self, expression: str) -> float | None:
        """The value of the first sample, None when there is none."""
        result = self.query(expression)
        return float(result[0]["value"][1]) if result else None

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or firing."""
        found: list[dict[str, Any]] = self.call("/api/v1/alerts")["alerts"]
        return found

    def call(self, path: str, **parameters: str) -> Any:
        """The `data` of an API answer."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def write_config(self) -> Path:
        """Write prometheus.yml and return its path."""
        scrape = self.scrape
        own = {
            "job_name": "prometheus",
            "static_configs": [{"targets": [f"localhost:{self._port}"]}],
        }
        jobs: list[Mapping[str, Any]] = [own]
        jobs += [
            {"job_name": name, "static_configs": [{"targets": list(targets)}]}
            for name, targets in scrape.jobs.items()
        ]
        if scrape.pods:
            jobs.append(_pods(self._cluster.inner_kubeconfig))
        if scrape.containers and self._cluster.kind == "local":
            jobs.append(_containers(self._cluster.inner_kubeconfig))
        jobs += list(scrape.extra)
        content = {
            "global": {
                "scrape_interval": scrape.interval,
                "scrape_timeout": scrape.interval,
                "evaluation_interval": scrape.evaluation,
            },
            "rule_files": [str(path) for path in scrape.rules],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": list(scrape.alertmanagers)}]}]
            },
            "scrape_configs": jobs,
        }
        return write_yaml(self._folder / "prometheus.yml", content)

    def _wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process is not None
            if not self.process.alive():
                raise RuntimeError(f"Prometheus ended:\n{self.process.tail()}")
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)

        try:
            until(ready, "Prometheus to be ready", timeout=30)
        except RuntimeError as error:
            raise BedError(str(error)) from error


def _pods(kubeconfig: Path) -> dict[str, Any]:
    pod = "__meta_kubernetes_pod"
    annotation = f"{pod}_annotation_prometheus_io"
    return {
        "job_name": "pods",
        "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": str(kubeconfig)}],
        "relabel_configs": [
            {"source_labels": [f"{annotation}_scrape"], "action": "keep", "regex": "true"},
            # A pod that ended has an address still, but nobody at it.
            {"source_labels": [f"{pod}_phase"], "action": "drop", "regex": "Succeeded|Failed"},
            {
                "source_labels": [f"{annotation}_path"],
                "regex": "(.+)",
                "target_label": "__metrics_path__",
            },
            {
                "source_labels": [f"{pod}_ip", f"{annotation}_port"],
                "regex": "(.+);(.+)",
                "replacement": "$1:$2",
                "target_label": "__address__",
            },
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": [f"{pod}_name"], "target_label": "pod"},
            {"source_labels": [f"{pod}_node_name"], "target_label": "node"},
            {"source_labels": [f"{pod}_container_name"], "target_label": "container"},
            {"action": "labelmap", "regex": f"{pod}_label_(app|version)"},
        ],
    }


def _containers(kubeconfig: Path) -> dict[str, Any]:
    pki = kubeconfig.parent / "pki"
    return {
        "job_name": "cadvisor",
        # The kubelet gathers these every ten seconds or so; asking more often finds no more.
        "scrape_interval": "5s",
        "scrape_timeout": "4s",
        "scheme": "https",
        "metrics_path": "/metrics/cadvisor",
        "kubernetes_sd_configs": [{"role": "node", "kubeconfig_file": str(kubeconfig)}],
        "tls_config": {
            "ca_file": str(pki / "ca.crt"),
            "cert_file": str(pki / "admin.crt"),
            "key_file": str(pki / "admin.key"),
        },
        "relabel_configs": [
            {"source_labels": ["__meta_kubernetes_node_name"], "target_label": "node"}
        ],
    }
