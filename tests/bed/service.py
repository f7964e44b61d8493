"""Objects for the service to break, and how to poke it.

The service's routes: / (?work=10ms), /crash, /poison, /hang, /unready, /beready,
/slow?by=300ms, /errors?percent=50, /leak?mb=16, /burn?for=5s,
/call?url=http://..., /metrics, /ready, /healthz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bed.cluster import Cluster
from tests.bed.errors import BedError

IMAGE = "localhost/app:1"
PORT = 8080


@dataclass(frozen=True)
class Service:
    """A Deployment of the service to break, with a Service before it.

    Without a liveness probe a hang is not healed by the kubelet, and with `scratch` (an
    emptyDir) poisoned state survives a restart of the container but not of the pod.
    """

    name: str
    namespace: str
    replicas: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=lambda: {"cpu": "10m", "memory": "16Mi"})
    limits: Mapping[str, str] = field(default_factory=lambda: {"memory": "128Mi"})
    liveness: bool = False
    spread_zones: bool = True
    image: str = IMAGE

    def objects(self) -> Sequence[dict[str, Any]]:
        """The Deployment and the Service."""
        return [self.deployment(), self.service()]

    def deployment(self) -> dict[str, Any]:
        """The Deployment."""
        environment = {"SCRATCH": "/scratch", **self.environment}
        container: dict[str, Any] = {
            "name": "app",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "ports": [{"name": "http", "containerPort": PORT}],
            "env": [{"name": name, "value": value} for name, value in environment.items()],
            "resources": {"requests": dict(self.requests), "limits": dict(self.limits)},
            "readinessProbe": _probe("/ready"),
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        }
        if self.liveness:
            container["livenessProbe"] = _probe("/healthz")
        pod: dict[str, Any] = {
            "containers": [container],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 1,
        }
        if self.spread_zones:
            pod["topologySpreadConstraints"] = [
                {
                    "maxSkew": 1,
                    "topologyKey": "topology.kubernetes.io/zone",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"app": self.name}},
                }
            ]
        labels = {"app": self.name, **self.labels}
        annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT)}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": labels},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": {"app": self.name}},
                "template": {
                    "metadata": {"labels": labels, "annotations": annotations},
                    "spec": pod,
                },
            },
        }

    def service(self) -> dict[str, Any]:
        """The Service, on port 80."""
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "selector": {"app": self.name},
                "ports": [{"name": "http", "port": 80, "targetPort": PORT}],
            },
        }


def poke(cluster: Cluster, namespace: str, pod: str, route: str) -> str:
    """Ask a pod for a route, by way of the API server; "" when no answer came.

    No answer is what /crash, /poison and a hanging pod give.
    """
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}:{PORT}/proxy{route}"
    try:
        return cluster.kubectl("get", "--raw", path, "--request-timeout=3s")
    except BedError:
        return ""


def _probe(path: str) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": PORT},
        "periodSeconds": 1,
        "timeoutSeconds": 1,
        "failureThreshold": 3,
    }
