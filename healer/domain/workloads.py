"""Reads what a workload's own status says, and puts an Observation together."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from healer.domain.manifests import (
    condition,
    gitops_managers,
    is_leftover,
    is_ready,
    meta,
    pod_state,
    ref_of,
)
from healer.domain.target import Health, Kind, Observation, TargetRef

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rollout:
    """The numbers a workload reports of itself."""

    replicas: int | None = None
    ready: int = 0
    updated: int = 0
    observed_generation: int = 0
    in_progress: bool = False
    paused: bool = False


def rollout_of(kind: Kind, value: Object) -> Rollout:
    """The numbers of a workload; nothing for kinds that have none."""
    status = value.get("status") or {}
    spec = value.get("spec") or {}
    behind = int(status.get("observedGeneration") or 0) < int(meta(value).get("generation") or 0)
    observed = int(status.get("observedGeneration") or 0)
    ready = int(status.get("readyReplicas") or 0)
    updated = int(status.get("updatedReplicas") or 0)
    wanted = int(spec["replicas"]) if spec.get("replicas") is not None else 1
    match kind:
        case Kind.DEPLOYMENT:
            going = behind or _deployment_rolls(value, wanted)
            return Rollout(wanted, ready, updated, observed, going, bool(spec.get("paused")))
        case Kind.STATEFUL_SET:
            going = behind or _stateful_set_rolls(spec, status, wanted)
            return Rollout(wanted, ready, updated, observed, going)
        case Kind.DAEMON_SET:
            wanted = int(status.get("desiredNumberScheduled") or 0)
            updated = int(status.get("updatedNumberScheduled") or 0)
            ready = int(status.get("numberReady") or 0)
            by_hand = (spec.get("updateStrategy") or {}).get("type") == "OnDelete"
            going = behind or (not by_hand and updated < wanted)
            return Rollout(wanted, ready, updated, observed, going)
        case Kind.REPLICA_SET:
            return Rollout(wanted, ready, ready, observed, behind)
        case Kind.JOB:
            return Rollout(None, int(status.get("ready") or 0))
        case _:
            return Rollout()


def _deployment_rolls(value: Object, wanted: int) -> bool:
    # As `kubectl rollout status`, with two differences: a rollout that missed its deadline is
    # stuck and no longer going on, and a finished one whose pods fail later has not begun again.
    status = value.get("status") or {}
    total = int(status.get("replicas") or 0)
    updated = int(status.get("updatedReplicas") or 0)
    progress = condition(value, "Progressing")
    if progress.get("reason") == "ProgressDeadlineExceeded":
        return False
    if progress.get("reason") == "NewReplicaSetAvailable":
        return total > updated
    available = int(status.get("availableReplicas") or 0)
    return updated < wanted or total > updated or available < updated


def _stateful_set_rolls(spec: Object, status: Object, wanted: int) -> bool:
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return False
    if status.get("currentRevision") == status.get("updateRevision"):
        return False
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    return int(status.get("updatedReplicas") or 0) < wanted - partition


def health_of(kind: Kind, value: Object) -> Health:
    """Whether the object says it is well; `unknown` when it does not say."""
    match kind:
        case Kind.POD:
            if (value.get("status") or {}).get("phase") == "Unknown":
                return Health.UNKNOWN
            return _health(is_ready(value) and not meta(value).get("deletionTimestamp"))
        case Kind.DEPLOYMENT | Kind.STATEFUL_SET | Kind.DAEMON_SET | Kind.REPLICA_SET:
            seen = rollout_of(kind, value)
            if seen.observed_generation < int(meta(value).get("generation") or 0):
                return Health.UNKNOWN
            return _health(seen.ready >= (seen.replicas or 0))
        case Kind.NODE:
            return _from_condition(value, "Ready")
        case Kind.HPA:
            return _from_condition(value, "ScalingActive")
        case Kind.JOB:
            if condition(value, "Failed").get("status") == "True":
                return Health.UNHEALTHY
            done = condition(value, "Complete").get("status") == "True"
            return Health.HEALTHY if done else Health.UNKNOWN
        case Kind.PVC:
            phase = str((value.get("status") or {}).get("phase"))
            return {"Bound": Health.HEALTHY, "Lost": Health.UNHEALTHY}.get(phase, Health.UNKNOWN)
        case _:
            return Health.UNKNOWN


def _health(well: bool) -> Health:
    return Health.HEALTHY if well else Health.UNHEALTHY


def _from_condition(value: Object, name: str) -> Health:
    said = {"True": Health.HEALTHY, "False": Health.UNHEALTHY}
    return said.get(condition(value, name).get("status", ""), Health.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Seen:
    """The raw objects of one look at a target."""

    kind: Kind
    target: Object
    top: Object | None  #: the top controller, None when the target has none
    top_kind: Kind | None
    pods: tuple[Object, ...] = ()  #: pods that belong to the workload
    hpa: TargetRef | None = None


def observation(seen: Seen, at: float, zone_of: Callable[[str], str]) -> Observation:
    """All of it as one Observation taken at `at`."""
    head = meta(seen.target)
    workload = seen.target if seen.top is None else seen.top
    kind = seen.top_kind or seen.kind
    numbers = rollout_of(kind, workload)
    node = _node_of(seen)
    pods: Iterable[Object] = seen.pods
    if seen.kind is Kind.POD and all(meta(pod).get("uid") != head.get("uid") for pod in pods):
        pods = (seen.target, *pods)
    return Observation(
        ref=ref_of(seen.target, seen.kind),
        at=at,
        resource_version=head.get("resourceVersion", ""),
        generation=int(head.get("generation") or 0),
        labels=dict(head.get("labels") or {}),
        annotations=dict(head.get("annotations") or {}),
        owner=ref_of(seen.top, seen.top_kind) if seen.top and seen.top_kind else None,
        owner_annotations=dict(meta(seen.top).get("annotations") or {}) if seen.top else {},
        replicas=numbers.replicas,
        ready=numbers.ready,
        updated=numbers.updated,
        observed_generation=numbers.observed_generation,
        rollout_in_progress=numbers.in_progress,
        paused=numbers.paused,
        pods=tuple(
            pod_state(pod, zone_of)
            for pod in pods
            if not is_leftover(pod) or meta(pod).get("uid") == head.get("uid")
        ),
        node=node,
        zone=zone_of(node) if node else "",
        managers=gitops_managers(v for v in (seen.target, seen.top) if v is not None),
        hpa=seen.hpa,
        terminating=bool(head.get("deletionTimestamp")),
        health=health_of(seen.kind, seen.target),
    )


def _node_of(seen: Seen) -> str:
    if seen.kind is Kind.NODE:
        return str(meta(seen.target).get("name", ""))
    if seen.kind is Kind.POD:
        return str((seen.target.get("spec") or {}).get("nodeName") or "")
    return ""
