"""Actions against a real API server, controllers and kubelets: what only Kubernetes can answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from healer.actions.contract import ActionContext, Presence
from healer.actions.registry import ACTIONS
from healer.clients.kube import KubeCluster
from healer.domain.manifests import meta, ref_of
from healer.domain.outcome import Applied, Outcome, Recovery
from healer.domain.target import Kind, TargetRef
from healer.errors import Conflict, Refused, Throttled, Unauthorized
from healer.kernel.clock import SystemClock
from healer.ports import PatchType, Permission
from healer.probes.contract import ProbeContext
from healer.probes.registry import PROBES
from healer.testing.objects import a_workload, an_object
from tests.bed.cluster import Cluster
from tests.bed.service import Service

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CLOCK = SystemClock()


class Bench:
    """One namespace on the real cluster."""

    def __init__(self, bed: Cluster, kube: KubeCluster, namespace: str) -> None:
        self.bed = bed
        self.kube = kube
        self.namespace = namespace

    async def kubectl(self, *arguments: str) -> str:
        return await asyncio.to_thread(self.bed.kubectl, *arguments)

    async def apply(self, *objects: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self.bed.apply, *objects)

    def context(self, key: str, **changes: Any) -> ActionContext:
        values: dict[str, Any] = {
            "cluster": self.kube, "alerts": None, "http": None, "key": key, "run_id": "r-1",
            "at": CLOCK.now(), "timeout_seconds": 30.0,
        }  # fmt: skip
        return ActionContext(**{**values, **changes})

    async def prepare(
        self, action: str, target: TargetRef, params: dict[str, Any], key: str = "r-1-s0"
    ) -> Callable[..., Awaitable[Applied]]:
        """The step, prepared: call it to apply, `undo=True` to undo, `probe=True` to look up."""
        verb = ACTIONS[action]
        given = verb.params.model_validate(params)
        context = self.context(key)
        before = await verb.prepare(context, given, await self.kube.observe(target))

        async def act(*, undo: bool = False, probe: bool = False) -> Any:
            if probe:
                return await verb.probe(context, given, target, before)
            if undo:
                return await verb.undo(context, given, target, before)
            return await verb.apply(context, given, target, before)

        return act

    async def serve(self, **settings: Any) -> TargetRef:
        """The service to break, all of it ready."""
        service = Service("web", self.namespace, **settings)
        await self.apply(*service.objects())
        ref = TargetRef(Kind.DEPLOYMENT, "web", self.namespace)
        ref = ref.with_uid((await self.kube.observe(ref)).ref.uid)
        await self.until(lambda: self._whole(ref), "the service to be ready")
        return ref

    async def _whole(self, ref: TargetRef) -> bool:
        seen = await self.kube.observe(ref)
        settled = not seen.rollout_in_progress and seen.observed_generation >= seen.generation
        return settled and seen.ready == seen.replicas == len(seen.pods)

    async def pods(self) -> list[TargetRef]:
        found = await self.kube.list(Kind.POD, self.namespace, labels="app=web")
        return [ref_of(p, Kind.POD) for p in found if not meta(p).get("deletionTimestamp")]

    async def until(self, what: Callable[[], Awaitable[Any]], text: str) -> Any:
        end = CLOCK.monotonic() + 60.0
        while not (found := await what()):
            assert CLOCK.monotonic() < end, f"never saw {text}"
            await CLOCK.sleep(0.2)
        return found

    async def ask(
        self, probe: str, target: TargetRef, lock: TargetRef, acted: float, before: Any = None
    ) -> Recovery:
        context = ProbeContext(
            cluster=self.kube, metrics=None, alerts=None, http=None, target=target, lock=lock,
            labels={}, fingerprint="", episode_firing=False, acted_at=acted, now=CLOCK.now(),
            before=before or {},
        )  # fmt: skip
        params = PROBES[probe].params.model_validate({})
        return (await PROBES[probe].look(context, params)).recovery


@pytest.fixture
async def bench(cluster: Cluster, namespace: str) -> AsyncIterator[Bench]:
    kube = await KubeCluster.open(
        CLOCK, kubeconfig=str(cluster.kubeconfig), context=cluster.context
    )
    try:
        yield Bench(cluster, kube, namespace)
    finally:
        await kube.close()


async def make(bench: Bench, manifest: dict[str, Any]) -> TargetRef:
    return ref_of(await bench.kube.create(manifest), Kind(manifest["kind"]))


async def test_restart_once(bench: Bench) -> None:
    """The same restart sent twice rolls once: generation and ReplicaSets stay as they are."""
    web = await make(bench, a_workload(Kind.DEPLOYMENT, "web", bench.namespace, replicas=1))
    act = await bench.prepare("restart_rollout", web, {})
    await act()
    first = await bench.kube.get(web)
    await act()
    second = await bench.kube.get(web)
    assert meta(second)["generation"] == meta(first)["generation"] == 2
    assert meta(second)["resourceVersion"] >= meta(first)["resourceVersion"]


async def test_a_stale_scale(bench: Bench) -> None:
    """A scale planned before somebody else scaled is a Conflict, and theirs stays."""
    web = await make(bench, a_workload(Kind.DEPLOYMENT, "web", bench.namespace, replicas=1))
    act = await bench.prepare("scale", web, {"by": 1})
    await bench.kubectl("scale", "-n", bench.namespace, "deployment/web", "--replicas=4")
    with pytest.raises(Conflict):
        await act()
    assert (await bench.kube.get(web))["spec"]["replicas"] == 4


async def test_delete_of_another_incarnation(bench: Bench) -> None:
    """A StatefulSet's pod that came back under its name is not deleted by a step that meant the
    one before."""
    await make(bench, a_workload(Kind.STATEFUL_SET, "web", bench.namespace, replicas=1))
    old = (await bench.until(bench.pods, "a pod"))[0]
    act = await bench.prepare("delete_pod", old, {})
    await bench.kube.delete(old, grace_seconds=0)

    async def another() -> TargetRef | None:
        return next((pod for pod in await bench.pods() if pod.uid != old.uid), None)

    new = await bench.until(another, "its successor")
    assert new.name == old.name
    assert (await act()).outcome is Outcome.ALREADY_DONE
    assert await bench.pods() == [new]


async def test_a_replaced_pod_recovers(bench: Bench, real_cluster: Cluster) -> None:
    """A deleted pod is not recovered until its successor is ready, and then it is."""
    web = await bench.serve(replicas=2)
    pod = (await bench.pods())[0]
    act = await bench.prepare("delete_pod", pod, {"grace": "1s"})
    before = await ACTIONS["delete_pod"].prepare(
        bench.context("r-1-s0"),
        ACTIONS["delete_pod"].params(),
        await bench.kube.observe(pod),
    )
    acted = CLOCK.now()
    await act()
    assert await act(probe=True) is Presence.APPLIED
    assert await bench.ask("workload_ready", pod, web, acted, before) is Recovery.NOT_RECOVERED

    async def recovered() -> bool:
        return await bench.ask("workload_ready", pod, web, acted, before) is Recovery.RECOVERED

    await bench.until(recovered, "a ready successor")
    assert pod not in await bench.pods()


async def test_undo_skips_the_broken_one(bench: Bench, real_cluster: Cluster) -> None:
    """After two bad releases in a row undo_rollout goes back past both, to the one that serves;
    its undo brings the bad one back."""
    web = await bench.serve(replicas=2)
    for tag in ("broken", "worse"):
        image = f"deployment/web app=localhost/app:{tag}".split()
        await bench.kubectl("set", "image", "-n", bench.namespace, *image)

        async def seen(tag: str = tag) -> bool:
            sets = await bench.kube.list(Kind.REPLICA_SET, bench.namespace, labels="app=web")
            return any(tag in str(one["spec"]["template"]["spec"]["containers"]) for one in sets)

        await bench.until(seen, f"the ReplicaSet of {tag}")
    act = await bench.prepare("undo_rollout", web, {})
    done = await act()
    assert "ready pods now" in str(done.evidence["why"])
    assert _image(await bench.kube.get(web)) == "localhost/app:1"
    assert await act(probe=True) is Presence.APPLIED

    async def whole() -> bool:
        return await bench.ask("workload_ready", web, web, CLOCK.now()) is Recovery.RECOVERED

    await bench.until(whole, "the service to be whole again")
    again = await act(undo=True)
    assert again.outcome is Outcome.APPLIED
    assert _image(await bench.kube.get(web)) == "localhost/app:worse"


def _image(found: dict[str, Any]) -> str:
    image: str = found["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


async def test_an_eviction_that_a_budget_refuses(bench: Bench, real_cluster: Cluster) -> None:
    """A PodDisruptionBudget makes an eviction Throttled, and the pod stays."""
    await bench.serve(replicas=1)
    pods = await bench.pods()
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    budget = await make(bench, an_object(Kind.PDB, "web", bench.namespace, spec=spec))

    async def observed() -> bool:
        return bool((await bench.kube.get(budget)).get("status", {}).get("currentHealthy"))

    await bench.until(observed, "the budget to count")
    act = await bench.prepare("evict_pod", pods[0], {})
    with pytest.raises(Throttled):
        await act()
    assert await act(probe=True) is Presence.NOT_APPLIED
    assert await bench.pods() == pods


async def test_a_job_runs_once(bench: Bench) -> None:
    """The same run_job twice makes one Job, and deleting it leaves none of its pods."""
    flags = await make(bench, an_object(Kind.CONFIG_MAP, "flags", bench.namespace, data={}))
    await bench.kubectl("create", "serviceaccount", "-n", bench.namespace, "fixer")
    pod = {"containers": [{"name": "job", "image": "registry.invalid/job:1"}]}
    params = {"template": pod, "service_account": "fixer"}
    act = await bench.prepare("run_job", flags, params, key="e1-1-s0")
    assert (await act()).outcome is Outcome.APPLIED
    assert (await act()).outcome is Outcome.ALREADY_DONE

    async def pods(count: int) -> bool:
        found = await bench.kube.list(Kind.POD, bench.namespace, labels="healer.dev/run=e1-1-s0")
        return len(found) == count

    await bench.until(lambda: pods(1), "the Job's pod")
    assert (await act(undo=True)).outcome is Outcome.APPLIED
    await bench.until(lambda: pods(0), "its pod gone")


async def test_a_json_patch_whose_test_fails(bench: Bench) -> None:
    """The API server itself refuses a patch whose test is no longer true, and nothing of it is
    done."""
    flags = await make(
        bench, an_object(Kind.CONFIG_MAP, "flags", bench.namespace, data={"mode": "full"})
    )
    patch = [
        {"op": "add", "path": "/data/new", "value": "1"},
        {"op": "test", "path": "/data/mode", "value": "other"},
    ]
    pinned = [{"op": "test", "path": "/metadata/uid", "value": flags.uid}, *patch]
    with pytest.raises(Conflict):
        await bench.kube.patch(flags, pinned, PatchType.JSON)
    assert (await bench.kube.get(flags))["data"] == {"mode": "full"}


async def test_cordon_keeps_new_pods_away(bench: Bench, real_cluster: Cluster) -> None:
    """New pods do not land on a cordoned node, and do again after the undo."""
    node = (await bench.kube.list(Kind.NODE, labels="kubernetes.io/hostname"))[0]
    ref = ref_of(node, Kind.NODE)
    act = await bench.prepare("cordon", ref, {})
    await act()
    try:
        assert await act(probe=True) is Presence.APPLIED
        web = await bench.serve(replicas=3, spread_zones=False)
        assert ref.name not in {pod.node for pod in (await bench.kube.observe(web)).pods}
    finally:
        undone = await act(undo=True)
    assert undone.outcome is Outcome.APPLIED
    assert not (await bench.kube.get(ref))["spec"].get("unschedulable")


async def test_a_claim_of_a_class_that_cannot_expand(bench: Bench) -> None:
    """The API server would refuse to expand this claim; prepare says so first."""
    await bench.apply({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": bench.namespace},
        "spec": {
            "storageClassName": bench.namespace, "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}, "csi": {"driver": "x.example", "volumeHandle": "x"},
        },
    })  # fmt: skip
    await bench.apply(an_object(Kind.STORAGE_CLASS, bench.namespace, provisioner="x.example"))
    spec = {
        "storageClassName": bench.namespace, "accessModes": ["ReadWriteOnce"],
        "volumeName": bench.namespace, "resources": {"requests": {"storage": "1Gi"}},
    }  # fmt: skip
    claim = await make(bench, an_object(Kind.PVC, "data", bench.namespace, spec=spec))

    async def bound() -> bool:
        return (await bench.kube.get(claim)).get("status", {}).get("phase") == "Bound"

    try:
        await bench.until(bound, "the claim bound")
        with pytest.raises(Refused, match="allowVolumeExpansion"):
            await bench.prepare("expand_pvc", claim, {"to": "2Gi", "limit": "2Gi"})
    finally:
        await bench.kubectl("delete", "pv", bench.namespace, "--wait=false")
        await bench.kubectl("delete", "storageclass", bench.namespace)


CASES = [
    ("restart_rollout", {}),
    ("scale", {"by": 1}),
    ("undo_rollout", {"revision": 1}),
    ("json_patch", {"patch": [{"op": "add", "path": "/spec/minReadySeconds", "value": 1}]}),
]


@pytest.mark.parametrize(("action", "params"), CASES, ids=[case[0] for case in CASES])
async def test_the_rights_suffice(
    bench: Bench, tmp_path: Path, action: str, params: dict[str, Any]
) -> None:
    """With exactly the rights of needs(), and not one more, a step can be prepared, applied, looked
    up and undone; what is not among them is refused."""
    web = await make(bench, a_workload(Kind.DEPLOYMENT, "web", bench.namespace, replicas=1))

    async def sets(count: int) -> bool:
        found = await bench.kube.list(Kind.REPLICA_SET, bench.namespace, labels="app=web")
        return len(found) == count

    await bench.until(lambda: sets(1), "its ReplicaSet")
    image = ["deployment/web", "app=registry.invalid/app:2"]
    await bench.kubectl("set", "image", "-n", bench.namespace, *image)
    await bench.until(lambda: sets(2), "the next one")
    verb = ACTIONS[action]
    given = verb.params.model_validate(params)
    await bench.apply(*_account(bench.namespace, verb.needs(given, web.kind)))
    limited = await KubeCluster.open(CLOCK, kubeconfig=str(await _kubeconfig(bench, tmp_path)))
    try:
        seen = await bench.kube.observe(web)
        context = bench.context("r-1-s0", cluster=limited)
        before = await verb.prepare(context, given, seen)
        assert (await verb.apply(context, given, web, before)).outcome is Outcome.APPLIED
        assert await verb.probe(context, given, web, before) is Presence.APPLIED
        await verb.undo(context, given, web, before)
        with pytest.raises(Unauthorized):
            await limited.delete(web)
    finally:
        await limited.close()


def _account(namespace: str, rights: tuple[Permission, ...]) -> list[dict[str, Any]]:
    head = {"name": "limited", "namespace": namespace}
    api = "rbac.authorization.k8s.io"
    rules = [
        {
            "apiGroups": [right.group],
            "resources": ["/".join(filter(None, (right.resource, right.subresource)))],
            "verbs": [right.verb],
        }
        for right in rights
    ]
    subject = {"kind": "ServiceAccount", **head}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": head},
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": head, "rules": rules},
        {
            "apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": head,
            "subjects": [subject], "roleRef": {"apiGroup": api, "kind": "Role", "name": "limited"},
        },
    ]  # fmt: skip


async def _kubeconfig(bench: Bench, folder: Path) -> Path:
    """The bed's kubeconfig, with the limited account's token instead of the administrator."""
    token = (await bench.kubectl("create", "token", "-n", bench.namespace, "limited")).strip()
    config = json.loads(await bench.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    for user in config["users"]:
        user["user"] = {"token": token}
    path = folder / "limited.json"
    path.write_text(json.dumps(config))
    return path
