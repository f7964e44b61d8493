"""A real Alertmanager beside the cluster."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bed.builds import binary
from tests.bed.cluster import Cluster
from tests.bed.errors import BedError
from tests.bed.kubeconfig import write_yaml
from tests.bed.ports import free_port
from tests.bed.processes import Process
from tests.bed.waiting import until


def webhook_config(url: str, token: str = "", *, wait: str = "1s") -> dict[str, Any]:
    """A configuration that sends every alert, firing and resolved, to one webhook.

    Groups are by alert name and namespace, and all intervals are short, so that a test
    waits for the alert and not for the mail run.
    """
    hook: dict[str, Any] = {"url": url, "send_resolved": True, "max_alerts": 0}
    if token:
        hook["http_config"] = {"authorization": {"type": "Bearer", "credentials": token}}
    return {
        "route": {
            "receiver": "webhook",
            "group_by": ["alertname", "namespace"],
            "group_wait": wait,
            "group_interval": wait,
            "repeat_interval": "30s",
        },
        "receivers": [{"name": "webhook", "webhook_configs": [hook]}],
    }


class Alertmanager:
    """One Alertmanager, spawned in the cluster's network.

    `target` is what Prometheus is told, `inner_url` what spawned processes and pods use,
    `url` what this machine uses.
    """

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        config: Mapping[str, Any],
        name: str = "alertmanager",
    ) -> None:
        self._cluster = cluster
        self._folder = folder
        self._name = name
        self._port = free_port()
        self.config = dict(config)
        self.process: Process | None = None
        self.url = ""
        self.target = f"{cluster.inner_address}:{self._port}"
        self.inner_url = f"http://{self.target}"

    def start(self) -> Alertmanager:
        """Start it and wait until it is ready."""
        config = write_yaml(self._folder / "alertmanager.yml", self.config)
        listen = "127.0.0.1" if self._cluster.inner_address == "127.0.0.1" else "0.0.0.0"
        self.process = self._cluster.spawn(
            self._name,
            [
                str(binary("alertmanager")),
                f"--config.file={config}",
                f"--storage.path={self._folder / 'data'}",
                f"--web.listen-address={listen}:{self._port}",
                # Alone: no gossip, and no waiting for peers before the first notification.
                "--cluster.listen-address=",
            ],
        )
        host, port = self._cluster.expose(self._port)
        self.url = f"http://{host}:{port}"

        def ready() -> bool:
            assert self.process is not None
            if not self.process.alive():
                raise RuntimeError(f"Alertmanager ended:\n{self.process.tail()}")
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)

        try:
            until(ready, "Alertmanager to be ready", timeout=30)
        except RuntimeError as error:
            raise BedError(str(error)) from error
        return self

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.stop()

    def reload(self, config: Mapping[str, Any]) -> None:
        """Replace its configuration."""
        self.config = dict(config)
        write_yaml(self._folder / "alertmanager.yml", self.config)
        request = urllib.request.Request(f"{self.url}/-/reload", method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts it holds, as /api/v2/alerts tells them."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)
            return found
