"""Deployments on the real API server, and what the API server itself says was done to them."""

import itertools
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from healer.clients.kube import KubeCluster
from healer.clients.kube.connection import Connection
from healer.kernel.clock import Clock
from tests.bed.api import Api
from tests.bed.simulated import SimulatedCluster
from tests.bed.waiting import until
from tests.faults.proxy import FaultProxy

NAMESPACE = "default"
#: Of one call of healer's to the API server, where tests make it fail. Real seconds.
CALL_SECONDS = 1.0
_numbers = itertools.count(1)


def deployment(name: str, namespace: str = NAMESPACE) -> dict[str, Any]:
    """A small Deployment of two replicas that simulated kubelets run."""
    labels = {"app": name}
    container = {"name": "app", "image": "localhost/app:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            },
        },
    }


def deploy(cluster: SimulatedCluster, *stems: str, namespace: str = NAMESPACE) -> list[str]:
    """One Deployment for each stem, rolled out; their names, which are nobody else's."""
    number = next(_numbers)
    names = [f"{stem}-{number}" for stem in stems]
    begin(cluster, dict.fromkeys(names, namespace))
    return names


def begin(cluster: SimulatedCluster, places: Mapping[str, str]) -> None:
    """Deployments by name, each in its namespace; back when all are rolled out."""
    items = [deployment(name, namespace) for name, namespace in places.items()]
    content = {"apiVersion": "v1", "kind": "List", "items": items}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(content), timeout=60)

    def rolled_out() -> bool:
        found = {d["metadata"]["name"]: d for d in cluster.get("deployments", "-A")["items"]}
        return all((found[n].get("status") or {}).get("readyReplicas") == 2 for n in places)

    until(rolled_out, f"the rollouts of {list(places)}", timeout=90, interval=0.1)


def generation(cluster: SimulatedCluster, name: str) -> int:
    """Of the Deployment: 1 after it was made, one more for each change of its spec."""
    found = Api(cluster.kubeconfig).get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}")
    return int(found["metadata"]["generation"])


def written(cluster: SimulatedCluster, name: str = "") -> list[tuple[float, str, int]]:
    """Healer's own writes as the API server's audit log has them: time, what, status."""
    assert cluster.audit_log is not None
    found = []
    for line in cluster.audit_log.read_text().splitlines():
        event = json.loads(line)
        about = event.get("objectRef") or {}
        ours = str(event.get("userAgent", "")).startswith("healer/")
        mine = about.get("resource") in {"deployments", "pods", "jobs"}
        if not ours or not mine or not re.match(name, about.get("name", "")):
            continue
        at = datetime.fromisoformat(event["stageTimestamp"]).timestamp()
        found.append((at, f"{event['verb']} {about['name']}", event["responseStatus"]["code"]))
    return found


def effects(cluster: SimulatedCluster, names: Sequence[str]) -> dict[str, int]:
    """How often each Deployment was really restarted."""
    return {name: generation(cluster, name) - 1 for name in names}


@asynccontextmanager
async def reached(
    proxy: FaultProxy, folder: Path, clock: Clock, *, silence_seconds: float = 55.0
) -> AsyncIterator[KubeCluster]:
    """Healer's own client, by way of the proxy, with short limits."""
    folder.mkdir(parents=True, exist_ok=True)
    kubeconfig = str(proxy.kubeconfig(folder))
    connection = await Connection.open(clock, kubeconfig=kubeconfig, timeout_seconds=CALL_SECONDS)
    cluster = KubeCluster(connection, clock, silence_seconds=silence_seconds)
    try:
        yield cluster
    finally:
        await cluster.close()
