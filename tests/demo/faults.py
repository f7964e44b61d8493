"""How the demo breaks things: for real where containers run, else by writing their status."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from typing import Any

from tests.bed.api import Api, ApiError
from tests.bed.cluster import Cluster
from tests.bed.service import poke


class Faults(ABC):
    """Breaks pods of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    @abstractmethod
    def poison(self, pod: dict[str, Any]) -> None:
        """From now on every container of this pod crashes; a new pod does not."""

    @abstractmethod
    def hang(self, pod: dict[str, Any]) -> None:
        """From now on this pod answers nobody."""

    def bad_release(self, deployment: str) -> None:
        """Roll out a revision whose pods never become ready."""
        self._cluster.kubectl(
            "-n", self._namespace, "set", "env", f"deployment/{deployment}", "BAD=unready",
            "VERSION=2",
        )  # fmt: skip

    @abstractmethod
    def stop(self) -> None:
        """Break nothing more."""


class RealFaults(Faults):
    """Asks the running service to misbehave."""

    def stop(self) -> None:
        """Nothing of ours goes on by itself."""

    def poison(self, pod: dict[str, Any]) -> None:
        """Write the poison file into its scratch folder, which outlives containers."""
        poke(self._cluster, self._namespace, pod["metadata"]["name"], "/poison")

    def hang(self, pod: dict[str, Any]) -> None:
        """Make it hang."""
        poke(self._cluster, self._namespace, pod["metadata"]["name"], "/hang")


class SimulatedFaults(Faults):
    """Plays the kubelet of a sick pod: simulated nodes run nothing that could fail by itself."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        super().__init__(cluster, namespace)
        self._api = Api(cluster.kubeconfig)
        self._crashing: set[str] = set()
        self._hanging: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def poison(self, pod: dict[str, Any]) -> None:
        """Its status says CrashLoopBackOff from now on."""
        self._crashing.add(pod["metadata"]["uid"])

    def hang(self, pod: dict[str, Any]) -> None:
        """Its status says not ready from now on."""
        self._hanging.add(pod["metadata"]["uid"])

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        while not self._stop.wait(0.2):
            try:
                for pod in self._api.get(path)["items"]:
                    status = self._status(pod)
                    if status is not None:
                        self._api.merge(f"{path}/{pod['metadata']['name']}/status", status)
            except (ApiError, OSError):
                continue  # the pod went away meanwhile, or the API server is restarting

    def _status(self, pod: dict[str, Any]) -> dict[str, Any] | None:
        uid = pod["metadata"]["uid"]
        env = pod["spec"]["containers"][0].get("env", [])
        bad = any(entry["name"] == "BAD" for entry in env)
        if uid not in self._crashing | self._hanging and not bad:
            return None
        state: dict[str, Any] = {"running": {"startedAt": pod["status"].get("startTime")}}
        if uid in self._crashing:
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
        kinds = ("Ready", "ContainersReady")
        conditions = [c for c in pod["status"].get("conditions", []) if c["type"] not in kinds]
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        conditions += [
            {"type": kind, "status": "False", "lastTransitionTime": at} for kind in kinds
        ]
        container = {
            "name": "app", "ready": False, "restartCount": 3, "image": "app", "imageID": "",
            "state": state,
        }  # fmt: skip
        current = pod["status"].get("containerStatuses") or [{}]
        same = current[0].get("ready") is False and list(current[0].get("state", {})) == list(state)
        if same:
            return None
        return {
            "status": {
                "phase": "Running", "conditions": conditions, "containerStatuses": [container],
            }
        }  # fmt: skip


def faults_for(cluster: Cluster, namespace: str) -> Faults:
    """Real faults where containers truly run, simulated ones elsewhere."""
    kind = RealFaults if cluster.real_nodes else SimulatedFaults
    return kind(cluster, namespace)
