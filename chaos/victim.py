"""The victim of an experiment: a Deployment of a small service that can be broken on request."""

from pathlib import Path
from typing import Any

from chaos.clock import until
from chaos.errors import ChaosError
from chaos.kube import Json, Kube, condition, living
from chaos.site import Site

SCRIPT = Path(__file__).with_name("victim_app.py")
PORT = 8080
MEMORY = "128Mi"
#: The usual default of Kubernetes: it waits this long before it moves pods off a node that is away.
TOLERATION_SECONDS = 300
READY_SECONDS = 120.0
ZONE = "topology.kubernetes.io/zone"


def deployment(name: str, site: Site, replicas: int, zone: str = "") -> Json:
    """The Deployment: no liveness probe, so that a hang is not healed by the kubelet, and scratch
    state that outlives containers but not the pod.
    """
    shipped = site.victim.shipped
    container: Json = {
        "name": "app",
        "image": site.victim.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": PORT}],
        "env": [{"name": "SCRATCH", "value": "/scratch"}],
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": MEMORY},
        },
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": PORT},
            "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 3,
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    }  # fmt: skip
    volumes: list[Json] = [{"name": "scratch", "emptyDir": {}}]
    if shipped:
        container["command"] = ["python3", "/victim/victim_app.py"]
        container["volumeMounts"].append({"name": "victim", "mountPath": "/victim"})
        volumes.append({"name": "victim", "configMap": {"name": name}})
    away = [
        {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute",
         "tolerationSeconds": TOLERATION_SECONDS}
        for taint in ("not-ready", "unreachable")
    ]  # fmt: skip
    spec: Json = {
        "containers": [container],
        "volumes": volumes,
        "terminationGracePeriodSeconds": 1,
        "tolerations": away,
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
             "labelSelector": {"matchLabels": {"app": name}}}
            for key in (ZONE, "kubernetes.io/hostname")
        ],
    }  # fmt: skip
    if zone:
        spec["nodeSelector"] = {ZONE: zone}
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": site.namespace, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 10,
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": annotations},
                "spec": spec,
            },
        },
    }


def deploy(kube: Kube, site: Site, name: str, replicas: int, *, one_zone: bool) -> None:
    """Create the victim and wait until all of it is ready."""
    zone = some_zone(kube) if one_zone else ""
    base = f"/api/v1/namespaces/{site.namespace}"
    if site.victim.shipped:
        script: dict[str, Any] = {"metadata": {"name": name, "labels": {"app": name}},
                                  "data": {SCRIPT.name: SCRIPT.read_text()}}  # fmt: skip
        kube.create(f"{base}/configmaps", script)
    path = f"/apis/apps/v1/namespaces/{site.namespace}/deployments"
    kube.create(path, deployment(name, site, replicas, zone))

    def ready() -> bool:
        pods = living(kube.items(f"{base}/pods", labelSelector=f"app={name}"))
        return len(pods) == replicas and all(condition(pod, "Ready") == "True" for pod in pods)

    until(ready, f"{replicas} pods of the victim {name} to be ready", timeout=READY_SECONDS)


def remove(kube: Kube, site: Site, name: str) -> None:
    """Delete the victim; its pods go without grace, so that nothing lingers on a dead node."""
    kube.delete(f"/apis/apps/v1/namespaces/{site.namespace}/deployments/{name}")
    if site.victim.shipped:
        kube.delete(f"/api/v1/namespaces/{site.namespace}/configmaps/{name}")
    pods = f"/api/v1/namespaces/{site.namespace}/pods"

    def gone() -> bool:
        left = kube.items(pods, labelSelector=f"app={name}")
        for pod in left:
            kube.delete(f"{pods}/{pod['metadata']['name']}", grace=0)
        return not left

    until(gone, f"the victim {name} to be gone", timeout=60)


def some_zone(kube: Kube) -> str:
    """A zone with ready nodes: the last by name."""
    zones = {
        (node["metadata"].get("labels") or {}).get(ZONE, "")
        for node in kube.items("/api/v1/nodes")
        if condition(node, "Ready") == "True" and not node["spec"].get("unschedulable")
    }
    named = sorted(zone for zone in zones if zone)
    if not named:
        raise ChaosError(f"no ready node has the label {ZONE}, so there is no zone to lose")
    return str(named[-1])
