"""What every implementation of `healer.ports.Cluster` does: the fake's promise to be like the real.

Controllers make pods here, but nothing places or runs them, so a test says itself which are ready.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from healer.clients.kube import KubeCluster
from healer.domain.target import DomainHealth, Health, Kind, TargetRef
from healer.errors import Conflict, NotFound, Refused, Throttled
from healer.kernel.clock import SystemClock
from healer.ports import Cluster, JsonObject, PatchType, Permission, WatchEvent, WatchKind
from healer.testing.cluster import FakeCluster
from healer.testing.objects import (
    a_node,
    a_template,
    a_workload,
    an_object,
    crashing_status,
    ready_status,
)

ELSEWHERE = "00000000-0000-0000-0000-00000000dead"


@dataclass
class Bench:
    """A cluster and a namespace to work in."""

    cluster: Cluster
    namespace: str

    def ref(self, kind: Kind, name: str) -> TargetRef:
        return TargetRef(kind, name, self.namespace)

    async def create(self, value: JsonObject) -> TargetRef:
        made = await self.cluster.create(value)
        head = made["metadata"]
        return TargetRef(Kind(value["kind"]), head["name"], head.get("namespace", ""), head["uid"])

    async def config(self, name: str = "flags", **data: str) -> TargetRef:
        value = an_object(Kind.CONFIG_MAP, name, self.namespace, data=data or {"colour": "red"})
        return await self.create(value)

    async def deployment(self, name: str = "web", replicas: int = 3, ready: int = 0) -> TargetRef:
        """A Deployment whose pods are there, the first `ready` of them Ready."""
        ref = await self.create(
            a_workload(Kind.DEPLOYMENT, name, self.namespace, replicas=replicas)
        )
        await self.until(ref, lambda value: _status(value).get("updatedReplicas", 0) == replicas)
        for pod in (await self.pods(name))[:ready]:
            await self.say(pod, ready_status())
        await self.until(ref, lambda value: _status(value).get("readyReplicas", 0) == ready)
        return ref

    async def pods(self, app: str) -> list[TargetRef]:
        found = await self.cluster.list(Kind.POD, self.namespace, labels=f"app={app}")
        return sorted(
            (
                TargetRef(Kind.POD, v["metadata"]["name"], self.namespace, v["metadata"]["uid"])
                for v in found
            ),
            key=lambda ref: ref.name,
        )

    async def say(self, pod: TargetRef, status: JsonObject) -> None:
        """Report a pod's status as its kubelet would."""
        await self.cluster.patch(pod, {"status": status}, PatchType.STRATEGIC, subresource="status")

    async def until(self, ref: TargetRef, holds: Callable[[JsonObject], bool]) -> JsonObject:
        """The object, as soon as a watch shows it so."""
        async with asyncio.timeout(20), aclosing(self.watch(ref.kind)) as events:
            async for event in events:
                head = event.object.get("metadata", {})
                if head.get("name") == ref.name and holds(event.object):
                    return event.object
        raise AssertionError("a watch ended")

    def watch(self, kind: Kind) -> AsyncIterator[WatchEvent]:
        return self.cluster.watch(kind, self.namespace)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Every test of this file runs against the fake and against a real API server."""
    if request.param == "fake":
        yield Bench(FakeCluster(SystemClock(), pods_start=False), "contract")
        return
    bed = request.getfixturevalue("cluster")
    namespace = request.getfixturevalue("namespace")
    kube = await KubeCluster.open(
        SystemClock(), kubeconfig=str(bed.kubeconfig), context=bed.context
    )
    try:
        yield Bench(kube, namespace)
    finally:
        await kube.close()


def _status(value: JsonObject) -> JsonObject:
    found: JsonObject = value.get("status") or {}
    return found


async def test_what_is_not_there_is_not_found(bench: Bench) -> None:
    """Asking for, looking at or patching an absent object raises NotFound."""
    absent = bench.ref(Kind.DEPLOYMENT, "absent")
    with pytest.raises(NotFound):
        await bench.cluster.get(absent)
    with pytest.raises(NotFound):
        await bench.cluster.observe(absent)
    with pytest.raises(NotFound):
        await bench.cluster.patch(absent, {"spec": {"replicas": 1}}, PatchType.MERGE)


async def test_create_takes_a_name_once(bench: Bench) -> None:
    """The second object of the same name is a Conflict and the first stays as it is."""
    ref = await bench.config(colour="red")
    with pytest.raises(Conflict):
        await bench.config(colour="blue")
    assert (await bench.cluster.get(ref))["data"] == {"colour": "red"}


async def test_dry_run_create_makes_nothing(bench: Bench) -> None:
    """A dry run of create answers with the object and leaves none."""
    value = an_object(Kind.CONFIG_MAP, "flags", bench.namespace, data={"a": "b"})
    assert (await bench.cluster.create(value, dry_run=True))["data"] == {"a": "b"}
    with pytest.raises(NotFound):
        await bench.cluster.get(bench.ref(Kind.CONFIG_MAP, "flags"))


async def test_create_without_namespace_is_refused(bench: Bench) -> None:
    """A manifest of a namespaced kind that names no namespace is refused."""
    value = an_object(Kind.CONFIG_MAP, "flags", bench.namespace)
    del value["metadata"]["namespace"]
    with pytest.raises(Refused):
        await bench.cluster.create(value)


@pytest.mark.parametrize("kind", [PatchType.MERGE, PatchType.STRATEGIC, PatchType.JSON])
async def test_patch_changes_only_the_observed_incarnation(bench: Bench, kind: PatchType) -> None:
    """With the right uid a patch is applied; with another one it is a Conflict without effect."""
    ref = await bench.create(a_workload(Kind.DEPLOYMENT, "web", bench.namespace))
    body: JsonObject | list[JsonObject] = {"metadata": {"labels": {"tier": "front"}}}
    if kind is PatchType.JSON:
        body = [{"op": "add", "path": "/metadata/labels", "value": {"tier": "front"}}]
    with pytest.raises(Conflict):
        await bench.cluster.patch(ref.with_uid(ELSEWHERE), body, kind)
    assert "labels" not in (await bench.cluster.get(ref))["metadata"]
    answer = await bench.cluster.patch(ref, body, kind)
    assert answer["metadata"]["labels"] == {"tier": "front"}
    assert (await bench.cluster.get(ref))["metadata"]["labels"] == {"tier": "front"}


@pytest.mark.parametrize("subresource", ["status", "scale"])
async def test_patch_of_a_subresource_minds_the_uid(bench: Bench, subresource: str) -> None:
    """The uid is a precondition of the status and scale subresources too."""
    ref = await bench.create(a_workload(Kind.DEPLOYMENT, "web", bench.namespace))
    with pytest.raises(Conflict):
        await bench.cluster.patch(
            ref.with_uid(ELSEWHERE),
            {"spec": {"replicas": 5}, "status": {"collisionCount": 1}},
            PatchType.MERGE,
            subresource=subresource,
        )


async def test_a_stale_resource_version_is_a_conflict(bench: Bench) -> None:
    """A patch that names the version it was made for is refused once the object has changed."""
    ref = await bench.config()
    seen = (await bench.cluster.get(ref))["metadata"]["resourceVersion"]
    await bench.cluster.patch(ref, {"data": {"colour": "blue"}}, PatchType.MERGE)
    late = {"metadata": {"resourceVersion": seen}, "data": {"colour": "green"}}
    with pytest.raises(Conflict):
        await bench.cluster.patch(ref, late, PatchType.MERGE)
    assert (await bench.cluster.get(ref))["data"] == {"colour": "blue"}


async def test_a_failed_test_operation_is_a_conflict(bench: Bench) -> None:
    """A JSON patch whose `test` does not hold changes nothing and raises Conflict."""
    ref = await bench.config()
    steps = [
        {"op": "test", "path": "/data/colour", "value": "blue"},
        {"op": "replace", "path": "/data/colour", "value": "green"},
    ]
    with pytest.raises(Conflict):
        await bench.cluster.patch(ref, steps, PatchType.JSON)
    assert (await bench.cluster.get(ref))["data"] == {"colour": "red"}


async def test_an_invalid_value_is_refused(bench: Bench) -> None:
    """A value the API server does not accept raises Refused."""
    ref = await bench.create(a_workload(Kind.DEPLOYMENT, "web", bench.namespace))
    with pytest.raises(Refused):
        await bench.cluster.patch(ref, {"spec": {"replicas": -1}}, PatchType.MERGE)


async def test_a_patch_body_of_the_wrong_type_is_refused(bench: Bench) -> None:
    """A list is no merge patch and an object is no JSON patch."""
    ref = await bench.config()
    with pytest.raises(Refused):
        await bench.cluster.patch(ref, [{"op": "remove", "path": "/data"}], PatchType.MERGE)
    with pytest.raises(Refused):
        await bench.cluster.patch(ref, {"data": {}}, PatchType.JSON)


async def test_scale_sets_replicas(bench: Bench) -> None:
    """The scale subresource answers with a Scale and sets the workload's replicas."""
    ref = await bench.create(a_workload(Kind.DEPLOYMENT, "web", bench.namespace, replicas=1))
    body = {"spec": {"replicas": 2}}
    answer = await bench.cluster.patch(ref, body, PatchType.MERGE, subresource="scale")
    assert (answer["kind"], answer["spec"]["replicas"]) == ("Scale", 2)
    assert (await bench.cluster.get(ref))["spec"]["replicas"] == 2


async def test_status_is_written_only_through_its_subresource(bench: Bench) -> None:
    """A patch of the object itself leaves its status as it was."""
    ref = await bench.deployment(replicas=1)
    pod = (await bench.pods("web"))[0]
    body = {"metadata": {"labels": {"tier": "x"}}, "status": {"phase": "Failed"}}
    answer = await bench.cluster.patch(pod, body, PatchType.MERGE)
    assert answer["metadata"]["labels"]["tier"] == "x"
    assert answer["status"]["phase"] == "Pending"
    assert ref.uid


async def test_a_dry_run_patch_changes_nothing(bench: Bench) -> None:
    """A dry run shows the result and leaves the object as it was."""
    ref = await bench.config()
    body = {"data": {"colour": "blue"}}
    answer = await bench.cluster.patch(ref, body, PatchType.MERGE, dry_run=True)
    assert answer["data"] == {"colour": "blue"}
    assert (await bench.cluster.get(ref))["data"] == {"colour": "red"}


async def test_strategic_merge_knows_containers_by_name(bench: Bench) -> None:
    """A strategic merge patch of one container's env keeps the container's image."""
    ref = await bench.create(a_workload(Kind.DEPLOYMENT, "web", bench.namespace))
    container = {"name": "app", "env": [{"name": "MODE", "value": "slow"}]}
    body = {"spec": {"template": {"spec": {"containers": [container]}}}}
    answer = await bench.cluster.patch(ref, body, PatchType.STRATEGIC)
    (found,) = answer["spec"]["template"]["spec"]["containers"]
    assert found["image"] == a_template("web")["spec"]["containers"][0]["image"]
    assert found["env"] == [{"name": "MODE", "value": "slow"}]


async def test_delete_takes_exactly_one_incarnation(bench: Bench) -> None:
    """Another uid is a Conflict, no uid is refused, the right one deletes, the next is NotFound."""
    ref = await bench.config()
    with pytest.raises(Conflict):
        await bench.cluster.delete(ref.with_uid(ELSEWHERE))
    with pytest.raises(Refused):
        await bench.cluster.delete(ref.with_uid(""))
    await bench.cluster.delete(ref, dry_run=True)
    assert (await bench.cluster.get(ref))["metadata"]["uid"] == ref.uid
    await bench.cluster.delete(ref)
    with pytest.raises(NotFound):
        await bench.cluster.delete(ref)


async def test_a_deleted_pod_is_replaced_by_its_controller(bench: Bench) -> None:
    """Deleting a pod of a Deployment leaves as many pods, one of them new."""
    ref = await bench.deployment(replicas=2)
    before = await bench.pods("web")
    await bench.cluster.delete(before[0], grace_seconds=0)
    await bench.until(
        bench.ref(Kind.DEPLOYMENT, ref.name), lambda v: _status(v).get("updatedReplicas") == 2
    )
    async with asyncio.timeout(20), aclosing(bench.watch(Kind.POD)) as events:
        async for event in events:
            uid = event.object.get("metadata", {}).get("uid")
            if event.kind is WatchKind.ADDED and uid not in {pod.uid for pod in before}:
                break
    after = await bench.pods("web")
    assert len(after) == 2
    assert len({pod.uid for pod in after} & {pod.uid for pod in before}) == 1


async def test_deleting_a_job_takes_its_pods_along(bench: Bench) -> None:
    """The pods of a deleted Job do not stay behind."""
    job = await bench.create(a_workload(Kind.JOB, "batch", bench.namespace, replicas=1))
    async with asyncio.timeout(20), aclosing(bench.watch(Kind.POD)) as events:
        deleted = False
        async for event in events:
            if event.kind is WatchKind.ADDED and not deleted:
                await bench.cluster.delete(job)
                deleted = True
            if event.kind is WatchKind.DELETED:
                break
    assert await bench.pods("batch") == []


async def test_evict_minds_uid_and_dry_run(bench: Bench) -> None:
    """Evicting another incarnation is a Conflict, a dry run evicts nothing, then the pod goes."""
    await bench.deployment(replicas=1)
    (pod,) = await bench.pods("web")
    with pytest.raises(Conflict):
        await bench.cluster.evict(pod.with_uid(ELSEWHERE))
    await bench.cluster.evict(pod, dry_run=True)
    assert await bench.pods("web") == [pod]
    await bench.cluster.evict(pod)
    with pytest.raises((NotFound, Conflict)):
        await bench.cluster.evict(pod)


async def test_a_budget_holds_an_eviction_back(bench: Bench) -> None:
    """A PodDisruptionBudget without room makes evict raise Throttled and the pod stays."""
    await bench.deployment(replicas=2, ready=2)
    selector = {"matchLabels": {"app": "web"}}
    budget = await bench.create(
        an_object(Kind.PDB, "web", bench.namespace, spec={"minAvailable": 2, "selector": selector})
    )
    if not isinstance(bench.cluster, FakeCluster):
        await bench.until(budget, lambda v: _status(v).get("currentHealthy") == 2)
    pod = (await bench.pods("web"))[0]
    with pytest.raises(Throttled):
        await bench.cluster.evict(pod)
    assert pod in await bench.pods("web")


async def test_observing_a_pod_climbs_to_its_deployment(bench: Bench) -> None:
    """A pod's observation names its Deployment, counts that one's pods only, and says its state."""
    ref = await bench.deployment(replicas=3, ready=1)
    stray = an_object(Kind.POD, "stray", bench.namespace, labels={"app": "web"})
    stray["spec"] = a_template("web")["spec"]
    await bench.create(stray)
    pods = [pod for pod in await bench.pods("web") if pod.name != "stray"]
    await bench.say(pods[1], crashing_status())
    for _ in range(2):  # the second look is answered from what the first one learned
        seen = await bench.cluster.observe(pods[1].with_uid(""))
        assert seen.ref == pods[1]
        assert seen.owner == ref
        assert (seen.replicas, seen.ready, seen.updated) == (3, 1, 3)
        assert sorted(pod.ref.name for pod in seen.pods) == [pod.name for pod in pods]
        state = next(pod for pod in seen.pods if pod.ref == pods[1])
        assert (state.ready, state.reason, state.restarts) == (False, "CrashLoopBackOff", 7)
        assert state.revision
        assert seen.health is Health.UNHEALTHY
        assert seen.owner_health == DomainHealth(str(ref), 3, 2)
        assert seen.resource_version


async def test_observing_a_bare_pod_has_no_owner(bench: Bench) -> None:
    """A pod that nobody controls has no owner and is its own only pod."""
    pod = an_object(Kind.POD, "alone", bench.namespace)
    pod["spec"] = a_template("alone")["spec"]
    ref = await bench.create(pod)
    seen = await bench.cluster.observe(ref)
    assert seen.owner is None
    assert seen.lock_ref == ref
    assert [state.ref for state in seen.pods] == [ref]


@pytest.mark.parametrize("kind", [Kind.STATEFUL_SET, Kind.JOB])
async def test_observing_climbs_to_other_controllers(bench: Bench, kind: Kind) -> None:
    """A pod of a StatefulSet or Job is locked by that controller."""
    ref = await bench.create(a_workload(kind, "db", bench.namespace, replicas=1))
    async with asyncio.timeout(20), aclosing(bench.watch(Kind.POD)) as events:
        async for event in events:
            if event.kind is WatchKind.ADDED:
                break
    (pod,) = await bench.pods("db")
    seen = await bench.cluster.observe(pod)
    assert seen.owner == ref
    assert [state.ref for state in seen.pods] == [pod]


async def test_observing_finds_autoscaler_and_gitops(bench: Bench) -> None:
    """The autoscaler of the owner and the GitOps tool that labels it are seen from a pod."""
    workload = a_workload(Kind.DEPLOYMENT, "web", bench.namespace, replicas=1)
    workload["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "apps"}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    hpa = await bench.create(
        an_object(
            Kind.HPA, "web", bench.namespace, spec={"maxReplicas": 5, "scaleTargetRef": target}
        )
    )
    ref = await bench.create(workload)
    await bench.until(ref, lambda value: _status(value).get("updatedReplicas") == 1)
    (pod,) = await bench.pods("web")
    for seen in (await bench.cluster.observe(pod), await bench.cluster.observe(ref)):
        assert seen.hpa == hpa
        assert seen.managers == ("flux",)


async def test_a_new_template_is_a_rollout_in_progress(bench: Bench) -> None:
    """A finished rollout is not in progress, and a new pod template begins one at once."""
    ref = await bench.deployment(replicas=1, ready=1)
    await bench.until(
        ref, lambda v: any(c.get("reason") == "NewReplicaSetAvailable" for c in _conditions(v))
    )
    assert not (await bench.cluster.observe(ref)).rollout_in_progress
    stamp = {"metadata": {"annotations": {"healer.dev/restarted-at": "now"}}}
    await bench.cluster.patch(ref, {"spec": {"template": stamp}}, PatchType.MERGE)
    assert (await bench.cluster.observe(ref)).rollout_in_progress


def _conditions(value: JsonObject) -> list[JsonObject]:
    return list(_status(value).get("conditions") or ())


async def test_a_paused_deployment_is_seen_as_paused(bench: Bench) -> None:
    """`spec.paused` of a Deployment shows in its observation."""
    ref = await bench.create(a_workload(Kind.DEPLOYMENT, "web", bench.namespace))
    await bench.cluster.patch(ref, {"spec": {"paused": True}}, PatchType.MERGE)
    assert (await bench.cluster.observe(ref)).paused


async def test_lists_select_by_label_and_field(bench: Bench) -> None:
    """Label and field selectors select, and items name their kind as a single object does."""
    for name, tier in (("one", "front"), ("two", "back"), ("three", "back")):
        value = an_object(Kind.CONFIG_MAP, name, bench.namespace, labels={"tier": tier})
        await bench.cluster.create(value)

    async def names(labels: str = "", fields: str = "") -> set[str]:
        found = await bench.cluster.list(
            Kind.CONFIG_MAP, bench.namespace, labels=labels, fields=fields
        )
        assert all((v["kind"], v["apiVersion"]) == ("ConfigMap", "v1") for v in found)
        return {value["metadata"]["name"] for value in found} - {"kube-root-ca.crt"}

    assert await names("tier=back") == {"two", "three"}
    assert await names("tier in (front, back)", "metadata.name=one") == {"one"}
    assert await names("tier!=back", "metadata.name!=one") == set()
    assert await names("!tier") == set()


async def test_a_watch_lists_then_follows(bench: Bench) -> None:
    """A watch delivers what is there, says when that was all, and then every change in order."""
    first = await bench.config("first")
    seen: list[tuple[WatchKind, str]] = []
    async with asyncio.timeout(20), aclosing(bench.watch(Kind.CONFIG_MAP)) as events:
        async for event in events:
            name = str(event.object.get("metadata", {}).get("name", ""))
            if event.kind is WatchKind.SYNCED:
                assert (bench.namespace, "first") in event.object["keys"]
                second = await bench.config("second")
                await bench.cluster.patch(second, {"data": {"a": "b"}}, PatchType.MERGE)
                await bench.cluster.delete(first)
            elif name in {"first", "second"}:
                seen.append((event.kind, name))
            if event.kind is WatchKind.DELETED:
                break
    assert seen == [
        (WatchKind.ADDED, "first"),
        (WatchKind.ADDED, "second"),
        (WatchKind.MODIFIED, "second"),
        (WatchKind.DELETED, "first"),
    ]


async def test_zones_count_good_and_bad_pods(bench: Bench) -> None:
    """Pods count to the zone of their node; ready and just starting ones are not bad."""
    zone = f"zone-{uuid.uuid4().hex[:8]}"
    node = a_node(zone, zone)
    node["spec"]["unschedulable"] = True
    placed = await bench.create(node)
    try:
        for name, status in {
            "good": ready_status(),
            "starting": {"phase": "Pending"},
            "crashing": crashing_status(),
            "done": {"phase": "Succeeded"},
        }.items():
            pod = an_object(Kind.POD, name, bench.namespace)
            pod["spec"] = a_template(name)["spec"] | {
                "nodeName": zone,
                "tolerations": [{"operator": "Exists"}],
            }
            await bench.say(await bench.create(pod), status)
        assert (await bench.cluster.zones())[zone] == DomainHealth(zone, 3, 1)
        seen = await bench.cluster.observe(bench.ref(Kind.POD, "good"))
        assert (seen.node, seen.zone, seen.health) == (zone, zone, Health.HEALTHY)
    finally:
        await bench.cluster.delete(placed)


async def test_a_right_we_have_is_not_missing(bench: Bench) -> None:
    """Nothing is missing for an administrator."""
    right = Permission("patch", "deployments", "apps", "scale")
    assert await bench.cluster.missing_right(right, bench.namespace) == ""


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "%2e%2e", "web?x=y"])
async def test_a_name_that_names_nothing_deletes_nothing(bench: Bench, name: str) -> None:
    """A name that could mean a whole collection or another path reaches no object."""
    ref = await bench.config()
    wrong = TargetRef(Kind.CONFIG_MAP, name, bench.namespace, ref.uid)
    with pytest.raises((Refused, NotFound)):
        await bench.cluster.delete(wrong)
    assert (await bench.cluster.get(ref))["metadata"]["uid"] == ref.uid
