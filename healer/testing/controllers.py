"""What kube-controller-manager does, in one step: workloads have the pods they ask for.

Deployments keep one ReplicaSet a template with its revision, StatefulSets and DaemonSets their
ControllerRevisions, so that rollouts can be undone; pods that go are replaced.
"""

import hashlib
from typing import Any, Protocol

from healer.domain.kinds import RESOURCES
from healer.domain.manifests import is_leftover, is_ready, meta
from healer.domain.target import Kind
from healer.kernel.ids import canonical_json
from healer.ports import JsonObject
from healer.testing.copying import copied
from healer.testing.objects import an_object, ready_status

CONTROLLED = frozenset(
    {Kind.DEPLOYMENT, Kind.REPLICA_SET, Kind.STATEFUL_SET, Kind.DAEMON_SET, Kind.JOB}
)
REVISION = "deployment.kubernetes.io/revision"


class Objects(Protocol):
    """The objects of a fake cluster, as its controllers see them."""

    pods_start: bool
    rolling: bool  #: Deployments replace their pods one by one, as these become ready
    used_names: set[str]  #: a pod's random name is never given twice

    def of(self, kind: Kind, namespace: str = "") -> list[JsonObject]:
        """The live objects of a kind."""
        ...

    def put(self, value: JsonObject) -> JsonObject:
        """Store a new object or a new version of one, and tell the watches."""
        ...

    def drop(self, value: JsonObject) -> None:
        """Remove one, and tell the watches."""
        ...


def settle(objects: Objects, kind: Kind, value: JsonObject) -> None:
    """Bring what a workload owns in line with its spec, and its status in line with that."""
    match kind:
        case Kind.DEPLOYMENT:
            _settle_deployment(objects, value)
        case Kind.REPLICA_SET:
            _settle_pods(objects, value, _hash(value), _wanted(value))
        case Kind.STATEFUL_SET | Kind.DAEMON_SET:
            _settle_in_place(objects, kind, value)
        case Kind.JOB:
            finished = (value.get("status") or {}).get("conditions")
            spec = value["spec"]
            count = 0 if finished or spec.get("suspend") else int(spec.get("parallelism", 1))
            _settle_pods(objects, value, "", count)
        case _:
            return
    _report(objects, kind, value)


def owned(objects: Objects, kind: Kind, owner: JsonObject) -> list[JsonObject]:
    """The objects of a kind that `owner` controls."""
    uid = meta(owner)["uid"]
    return [
        value
        for value in objects.of(kind, meta(owner).get("namespace", ""))
        if any(o["uid"] == uid and o.get("controller") for o in _owners(value))
    ]


def _settle_deployment(objects: Objects, value: JsonObject) -> None:
    spec, head = value["spec"], meta(value)
    template = _hash(value)
    sets = owned(objects, Kind.REPLICA_SET, value)
    current = next((s for s in sets if meta(s)["labels"]["pod-template-hash"] == template), None)
    last = max((int(meta(s)["annotations"][REVISION]) for s in sets), default=0)
    if spec.get("paused") and sets:
        newest = max(sets, key=lambda s: int(meta(s)["annotations"][REVISION]))
        _scale(objects, newest, _wanted(value))
        return
    if current is None:
        labels = {**spec["template"]["metadata"].get("labels", {}), "pod-template-hash": template}
        made = an_object(
            Kind.REPLICA_SET,
            f"{head['name']}-{template}",
            head["namespace"],
            labels=labels,
            annotations={REVISION: str(last + 1)},
            spec={
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": spec["template"],
            },
        )
        made["metadata"]["ownerReferences"] = [_owner(value, Kind.DEPLOYMENT)]
        current = objects.put(made)
        sets.append(current)
        _progressing(value, "ReplicaSetUpdated")
    elif int(meta(current)["annotations"][REVISION]) < last:
        current["metadata"]["annotations"][REVISION] = str(last + 1)
        objects.put(current)
        _progressing(value, "ReplicaSetUpdated")
    for each, count in _shares(objects, value, sets, current):
        _scale(objects, each, count)
    revision = meta(current)["annotations"][REVISION]
    annotations = value["metadata"].setdefault("annotations", {})
    if annotations.get(REVISION) != revision:
        annotations[REVISION] = revision
        objects.put(value)


def _shares(
    objects: Objects, value: JsonObject, sets: list[JsonObject], current: JsonObject
) -> list[tuple[JsonObject, int]]:
    """How many pods each ReplicaSet has now: all in the current one, or moving there one by one.

    One by one is `maxSurge: 1` and `maxUnavailable: 0`: an old pod goes when a new one is ready.
    """
    wanted = _wanted(value)
    others = [each for each in sets if each is not current]
    if not objects.rolling or not any(each["spec"].get("replicas") for each in others):
        return [(each, wanted if each is current else 0) for each in sets]
    ready = sum(map(is_ready, owned(objects, Kind.POD, current)))
    left = max(0, wanted - ready)
    shares = [(current, min(wanted, ready + 1))]
    for each in sorted(others, key=lambda s: -int(meta(s)["annotations"][REVISION])):
        count = min(left, int(each["spec"].get("replicas", 0)))
        shares.append((each, count))
        left -= count
    return shares


def _scale(objects: Objects, replica_set: JsonObject, count: int) -> None:
    if replica_set["spec"].get("replicas") != count:
        replica_set["spec"]["replicas"] = count
        objects.put(replica_set)
    settle(objects, Kind.REPLICA_SET, replica_set)


def _settle_in_place(objects: Objects, kind: Kind, value: JsonObject) -> None:
    template = _hash(value)
    history = owned(objects, Kind.CONTROLLER_REVISION, value)
    if not any(meta(r)["labels"]["controller-revision-hash"] == template for r in history):
        made = an_object(
            Kind.CONTROLLER_REVISION,
            f"{meta(value)['name']}-{template}",
            meta(value)["namespace"],
            labels={
                **(meta(value["spec"]["template"]).get("labels") or {}),
                "controller-revision-hash": template,
            },
            revision=1 + max((int(r["revision"]) for r in history), default=0),
            data={"spec": {"template": {**value["spec"]["template"], "$patch": "replace"}}},
        )
        made["metadata"]["ownerReferences"] = [_owner(value, kind)]
        objects.put(made)
    nodes = len(objects.of(Kind.NODE))
    _settle_pods(
        objects, value, template, nodes if kind is Kind.DAEMON_SET else _wanted(value), kind
    )


def _settle_pods(
    objects: Objects, value: JsonObject, template: str, count: int, kind: Kind | None = None
) -> None:
    owner_kind = kind or Kind(value["kind"])
    label = "controller-revision-hash" if kind else "pod-template-hash"
    pods = [pod for pod in owned(objects, Kind.POD, value) if not is_leftover(pod)]
    if kind is not None:  # a new template replaces the pods it owns
        for pod in [p for p in pods if meta(p)["labels"].get(label) != template]:
            objects.drop(pod)
            pods.remove(pod)
    # As the ReplicaSet controller: pods that are not ready go first.
    for pod in sorted(pods, key=lambda p: (is_ready(p), meta(p)["name"]))[
        : max(0, len(pods) - count)
    ]:
        objects.drop(pod)
        pods.remove(pod)
    taken = {meta(pod)["name"] for pod in objects.of(Kind.POD, meta(value)["namespace"])}
    number = 0
    while len(pods) < count:
        name = f"{meta(value)['name']}-{number}"
        number += 1
        if owner_kind is not Kind.STATEFUL_SET:
            name = f"{meta(value)['name']}-{_word(meta(value)['uid'], str(number))}"
        if name in taken or (owner_kind is not Kind.STATEFUL_SET and name in objects.used_names):
            continue
        objects.used_names.add(name)
        pods.append(objects.put(_pod(objects, value, owner_kind, name, label, template)))


def _pod(
    objects: Objects, owner: JsonObject, kind: Kind, name: str, label: str, template: str
) -> JsonObject:
    shape = owner["spec"]["template"]
    labels = dict((shape.get("metadata") or {}).get("labels") or {})
    if template:
        labels[label] = template
    if kind is Kind.JOB:
        labels["batch.kubernetes.io/controller-uid"] = meta(owner)["uid"]
        labels["batch.kubernetes.io/job-name"] = meta(owner)["name"]
    pod = an_object(Kind.POD, name, meta(owner)["namespace"], labels=labels)
    pod["metadata"]["annotations"] = dict((shape.get("metadata") or {}).get("annotations") or {})
    pod["metadata"]["ownerReferences"] = [_owner(owner, kind)]
    pod["spec"] = dict(shape.get("spec") or {})
    pod["status"] = {"phase": "Pending"}
    if objects.pods_start:
        pod["status"] = ready_status()
        nodes = [n for n in objects.of(Kind.NODE) if not n["spec"].get("unschedulable")]
        if nodes:
            on = [(p.get("spec") or {}).get("nodeName") for p in objects.of(Kind.POD)]
            names = sorted(meta(node)["name"] for node in nodes)
            pod["spec"]["nodeName"] = min(names, key=on.count)
    return pod


def _report(objects: Objects, kind: Kind, value: JsonObject) -> None:
    sets = owned(objects, Kind.REPLICA_SET, value) if kind is Kind.DEPLOYMENT else [value]
    pods = [p for s in sets for p in owned(objects, Kind.POD, s) if not is_leftover(p)]
    label = "pod-template-hash" if kind is Kind.DEPLOYMENT else "controller-revision-hash"
    ready = sum(map(is_ready, pods))
    updated = sum(1 for p in pods if meta(p)["labels"].get(label) == _hash(value))
    status: JsonObject = dict(value.get("status") or {})
    if kind is Kind.JOB:
        status["ready"] = ready
    else:
        status["observedGeneration"] = meta(value).get("generation", 1)
    match kind:
        case Kind.DAEMON_SET:
            status |= {"desiredNumberScheduled": len(pods), "numberReady": ready}
            status["updatedNumberScheduled"] = updated
        case Kind.DEPLOYMENT | Kind.STATEFUL_SET | Kind.REPLICA_SET:
            status |= {"replicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}
            if kind is not Kind.REPLICA_SET:
                status["updatedReplicas"] = updated
            if kind is Kind.STATEFUL_SET:
                revision = f"{meta(value)['name']}-{_hash(value)}"
                status |= {"currentRevision": revision, "updateRevision": revision}
        case _:
            pass
    before = copied(value.get("status"))
    value["status"] = status
    if kind is Kind.DEPLOYMENT and updated == _wanted(value) == ready:
        _progressing(value, "NewReplicaSetAvailable")
    if value["status"] != before:
        objects.put(value)


def _progressing(value: JsonObject, reason: str) -> None:
    said = {"type": "Progressing", "status": "True", "reason": reason}
    value.setdefault("status", {})["conditions"] = [said]


def _hash(value: JsonObject) -> str:
    return hashlib.sha256(canonical_json(value["spec"]["template"]).encode()).hexdigest()[:10]


def _word(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:5]


def _wanted(value: JsonObject) -> int:
    return int(value["spec"].get("replicas", 1))


def _owners(value: JsonObject) -> list[dict[str, Any]]:
    return list(meta(value).get("ownerReferences") or ())


def _owner(value: JsonObject, kind: Kind) -> JsonObject:
    head = meta(value)
    return {
        "apiVersion": RESOURCES[kind].api_version,
        "kind": str(kind),
        "name": head["name"],
        "uid": head["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
