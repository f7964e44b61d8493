"""What the fake cluster adds to the contract: scripted trouble, and controllers that react."""

import asyncio
from contextlib import aclosing

import pytest

from healer.domain.target import DomainHealth, Kind, TargetRef
from healer.errors import TimedOut, Unreachable
from healer.ports import PatchType, Permission, WatchKind
from healer.testing.clock import FakeClock
from healer.testing.cluster import FakeCluster, Write
from healer.testing.objects import a_node, a_workload, an_object, crashing_status


def a_cluster() -> tuple[FakeCluster, TargetRef]:
    """Two zones and a Deployment of three ready pods."""
    cluster = FakeCluster(FakeClock())
    cluster.add(a_node("n1", "zone-a"), a_node("n2", "zone-b"))
    return cluster, cluster.add(a_workload(Kind.DEPLOYMENT, "web"))


async def test_pods_are_placed_and_ready_at_once() -> None:
    """A workload's pods are spread over the nodes and serve from the start."""
    cluster, web = a_cluster()
    seen = await cluster.observe(web)
    assert (seen.replicas, seen.ready, seen.rollout_in_progress) == (3, 3, False)
    assert sorted(pod.zone for pod in seen.pods) == ["zone-a", "zone-a", "zone-b"]
    zones = await cluster.zones()
    assert zones["zone-a"] == DomainHealth("zone-a", 2, 0)


async def test_a_failure_before_leaves_no_effect_and_one_after_leaves_it() -> None:
    """A scripted failure happens once; told so, it happens after the effect: a lost answer."""
    cluster, _ = a_cluster()
    ref = cluster.add(an_object(Kind.CONFIG_MAP, "flags", data={"a": "1"}))
    cluster.fail_next("patch", Unreachable("refused", sent=False))
    with pytest.raises(Unreachable):
        await cluster.patch(ref, {"data": {"a": "2"}}, PatchType.MERGE)
    assert cluster.object(ref)["data"] == {"a": "1"}
    cluster.fail_next("patch", TimedOut("lost"), after=True)
    with pytest.raises(TimedOut):
        await cluster.patch(ref, {"data": {"a": "3"}}, PatchType.MERGE)
    assert cluster.object(ref)["data"] == {"a": "3"}
    await cluster.patch(ref, {"data": {"a": "4"}}, PatchType.MERGE)
    assert [write.body for write in cluster.writes] == [{"data": {"a": n}} for n in "234"]
    assert cluster.writes[0] == Write("patch", ref, {"data": {"a": "2"}})


async def test_a_held_call_waits_to_be_released() -> None:
    """A held call has done nothing until it is let go."""
    cluster, web = a_cluster()
    pod = cluster.pods_of(web)[0]
    hold = cluster.hold_next("delete")
    call = asyncio.create_task(cluster.delete(pod))
    await hold.reached.wait()
    assert pod in cluster.pods_of(web)
    hold.release()
    await call
    assert pod not in cluster.pods_of(web)


async def test_a_pod_that_goes_is_replaced_by_another() -> None:
    """A Deployment's new pod has a new name, a StatefulSet's the old one; both have a new uid."""
    cluster, web = a_cluster()
    db = cluster.add(a_workload(Kind.STATEFUL_SET, "db", replicas=2))
    for owner, same_name in ((web, False), (db, True)):
        pod = cluster.pods_of(owner)[0]
        count = len(cluster.pods_of(owner))
        await cluster.evict(pod)
        after = cluster.pods_of(owner)
        assert len(after) == count
        assert (pod.name in {p.name for p in after}) is same_name
        assert pod.uid not in {p.uid for p in after}


async def test_a_crashing_pod_shows_everywhere() -> None:
    """A pod that is made to crash is seen in its owner, its zone and its own observation."""
    cluster, web = a_cluster()
    pod = cluster.pods_of(web)[0]
    cluster.change(pod, {"status": crashing_status()})
    seen = await cluster.observe(pod)
    assert (seen.ready, seen.owner_health.bad) == (2, 1)
    assert (await cluster.zones())[seen.zone].bad == 1
    assert not seen.rollout_in_progress


async def test_restart_and_undo_leave_revisions() -> None:
    """A new template makes a new ReplicaSet with the next revision, the old one back takes one."""
    cluster, web = a_cluster()
    before = {pod.uid for pod in cluster.pods_of(web)}
    old = cluster.object(web)["spec"]["template"]
    stamp = {"metadata": {"annotations": {"at": "1"}}}
    await cluster.patch(web, {"spec": {"template": stamp}}, PatchType.MERGE)
    assert not before & {pod.uid for pod in cluster.pods_of(web)}
    body = [{"op": "replace", "path": "/spec/template", "value": old}]
    await cluster.patch(web, body, PatchType.JSON)
    sets = await cluster.list(Kind.REPLICA_SET, "shop")
    revisions = {
        value["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: value["spec"][
            "replicas"
        ]
        for value in sets
    }
    assert revisions == {"3": 3, "2": 0}
    db = cluster.add(a_workload(Kind.STATEFUL_SET, "db"))
    await cluster.patch(db, {"spec": {"template": stamp}}, PatchType.MERGE)
    history = await cluster.list(Kind.CONTROLLER_REVISION, "shop")
    assert sorted(value["revision"] for value in history) == [1, 2]


async def test_scaling_adds_and_takes_pods() -> None:
    """Replicas are pods at once, in both directions."""
    cluster, web = a_cluster()
    for count in (5, 1):
        body = {"spec": {"replicas": count}}
        await cluster.patch(web, body, PatchType.MERGE, subresource="scale")
        assert len(cluster.pods_of(web)) == count
        assert (await cluster.observe(web)).ready == count


async def test_deleting_a_workload_deletes_what_it_owns() -> None:
    """Nothing that was owned outlives its owner."""
    cluster, web = a_cluster()
    await cluster.delete(web)
    assert await cluster.list(Kind.POD) == []
    assert await cluster.list(Kind.REPLICA_SET) == []


async def test_denied_rights_are_missing() -> None:
    """A denied right is missing in its namespace, and everywhere when it names none."""
    cluster, _ = a_cluster()
    here, anywhere = Permission("delete", "pods"), Permission("create", "jobs", "batch")
    cluster.denied |= {(here, "shop"), (anywhere, "")}
    assert await cluster.missing_right(here, "shop") == "delete pods in namespace shop"
    assert await cluster.missing_right(here, "other") == ""
    assert await cluster.missing_right(anywhere, "other")


async def test_a_broken_watch_lists_anew() -> None:
    """After a break everything is delivered again with SYNCED, and what is gone is not in it."""
    cluster, web = a_cluster()
    async with aclosing(cluster.watch(Kind.POD, "shop")) as events:
        first = [await anext(events) for _ in range(4)]
        assert [event.kind for event in first] == [WatchKind.ADDED] * 3 + [WatchKind.SYNCED]
        body = {"spec": {"replicas": 1}}
        await cluster.patch(web, body, PatchType.MERGE)
        cluster.break_watches()
        again = []
        while not again or again[-1].kind is not WatchKind.SYNCED:
            again.append(await anext(events))
        (left,) = cluster.pods_of(web)
        assert again[-1].object["keys"] == [("shop", left.name)]
