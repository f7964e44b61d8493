"""What clusters whose network is not ours have in common.

Pods there cannot be reached from this machine, so "a process beside the cluster" is a
plain process that speaks to the API server, and Services are reached by `kubectl
port-forward`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bed import around
from tests.bed.cluster import Cluster
from tests.bed.errors import BedError
from tests.bed.processes import Process
from tests.bed.runs import Run


class OutsideCluster(Cluster):
    """A cluster somewhere else: spawned processes run on this machine."""

    _run: Run | None = None
    _nodes: Sequence[str] = ()

    @property
    def run(self) -> Run:
        """The run that holds the logs and processes around this cluster."""
        if self._run is None:
            raise BedError("this cluster is not started: call start() first")
        return self._run

    @property
    def nodes(self) -> list[str]:
        return list(self._nodes)

    @property
    def logs(self) -> Path:
        return self.run.logs

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> Process:
        return around.spawn(self.run, None, name, argv, env, log)

    def expose(self, port: int, host: str = "127.0.0.1") -> tuple[str, int]:
        self._only_own(host)
        return "127.0.0.1", port

    def admit(self, port: int) -> tuple[str, int]:
        return "127.0.0.1", port

    def _read_nodes(self) -> None:
        self._nodes = [item["metadata"]["name"] for item in self.get("nodes")["items"]]

    @staticmethod
    def _users_kubeconfig() -> Path:
        """The kubeconfig kubectl would take."""
        listed = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
        return Path(listed) if listed else Path.home() / ".kube" / "config"
