"""Reads Kubernetes objects, as plain JSON, into domain values. Nothing here asks anybody.

Missing fields read as the API server means them: absent is empty, zero or false.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from healer.domain.kinds import kind_of
from healer.domain.target import Kind, PodState, TargetRef
from healer.kernel.clock import parse_rfc3339

Object = Mapping[str, Any]

ZONE_LABELS = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
#: A pod that is still starting is not bad for this long.
STARTING_SECONDS = 30.0
#: A failed pod counts as bad for this long; after it, it is a leftover and counts nowhere.
FAILED_SECONDS = 300.0

_FLUX_LABELS = ("kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name")
_FLUX_MANAGERS = frozenset({"kustomize-controller", "helm-controller"})
_ARGO_MANAGERS = frozenset({"argocd-controller", "argocd-application-controller"})
_ARGO_LABELS = ("argocd.argoproj.io/instance",)
_ARGO_ANNOTATIONS = ("argocd.argoproj.io/tracking-id",)


def meta(value: Object) -> Object:
    """Its `metadata`, empty when there is none."""
    return value.get("metadata") or {}


def ref_of(value: Object, kind: Kind) -> TargetRef:
    """The exact identity of an object."""
    head = meta(value)
    return TargetRef(kind, head.get("name", ""), head.get("namespace", ""), head.get("uid", ""))


def seconds(text: str | None) -> float:
    """Unix seconds of a Kubernetes time, 0 when there is none."""
    return parse_rfc3339(text) if text else 0.0


def controller_of(value: Object) -> Object | None:
    """The owner reference that controls it."""
    owners: Sequence[Object] = meta(value).get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def controller_ref(value: Object) -> TargetRef | None:
    """Its controller, if it is of a kind healer knows."""
    owner = controller_of(value)
    kind = kind_of(owner) if owner is not None else None
    if owner is None or kind is None:
        return None
    return TargetRef(kind, owner["name"], meta(value).get("namespace", ""), owner["uid"])


def condition(value: Object, name: str) -> Object:
    """The named entry of `status.conditions`, empty when it is not there."""
    for entry in (value.get("status") or {}).get("conditions") or ():
        if entry.get("type") == name:
            found: Object = entry
            return found
    return {}


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition is True."""
    return condition(pod, "Ready").get("status") == "True"


def zone_label(node: Object) -> str:
    """The zone a node says it is in, empty when it says nothing."""
    labels = meta(node).get("labels") or {}
    return next((labels[name] for name in ZONE_LABELS if labels.get(name)), "")


def revision_of(pod: Object) -> str:
    """The pod's `pod-template-hash` or `controller-revision-hash`."""
    labels = meta(pod).get("labels") or {}
    return str(labels.get("pod-template-hash") or labels.get("controller-revision-hash") or "")


def pod_state(pod: Object, zone_of: Callable[[str], str]) -> PodState:
    """What was seen of one pod."""
    node = (pod.get("spec") or {}).get("nodeName") or ""
    status = pod.get("status") or {}
    statuses = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
    return PodState(
        ref=ref_of(pod, Kind.POD),
        node=node,
        zone=zone_of(node) if node else "",
        ready=is_ready(pod),
        phase=status.get("phase") or "",
        reason=worst_reason(pod),
        restarts=sum(int(entry.get("restartCount") or 0) for entry in statuses),
        created_at=seconds(meta(pod).get("creationTimestamp")),
        terminating=bool(meta(pod).get("deletionTimestamp")),
        revision=revision_of(pod),
    )


def worst_reason(pod: Object) -> str:
    """The reason that says most about why a pod is not well, empty when it is well.

    In order: why a container waits (CrashLoopBackOff, ImagePullBackOff; `ContainerCreating` and
    `PodInitializing` last), how one ended badly, how one ended before its present start when the
    pod is not ready (OOMKilled), why the pod failed (Evicted), why it is not scheduled.
    """
    status = pod.get("status") or {}
    statuses = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
    states = [entry.get("state") or {} for entry in statuses]
    waiting = [(state.get("waiting") or {}).get("reason") or "" for state in states]
    starting = {"ContainerCreating", "PodInitializing", ""}
    ended = [
        state["terminated"].get("reason") or "Error"
        for state in states
        if (state.get("terminated") or {}).get("exitCode", 0) != 0
    ]
    before = []
    if not is_ready(pod):
        last = [(entry.get("lastState") or {}).get("terminated") or {} for entry in statuses]
        before = [entry.get("reason") or "" for entry in last if entry.get("exitCode", 0) != 0]
    unscheduled = ""
    if condition(pod, "PodScheduled").get("status") == "False":
        unscheduled = condition(pod, "PodScheduled").get("reason") or ""
    candidates = [
        *(reason for reason in waiting if reason not in starting),
        *ended,
        status.get("reason") or "",
        *before,
        unscheduled,
        *waiting,
    ]
    return str(next((reason for reason in candidates if reason), ""))


def counts_in_domain(pod: Object, now: float) -> bool:
    """Whether a pod counts at all in the health of its zone: finished ones do not.

    A failed one does for `FAILED_SECONDS`, because what made it fail may be going on.
    """
    phase = (pod.get("status") or {}).get("phase")
    if phase == "Failed":
        ended = seconds(condition(pod, "Ready").get("lastTransitionTime"))
        return now - (ended or seconds(meta(pod).get("creationTimestamp"))) < FAILED_SECONDS
    return phase != "Succeeded"


def is_bad(pod: Object, now: float) -> bool:
    """Whether a pod counts as bad: terminating, or not ready and no longer just starting."""
    if meta(pod).get("deletionTimestamp"):
        return True
    status = pod.get("status") or {}
    if is_ready(pod) or status.get("phase") == "Succeeded":
        return False
    young = now - seconds(meta(pod).get("creationTimestamp")) < STARTING_SECONDS
    restarted = any(entry.get("restartCount") for entry in status.get("containerStatuses") or ())
    return not (young and not restarted and status.get("phase") != "Failed")


def is_leftover(pod: Object) -> bool:
    """Whether the pod has ended for good, so that its controller counts it no more."""
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def gitops_managers(values: Iterable[Object]) -> tuple[str, ...]:
    """The GitOps tools that would put these objects back: `argocd`, `flux`.

    `app.kubernetes.io/managed-by: Helm` alone names nobody that reverts.
    """
    found = set()
    for value in values:
        head = meta(value)
        labels = head.get("labels") or {}
        annotations = head.get("annotations") or {}
        fields = {entry.get("manager") for entry in head.get("managedFields") or ()}
        if (
            any(name in labels for name in _ARGO_LABELS)
            or any(name in annotations for name in _ARGO_ANNOTATIONS)
            or fields & _ARGO_MANAGERS
        ):
            found.add("argocd")
        if any(name in labels for name in _FLUX_LABELS) or fields & _FLUX_MANAGERS:
            found.add("flux")
    return tuple(sorted(found))


def selector_text(selector: Object) -> str:
    """A LabelSelector as the API's `labelSelector` text.

    Raises ValueError for an empty one: to the API server that would mean every pod.
    """
    parts = [f"{name}={value}" for name, value in (selector.get("matchLabels") or {}).items()]
    for rule in selector.get("matchExpressions") or ():
        key, values = rule["key"], ",".join(rule.get("values") or ())
        match rule["operator"]:
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(key)
            case "DoesNotExist":
                parts.append(f"!{key}")
            case other:
                raise ValueError(f"a label selector with the unknown operator {other!r}")
    if not parts:
        raise ValueError("a label selector that is empty would select every pod")
    return ",".join(parts)


def hpa_for(owner: TargetRef, hpas: Iterable[Object]) -> TargetRef | None:
    """The autoscaler whose `scaleTargetRef` is this workload."""
    for hpa in hpas:
        target = (hpa.get("spec") or {}).get("scaleTargetRef") or {}
        if (
            meta(hpa).get("namespace") == owner.namespace
            and target.get("name") == owner.name
            and kind_of(target) is owner.kind
        ):
            return ref_of(hpa, Kind.HPA)
    return None
