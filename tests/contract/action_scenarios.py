"""One or more situations for every action: what is there, what it is asked, what it may undo."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from healer.domain.manifests import meta, ref_of
from healer.domain.target import Kind, TargetRef
from healer.ports import PatchType
from healer.testing.objects import a_template, a_workload, an_object
from tests.contract.action_stage import Stage

Setup = Callable[[Stage], Awaitable[TargetRef]]


@dataclass(frozen=True)
class Scenario:
    """One situation."""

    action: str
    setup: Setup
    params: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    reversible: bool = True  #: `undo` puts the target back as it was
    gone: bool = False  #: the effect is that the target goes
    fake_only: str = ""  #: why it cannot be on a real cluster

    def __str__(self) -> str:
        return f"{self.action}-{self.name}" if self.name else self.action


def workload(kind: Kind, **more: Any) -> Setup:
    async def setup(stage: Stage) -> TargetRef:
        return await stage.put(a_workload(kind, "web", stage.namespace, replicas=2, **more))

    return setup


async def a_released_deployment(stage: Stage) -> TargetRef:
    """A Deployment whose second template is the present one; the first is marked healthy."""
    ref = await stage.put(a_workload(Kind.DEPLOYMENT, "web", stage.namespace, replicas=1))
    sets = await stage.until(lambda: _owned(stage, Kind.REPLICA_SET, ref, 1), "a ReplicaSet")
    mark = {"metadata": {"annotations": {"healer.dev/healthy": "true"}}}
    await stage.inner.patch(ref_of(sets[0], Kind.REPLICA_SET), mark, PatchType.MERGE)
    await _release(stage, ref, "app:2")
    await stage.until(lambda: _owned(stage, Kind.REPLICA_SET, ref, 2), "a second ReplicaSet")
    return ref


def a_released(kind: Kind) -> Setup:
    async def setup(stage: Stage) -> TargetRef:
        ref = await stage.put(a_workload(kind, "web", stage.namespace, replicas=1))
        first = await stage.until(lambda: _owned(stage, Kind.CONTROLLER_REVISION, ref, 1), "one")
        mark = {"metadata": {"annotations": {"healer.dev/healthy": "true"}}}
        history = ref_of(first[0], Kind.CONTROLLER_REVISION)
        await stage.inner.patch(history, mark, PatchType.MERGE)
        await _release(stage, ref, "app:2")
        await stage.until(lambda: _owned(stage, Kind.CONTROLLER_REVISION, ref, 2), "a second")
        return ref

    return setup


async def _release(stage: Stage, ref: TargetRef, image: str) -> None:
    template = a_template("web", f"registry.invalid/{image}")
    body = {"spec": {"template": {"spec": {"containers": template["spec"]["containers"]}}}}
    await stage.inner.patch(ref, body, PatchType.MERGE)


async def _owned(stage: Stage, kind: Kind, ref: TargetRef, count: int) -> Any:
    found = await stage.inner.list(kind, ref.namespace, labels="app=web")
    return found if len(found) == count else None


async def a_pod(stage: Stage) -> TargetRef:
    """A pod of a ReplicaSet."""
    await stage.put(a_workload(Kind.REPLICA_SET, "web", stage.namespace, replicas=1))
    pods = await stage.until(lambda: _pods(stage, 1), "a pod")
    return ref_of(pods[0], Kind.POD)


async def _pods(stage: Stage, count: int) -> Any:
    found = await stage.inner.list(Kind.POD, stage.namespace, labels="app=web")
    live = [pod for pod in found if not meta(pod).get("deletionTimestamp")]
    return live if len(live) == count else None


async def a_node(stage: Stage) -> TargetRef:
    """A node, cluster-wide, named after the test's namespace."""
    return await stage.put(an_object(Kind.NODE, f"n-{stage.namespace}", spec={}))


async def a_cordoned_node(stage: Stage) -> TargetRef:
    return await stage.put(
        an_object(Kind.NODE, f"n-{stage.namespace}", spec={"unschedulable": True})
    )


async def a_used_node(stage: Stage) -> TargetRef:
    """A node with two pods of a ReplicaSet."""
    ref = await a_node(stage)
    template = a_template("web")
    template["spec"] |= {"nodeName": ref.name, "tolerations": [{"operator": "Exists"}]}
    del template["spec"]["nodeSelector"]
    spec = {"template": template}
    await stage.put(a_workload(Kind.REPLICA_SET, "web", stage.namespace, replicas=2, spec=spec))
    await stage.until(lambda: _pods(stage, 2), "two pods")
    # Or its pods would come back to the same node for ever, and no drain would end.
    replicas = await stage.inner.list(Kind.REPLICA_SET, stage.namespace, labels="")
    template["spec"]["nodeName"] = "elsewhere"
    body = {"spec": {"template": template}}
    await stage.inner.patch(ref_of(replicas[0], Kind.REPLICA_SET), body, PatchType.MERGE)
    return ref


async def an_hpa(stage: Stage) -> TargetRef:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 4}
    return await stage.put(an_object(Kind.HPA, "web", stage.namespace, spec=spec))


async def a_sized_deployment(stage: Stage) -> TargetRef:
    template = a_template("web")
    template["spec"]["containers"][0]["resources"] = {
        "requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"},
    }  # fmt: skip
    return await stage.put(
        a_workload(Kind.DEPLOYMENT, "web", stage.namespace, spec={"template": template})
    )


async def a_claim(stage: Stage) -> TargetRef:
    """A bound claim of 1Gi in a class that can be expanded."""
    name = f"c-{stage.namespace}"
    await stage.put(
        an_object(
            Kind.STORAGE_CLASS, name,
            provisioner="example.com/none", allowVolumeExpansion=True,
        )
    )  # fmt: skip
    spec: dict[str, Any] = {
        "storageClassName": name, "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }  # fmt: skip
    status = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    claim = an_object(Kind.PVC, "data", stage.namespace, spec=spec)
    if stage.real is None:
        return await stage.put({**claim, "status": status})
    spec["volumeName"] = name
    await asyncio.to_thread(stage.real.apply, {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "storageClassName": name, "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": "example.com", "volumeHandle": name},
            "claimRef": {"namespace": stage.namespace, "name": "data"},
        },
    })  # fmt: skip
    ref = await stage.put(claim)

    async def bound() -> bool:
        return ((await stage.inner.get(ref)).get("status") or {}).get("phase") == "Bound"

    await stage.until(bound, "bound")
    return ref


async def an_ended_job(stage: Stage) -> TargetRef:
    spec = {"activeDeadlineSeconds": 1}
    ref = await stage.put(a_workload(Kind.JOB, "task", stage.namespace, replicas=1, spec=spec))
    if stage.real is None:
        done = {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}
        await stage.inner.patch(ref, done, PatchType.MERGE, subresource="status")
        return ref

    async def ended() -> bool:
        status = (await stage.inner.get(ref)).get("status") or {}
        return any(c["type"] in {"Complete", "Failed"} for c in status.get("conditions") or ())

    await stage.until(ended, "ended")
    return ref


async def a_config_map(stage: Stage) -> TargetRef:
    data = {"mode": "full", "pod.yaml": "containers: [{name: job, image: registry.invalid/job:1}]"}
    return await stage.put(an_object(Kind.CONFIG_MAP, "flags", stage.namespace, data=data))


async def a_blue_service(stage: Stage) -> TargetRef:
    """A Service on blue pods, and a ready green one."""
    green = an_object(
        Kind.POD, "green", stage.namespace, labels={"app": "web", "colour": "green"},
        spec={**a_template("web")["spec"]},
        status={"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    )  # fmt: skip
    await stage.put(green)
    spec = {"selector": {"app": "web", "colour": "blue"}, "ports": [{"port": 80}]}
    return await stage.put(an_object(Kind.SERVICE, "web", stage.namespace, spec=spec))


async def a_canary(stage: Stage) -> TargetRef:
    marks = {
        "nginx.ingress.kubernetes.io/canary": "true",
        "nginx.ingress.kubernetes.io/canary-weight": "10",
    }
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    return await stage.put(
        an_object(
            Kind.INGRESS, "canary", stage.namespace, annotations=marks,
            spec={"defaultBackend": backend},
        )
    )  # fmt: skip


async def a_route(stage: Stage) -> TargetRef:
    rules = [{"backendRefs": [{"name": "blue", "port": 80, "weight": 100},
                              {"name": "green", "port": 80, "weight": 0}]}]  # fmt: skip
    return await stage.put(
        an_object(Kind.HTTP_ROUTE, "web", stage.namespace, spec={"rules": rules})
    )


_SCRIPT = {"containers": [{"name": "job", "image": "registry.invalid/job:1"}]}
_NO_CRD = "HTTPRoute is a custom resource that a cluster need not have"

SCENARIOS = (
    Scenario("restart_rollout", workload(Kind.DEPLOYMENT), reversible=False),
    Scenario("restart_rollout", workload(Kind.DAEMON_SET), name="daemons", reversible=False),
    Scenario("undo_rollout", a_released_deployment),
    Scenario("undo_rollout", a_released(Kind.STATEFUL_SET), name="stateful"),
    Scenario("undo_rollout", a_released(Kind.DAEMON_SET), name="daemons"),
    Scenario("pause_rollout", workload(Kind.DEPLOYMENT)),
    Scenario("resume_rollout", workload(Kind.DEPLOYMENT, spec={"paused": True})),
    Scenario("delete_pod", a_pod, reversible=False, gone=True),
    Scenario("evict_pod", a_pod, reversible=False, gone=True),
    Scenario("scale", workload(Kind.DEPLOYMENT), {"by": 1, "max": 5}),
    Scenario("scale", workload(Kind.STATEFUL_SET), {"replicas": 1}, name="down"),
    Scenario("scale", workload(Kind.REPLICA_SET), {"replicas": 3}, name="set"),
    Scenario("raise_hpa_max", an_hpa, {"percent": 50, "limit": 10}),
    Scenario(
        "resize_resources", a_sized_deployment,
        {"memory": {"factor": 1.5, "limit": "1Gi"}, "cpu": {"to": "250m"}, "of": "requests"},
    ),
    Scenario("cordon", a_node),
    Scenario("uncordon", a_cordoned_node),
    Scenario("drain", a_used_node),
    Scenario("expand_pvc", a_claim, {"percent": 50, "limit": "4Gi"}, reversible=False),
    Scenario("delete_job", an_ended_job, reversible=False, gone=True),
    Scenario("run_job", a_config_map, {"template": _SCRIPT, "service_account": "fixer"}),
    Scenario(
        "run_job", a_config_map, {"config_map": "flags", "service_account": "fixer"}, name="map",
    ),
    Scenario("switch_service", a_blue_service, {"key": "colour", "to": "green"}),
    Scenario("shift_weight", a_canary, {"canary": 0}, name="canary"),
    Scenario(
        "shift_weight", a_route, {"weights": {"blue": 0, "green": 100}}, fake_only=_NO_CRD,
    ),
    Scenario("patch_config_map", a_config_map, {"key": "mode", "value": "brown"}),
    Scenario("patch_config_map", a_config_map, {"key": "new", "value": "1"}, name="new"),
    Scenario(
        "json_patch", a_config_map,
        {
            "patch": [
                {"op": "test", "path": "/data/mode", "value": "full"},
                {"op": "replace", "path": "/data/mode", "value": "brown"},
                {"op": "add", "path": "/data/new", "value": "1"},
                {"op": "remove", "path": "/data/pod.yaml"},
            ]
        },
    ),
    Scenario(
        "http_call", a_config_map,
        {
            "url": "http://fixer.example/do", "json": {"a": 1},
            "lookup": {"url": "http://fixer.example/done"},
            "undo": {"url": "http://fixer.example/undo"},
        },
    ),
    Scenario("silence", a_config_map, {"matchers": {"alertname": "X"}, "for": "10m"}),
    Scenario("notify", a_config_map, {"message": "look"}, reversible=False),
    Scenario("wait", a_config_map, {"for": "10ms"}, reversible=False),
)  # fmt: skip
