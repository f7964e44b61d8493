"""Builders of Kubernetes objects, as short as a test wants them."""

from collections.abc import Mapping
from typing import Any

from healer.domain.kinds import RESOURCES, is_namespaced
from healer.domain.target import Kind
from healer.ports import JsonObject


def an_object(
    kind: Kind,
    name: str,
    namespace: str = "shop",
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **parts: Any,
) -> JsonObject:
    """Any object; `parts` are its `spec`, `status`, `data` …"""
    head: JsonObject = {"name": name}
    if is_namespaced(kind):
        head["namespace"] = namespace
    if labels:
        head["labels"] = dict(labels)
    if annotations:
        head["annotations"] = dict(annotations)
    api = {"apiVersion": RESOURCES[kind].api_version, "kind": str(kind)}
    return {**api, "metadata": head, **parts}


def a_template(app: str, image: str = "registry.invalid/app:1") -> JsonObject:
    """A pod template whose pods no real scheduler will place and no real kubelet will touch."""
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {
            "nodeSelector": {"healer.dev/test": "no-such-node"},
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": image}],
        },
    }


def a_workload(
    kind: Kind, name: str, namespace: str = "shop", *, replicas: int = 3, **parts: Any
) -> JsonObject:
    """A Deployment, ReplicaSet, StatefulSet, DaemonSet or Job called `name` of pods `app=name`."""
    spec: JsonObject = {"template": a_template(name)}
    if kind is Kind.JOB:
        spec["parallelism"] = replicas
        spec["template"]["spec"]["restartPolicy"] = "Never"
    else:
        spec["selector"] = {"matchLabels": {"app": name}}
        if kind is not Kind.DAEMON_SET:
            spec["replicas"] = replicas
        if kind is Kind.STATEFUL_SET:
            spec["serviceName"] = name
    spec |= parts.pop("spec", {})
    return an_object(kind, name, namespace, spec=spec, **parts)


def a_node(name: str, zone: str = "zone-a") -> JsonObject:
    """A ready node in a zone."""
    return an_object(
        Kind.NODE,
        name,
        labels={"topology.kubernetes.io/zone": zone},
        spec={},
        status={"conditions": [{"type": "Ready", "status": "True"}]},
    )


def ready_status() -> JsonObject:
    """The status of a pod that runs and serves."""
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {
                "name": "app", "ready": True, "restartCount": 0, "image": "app", "imageID": "",
                "state": {"running": {}},
            }
        ],
    }  # fmt: skip


def crashing_status(reason: str = "CrashLoopBackOff", restarts: int = 7) -> JsonObject:
    """The status of a pod whose container cannot stay up."""
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {
                "name": "app", "ready": False, "restartCount": restarts, "image": "app",
                "imageID": "", "state": {"waiting": {"reason": reason}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
            }
        ],
    }  # fmt: skip
