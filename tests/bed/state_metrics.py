"""Metrics about Kubernetes objects, with the names and labels of kube-state-metrics.

Pure functions from an object (as the API tells it) to samples. A stand-in: real clusters
use the real one, and rules written for one hold for the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]
Sample = tuple[str, dict[str, str], float]

PHASES = ("Pending", "Succeeded", "Failed", "Unknown", "Running")
POD_REASONS = ("Evicted", "NodeAffinity", "NodeLost", "Shutdown", "UnexpectedAdmissionError")
JOB_REASONS = ("BackoffLimitExceeded", "DeadlineExceeded", "Evicted")
BINARY = {unit: 2.0 ** (10 * power) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), 1)}
DECIMAL = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
SCALES = {**DECIMAL, **BINARY}
UNITS = {"cpu": "core", "memory": "byte", "ephemeral-storage": "byte", "storage": "byte"}


def quantity(text: str) -> float:
    """The number a Kubernetes quantity stands for."""
    match = re.fullmatch(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)([a-zA-Z]*)", text)
    return float(match[1]) * SCALES[match[2]] if match else float("nan")


def seconds(stamp: str) -> float:
    """Seconds since the epoch of an API time."""
    return datetime.fromisoformat(stamp).timestamp()


def pod(it: Json) -> Iterator[Sample]:
    """kube_pod_*."""
    meta, spec, status = it["metadata"], it["spec"], it.get("status", {})
    own = {"namespace": meta["namespace"], "pod": meta["name"], "uid": meta["uid"]}
    owners = meta.get("ownerReferences", [])
    creator: Json = next((o for o in owners if o.get("controller")), {})
    yield (
        "kube_pod_info",
        {
            **own,
            "host_ip": status.get("hostIP", ""),
            "pod_ip": status.get("podIP", ""),
            "node": spec.get("nodeName", ""),
            "created_by_kind": creator.get("kind", ""),
            "created_by_name": creator.get("name", ""),
            "priority_class": spec.get("priorityClassName", ""),
            "host_network": str(spec.get("hostNetwork", False)).lower(),
        },
        1,
    )
    yield from _owned("kube_pod_owner", own, owners)
    yield "kube_pod_created", own, seconds(meta["creationTimestamp"])
    if "deletionTimestamp" in meta:
        yield "kube_pod_deletion_timestamp", own, seconds(meta["deletionTimestamp"])
    if "startTime" in status:
        yield "kube_pod_start_time", own, seconds(status["startTime"])
    for phase in PHASES:
        same = status.get("phase") == phase
        yield "kube_pod_status_phase", {**own, "phase": phase}, same
    for reason in POD_REASONS:
        yield "kube_pod_status_reason", {**own, "reason": reason}, status.get("reason") == reason
    names = {"Ready": "kube_pod_status_ready", "PodScheduled": "kube_pod_status_scheduled"}
    yield from _named_conditions(names, own, status.get("conditions", []))
    for container in spec["containers"]:
        yield from _resources(container, {**own, "container": container["name"]}, spec)
    for state in status.get("containerStatuses", []):
        yield from _container("kube_pod_container", state, own)
    for state in status.get("initContainerStatuses", []):
        yield from _container("kube_pod_init_container", state, own)


def _resources(container: Json, own: dict[str, str], spec: Json) -> Iterator[Sample]:
    for sort in ("requests", "limits"):
        for resource, amount in container.get("resources", {}).get(sort, {}).items():
            labels = {"node": spec.get("nodeName", ""), "resource": resource.replace("-", "_")}
            labels["unit"] = UNITS.get(resource, "integer")
            name = f"kube_pod_container_resource_{sort}"
            yield name, {**own, **labels}, quantity(str(amount))


def _container(prefix: str, it: Json, pod_labels: dict[str, str]) -> Iterator[Sample]:
    own = {**pod_labels, "container": it["name"]}
    images = {"image": it["image"], "image_id": it["imageID"]}
    yield f"{prefix}_info", {**own, **images, "container_id": it.get("containerID", "")}, 1
    yield f"{prefix}_status_ready", own, it["ready"]
    yield f"{prefix}_status_restarts_total", own, it["restartCount"]
    state = it.get("state", {})
    for name in ("waiting", "running", "terminated"):
        yield f"{prefix}_status_{name}", own, name in state
        reason = state.get(name, {}).get("reason")
        if reason:
            yield f"{prefix}_status_{name}_reason", {**own, "reason": reason}, 1
    if "startedAt" in state.get("running", {}):
        yield f"{prefix}_state_started", own, seconds(state["running"]["startedAt"])
    last = it.get("lastState", {}).get("terminated")
    if last:
        reason = last.get("reason", "")
        yield f"{prefix}_status_last_terminated_reason", {**own, "reason": reason}, 1
        yield f"{prefix}_status_last_terminated_exitcode", own, last["exitCode"]
        if last.get("finishedAt"):
            ended = seconds(last["finishedAt"])
            yield f"{prefix}_status_last_terminated_timestamp", own, ended


def deployment(it: Json) -> Iterator[Sample]:
    """kube_deployment_*."""
    own = _named(it, "deployment")
    status, spec = it.get("status", {}), it["spec"]
    yield "kube_deployment_created", own, seconds(it["metadata"]["creationTimestamp"])
    yield "kube_deployment_spec_replicas", own, spec.get("replicas", 1)
    yield "kube_deployment_spec_paused", own, spec.get("paused", False)
    yield "kube_deployment_metadata_generation", own, it["metadata"].get("generation", 0)
    yield "kube_deployment_status_observed_generation", own, status.get("observedGeneration", 0)
    yield "kube_deployment_status_replicas", own, status.get("replicas", 0)
    for name in ("ready", "available", "unavailable", "updated"):
        yield f"kube_deployment_status_replicas_{name}", own, status.get(f"{name}Replicas", 0)
    for condition in status.get("conditions", []):
        labels = {**own, "reason": condition.get("reason", ""), "condition": condition["type"]}
        yield from _tristate("kube_deployment_status_condition", labels, condition["status"])


def replicaset(it: Json) -> Iterator[Sample]:
    """kube_replicaset_*."""
    own = _named(it, "replicaset")
    status = it.get("status", {})
    yield from _owned("kube_replicaset_owner", own, it["metadata"].get("ownerReferences", []))
    yield "kube_replicaset_spec_replicas", own, it["spec"].get("replicas", 1)
    yield "kube_replicaset_status_replicas", own, status.get("replicas", 0)
    yield "kube_replicaset_status_ready_replicas", own, status.get("readyReplicas", 0)
    yield "kube_replicaset_metadata_generation", own, it["metadata"].get("generation", 0)


def statefulset(it: Json) -> Iterator[Sample]:
    """kube_statefulset_*."""
    own = _named(it, "statefulset")
    status = it.get("status", {})
    yield "kube_statefulset_replicas", own, it["spec"].get("replicas", 1)
    yield "kube_statefulset_metadata_generation", own, it["metadata"].get("generation", 0)
    yield "kube_statefulset_status_observed_generation", own, status.get("observedGeneration", 0)
    yield "kube_statefulset_status_replicas", own, status.get("replicas", 0)
    for name in ("ready", "available", "current", "updated"):
        yield f"kube_statefulset_status_replicas_{name}", own, status.get(f"{name}Replicas", 0)
    for name in ("current", "update"):
        labels = {**own, "revision": status.get(f"{name}Revision", "")}
        yield f"kube_statefulset_status_{name}_revision", labels, 1


def daemonset(it: Json) -> Iterator[Sample]:
    """kube_daemonset_*."""
    own = _named(it, "daemonset")
    status = it.get("status", {})
    yield "kube_daemonset_metadata_generation", own, it["metadata"].get("generation", 0)
    yield "kube_daemonset_status_observed_generation", own, status.get("observedGeneration", 0)
    for name, field in {
        "desired_number_scheduled": "desiredNumberScheduled",
        "current_number_scheduled": "currentNumberScheduled",
        "updated_number_scheduled": "updatedNumberScheduled",
        "number_misscheduled": "numberMisscheduled",
        "number_ready": "numberReady",
        "number_available": "numberAvailable",
        "number_unavailable": "numberUnavailable",
    }.items():
        yield f"kube_daemonset_status_{name}", own, status.get(field, 0)


def job(it: Json) -> Iterator[Sample]:
    """kube_job_*."""
    own = _named(it, "job_name")
    status = it.get("status", {})
    yield from _owned("kube_job_owner", own, it["metadata"].get("ownerReferences", []))
    yield "kube_job_created", own, seconds(it["metadata"]["creationTimestamp"])
    yield "kube_job_status_active", own, status.get("active", 0)
    yield "kube_job_status_succeeded", own, status.get("succeeded", 0)
    for name, field in {"start_time": "startTime", "completion_time": "completionTime"}.items():
        if field in status:
            yield f"kube_job_status_{name}", own, seconds(status[field])
    conditions = status.get("conditions", [])
    failed = next((c for c in conditions if c["type"] == "Failed" and c["status"] == "True"), None)
    count = status.get("failed", 0)
    known = failed is not None and failed.get("reason") in JOB_REASONS
    if count and failed is not None:
        for reason in JOB_REASONS:
            same = failed.get("reason") == reason
            yield "kube_job_status_failed", {**own, "reason": reason}, same
    if not count or not known:
        yield "kube_job_status_failed", {**own, "reason": ""}, count
    names = {"Failed": "kube_job_failed", "Complete": "kube_job_complete"}
    yield from _named_conditions(names, own, conditions)


def node(it: Json) -> Iterator[Sample]:
    """kube_node_*."""
    meta, status, spec = it["metadata"], it.get("status", {}), it.get("spec", {})
    own = {"node": meta["name"]}
    info = status.get("nodeInfo", {})
    addresses = {a["type"]: a["address"] for a in status.get("addresses", [])}
    yield (
        "kube_node_info",
        {
            **own,
            "kernel_version": info.get("kernelVersion", ""),
            "os_image": info.get("osImage", ""),
            "container_runtime_version": info.get("containerRuntimeVersion", ""),
            "kubelet_version": info.get("kubeletVersion", ""),
            "provider_id": spec.get("providerID", ""),
            "pod_cidr": spec.get("podCIDR", ""),
            "system_uuid": info.get("systemUUID", ""),
            "internal_ip": addresses.get("InternalIP", ""),
        },
        1,
    )
    shown = {
        "label_" + re.sub(r"[^a-zA-Z0-9_]", "_", name): value
        for name, value in meta.get("labels", {}).items()
    }
    yield "kube_node_labels", {**own, **shown}, 1
    yield "kube_node_created", own, seconds(meta["creationTimestamp"])
    yield "kube_node_spec_unschedulable", own, spec.get("unschedulable", False)
    for taint in spec.get("taints", []):
        about = {"key": taint["key"], "value": taint.get("value", ""), "effect": taint["effect"]}
        yield "kube_node_spec_taint", {**own, **about}, 1
    for condition in status.get("conditions", []):
        which = {**own, "condition": condition["type"]}
        yield from _tristate("kube_node_status_condition", which, condition["status"])
    for sort in ("allocatable", "capacity"):
        for resource, amount in status.get(sort, {}).items():
            about = {"resource": resource.replace("-", "_"), "unit": UNITS.get(resource, "integer")}
            yield f"kube_node_status_{sort}", {**own, **about}, quantity(str(amount))


def autoscaler(it: Json) -> Iterator[Sample]:
    """kube_horizontalpodautoscaler_*."""
    prefix, own = "kube_horizontalpodautoscaler", _named(it, "horizontalpodautoscaler")
    spec, status = it["spec"], it.get("status", {})
    target = spec["scaleTargetRef"]
    about = {
        "scaletargetref_api_version": target.get("apiVersion", ""),
        "scaletargetref_kind": target["kind"],
        "scaletargetref_name": target["name"],
    }
    yield f"{prefix}_info", {**own, **about}, 1
    yield f"{prefix}_spec_min_replicas", own, spec.get("minReplicas", 1)
    yield f"{prefix}_spec_max_replicas", own, spec["maxReplicas"]
    yield f"{prefix}_status_current_replicas", own, status.get("currentReplicas", 0)
    yield f"{prefix}_status_desired_replicas", own, status.get("desiredReplicas", 0)
    for condition in status.get("conditions", []):
        labels = {**own, "condition": condition["type"]}
        yield from _tristate(f"{prefix}_status_condition", labels, condition["status"])


def claim(it: Json) -> Iterator[Sample]:
    """kube_persistentvolumeclaim_*."""
    prefix, own = "kube_persistentvolumeclaim", _named(it, "persistentvolumeclaim")
    spec = it["spec"]
    about = {
        "storageclass": spec.get("storageClassName", ""),
        "volumename": spec.get("volumeName", ""),
        "volumemode": spec.get("volumeMode", ""),
    }
    yield f"{prefix}_info", {**own, **about}, 1
    for phase in ("Lost", "Bound", "Pending"):
        same = it.get("status", {}).get("phase") == phase
        yield f"{prefix}_status_phase", {**own, "phase": phase}, same
    storage = spec.get("resources", {}).get("requests", {}).get("storage")
    if storage:
        yield f"{prefix}_resource_requests_storage_bytes", own, quantity(str(storage))


def disruption_budget(it: Json) -> Iterator[Sample]:
    """kube_poddisruptionbudget_*."""
    prefix, own = "kube_poddisruptionbudget", _named(it, "poddisruptionbudget")
    status = it.get("status", {})
    yield f"{prefix}_status_current_healthy", own, status.get("currentHealthy", 0)
    yield f"{prefix}_status_desired_healthy", own, status.get("desiredHealthy", 0)
    yield f"{prefix}_status_pod_disruptions_allowed", own, status.get("disruptionsAllowed", 0)
    yield f"{prefix}_status_expected_pods", own, status.get("expectedPods", 0)


def _named(it: Json, label: str) -> dict[str, str]:
    return {"namespace": it["metadata"]["namespace"], label: it["metadata"]["name"]}


def _owned(name: str, own: dict[str, str], owners: list[Json]) -> Iterator[Sample]:
    for owner in owners or [{}]:
        about = {
            "owner_kind": owner.get("kind", ""),
            "owner_name": owner.get("name", ""),
            "owner_is_controller": str(owner.get("controller", False)).lower() if owner else "",
        }
        yield name, {**own, **about}, 1


def _named_conditions(
    names: Mapping[str, str], own: dict[str, str], conditions: list[Json]
) -> Iterator[Sample]:
    for condition in conditions:
        if condition["type"] in names:
            for state in ("true", "false", "unknown"):
                same = condition["status"].lower() == state
                yield names[condition["type"]], {**own, "condition": state}, same


def _tristate(name: str, own: dict[str, str], value: str) -> Iterator[Sample]:
    for state in ("true", "false", "unknown"):
        yield name, {**own, "status": state}, value.lower() == state


#: Where each sort of object is listed, and what is said about it.
SOURCES: dict[str, Callable[[Json], Iterator[Sample]]] = {
    "/api/v1/pods": pod,
    "/api/v1/nodes": node,
    "/api/v1/persistentvolumeclaims": claim,
    "/apis/apps/v1/deployments": deployment,
    "/apis/apps/v1/replicasets": replicaset,
    "/apis/apps/v1/statefulsets": statefulset,
    "/apis/apps/v1/daemonsets": daemonset,
    "/apis/batch/v1/jobs": job,
    "/apis/autoscaling/v2/horizontalpodautoscalers": autoscaler,
    "/apis/policy/v1/poddisruptionbudgets": disruption_budget,
}
