"""What every implementation of `healer.ports.Leases` does, and that its rights are just enough."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from deploy.rights import lease_role
from healer.clients.kube import KubeLeases
from healer.engine.election import Elector, Timing
from healer.errors import Conflict, NotFound, Unauthorized
from healer.kernel.clock import SystemClock
from healer.ports import LeaseRecord, Leases
from healer.testing.leases import FakeLease
from tests.bed.cluster import Cluster


@dataclass
class Place:
    """One Lease, which is not there yet: calling this gives one more way to it."""

    open: Callable[[], Awaitable[Leases]]
    delete: Callable[[], object]

    async def __call__(self) -> Leases:
        return await self.open()


OURS = LeaseRecord("web-1-aaaa", 15.0, 1767571200.123456, 1767571201.654321)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
async def seat(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """In memory, and of a real API server."""
    if request.param == "fake":
        lease = FakeLease()

        async def fake() -> Leases:
            return lease.seat()

        yield Place(fake, lease.delete)
        return
    bed = request.getfixturevalue("cluster")
    namespace = request.getfixturevalue("namespace")
    async with AsyncExitStack() as stack:

        async def real() -> Leases:
            leases = await KubeLeases.open(
                SystemClock(), namespace, "healer", kubeconfig=str(bed.kubeconfig),
                context=bed.context, timeout_seconds=5.0,
            )  # fmt: skip
            stack.push_async_callback(leases.close)
            return leases

        yield Place(real, lambda: bed.kubectl("delete", "lease", "healer", "-n", namespace))


async def test_what_was_stored_is_what_is_read(seat: Place) -> None:
    """Holder, duration, times to the microsecond and transitions come back as they were written."""
    one, other = await seat(), await seat()
    made = await one.create(OURS)
    assert made.version
    assert replace(made, version="") == OURS
    assert await other.get() == made
    later = replace(made, renewed_at=1767571203.5, transitions=7)
    written = await one.update(later)
    assert written.version != made.version
    assert replace(written, version="") == replace(later, version="")
    assert await other.get() == written


async def test_nobody_is_said_by_an_empty_holder(seat: Place) -> None:
    """A Lease that was given back has no holder."""
    one = await seat()
    made = await one.create(OURS)
    given = await one.update(replace(made, holder="", seconds=1.0))
    assert (given.holder, given.seconds) == ("", 1.0)
    assert (await one.get()).holder == ""


async def test_only_the_version_that_was_seen_is_replaced(seat: Place) -> None:
    """A second create and an update of an older version are Conflicts and change nothing."""
    one, other = await seat(), await seat()
    first = await one.create(OURS)
    with pytest.raises(Conflict):
        await other.create(replace(OURS, holder="other"))
    second = await one.update(replace(first, renewed_at=1767571209.0))
    with pytest.raises(Conflict):
        await other.update(replace(first, holder="other"))
    assert await other.get() == second


async def test_what_is_not_there_is_not_found(seat: Place) -> None:
    """Looking at an absent Lease raises NotFound, and an update does not make it again."""
    one, other = await seat(), await seat()
    with pytest.raises(NotFound):
        await one.get()
    made = await one.create(OURS)
    seat.delete()
    with pytest.raises((Conflict, NotFound)):
        await one.update(made)
    with pytest.raises(NotFound):
        await other.get()
    assert (await one.create(OURS)).version != made.version


async def test_two_electors_and_a_handover(seat: Place) -> None:
    """Of two candidates one leads, and after its release the other does."""
    clock = SystemClock()
    timing = Timing(lease_seconds=30.0, renew_deadline_seconds=20.0, retry_seconds=0.1)
    first = Elector(await seat(), clock, "first", timing)
    second = Elector(await seat(), clock, "second", timing)
    await first.round()
    await second.round()
    assert (first.term(), second.term()) == (1, 0)
    assert (first.holder, second.holder) == ("first", "first")
    await first.release()
    await second.round()
    await first.round()
    assert (first.term(), second.term()) == (0, 1)
    assert first.holder == "second"


@pytest.mark.cluster
@pytest.mark.parametrize("seat", ["real"], indirect=True)
async def test_what_others_wrote_into_it_is_kept(
    cluster: Cluster, namespace: str, seat: Place
) -> None:
    """Annotations of somebody else survive a renewal."""
    one = await seat()
    made = await one.create(OURS)
    cluster.kubectl("annotate", "lease", "healer", "-n", namespace, "example.com/note=mine")
    with pytest.raises(Conflict):
        await one.update(replace(made, renewed_at=1767571209.0))
    await one.update(replace(await one.get(), renewed_at=1767571209.0))
    found = cluster.get("lease", "healer", "-n", namespace)
    assert found["metadata"]["annotations"]["example.com/note"] == "mine"
    assert found["metadata"]["labels"] == {"app.kubernetes.io/name": "healer"}
    assert found["spec"]["renewTime"] == "2026-01-05T00:00:09.000000Z"


@pytest.mark.cluster
async def test_the_granted_rights_are_enough_and_for_the_one_lease_only(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    """With the shipped Role the election works, and no other Lease can be read or changed."""
    role = lease_role("healer", namespace)
    account = {"kind": "ServiceAccount", "name": "candidate", "namespace": namespace}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount",
         "metadata": {"name": "candidate", "namespace": namespace}},
        role,
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
         "metadata": {"name": "candidate", "namespace": namespace},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role",
                     "name": role["metadata"]["name"]},
         "subjects": [account]},
    )  # fmt: skip
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("create", "token", "candidate", "-n", namespace).strip()
    content["users"] = [{"name": "candidate", "user": {"token": token}}]
    context = next(c for c in content["contexts"] if c["name"] == content["current-context"])
    context["context"]["user"] = "candidate"
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(content))
    clock = SystemClock()
    ours = await KubeLeases.open(
        clock, namespace, "healer", kubeconfig=str(path), timeout_seconds=5.0
    )
    foreign = await KubeLeases.open(
        clock, namespace, "foreign", kubeconfig=str(path), timeout_seconds=5.0
    )
    try:
        async with asyncio.timeout(20):
            elector = Elector(ours, clock, "candidate", Timing(retry_seconds=0.1))
            while not elector.term():  # a binding takes a moment to be known
                await elector.round()
            await elector.round()
            await elector.release()
        made = await foreign.create(OURS)
        with pytest.raises(Unauthorized, match="right to get leases"):
            await foreign.get()
        with pytest.raises(Unauthorized, match="right to update leases"):
            await foreign.update(made)
    finally:
        await ours.close()
        await foreign.close()
