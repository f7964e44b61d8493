"""The cluster as an action sees it: its first write goes out only while the lease still allows it.

Between the check before an effect and the effect itself an action may read; a process that is
frozen there wakes to another world, and its timeouts fire only after the answer that waited.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from healer.domain.target import DomainHealth, Kind, Observation, TargetRef
from healer.engine.lease import Lease
from healer.errors import TemporaryError
from healer.kernel.clock import Clock
from healer.ports import Cluster, JsonObject, PatchType, Permission, WatchEvent


@dataclass(slots=True, eq=False)
class FirstWrite:
    """A `Cluster` that raises TemporaryError instead of a first write that comes too late.

    Later writes belong to what was begun in time: a drain may take minutes.
    """

    cluster: Cluster
    lease: Lease
    clock: Clock
    _wrote: bool = False

    def _in_time(self) -> Cluster:
        if not self._wrote and (lapsed := self.lease.lapsed(self.clock)):
            raise TemporaryError(lapsed)
        self._wrote = True
        return self.cluster

    async def observe(self, ref: TargetRef) -> Observation:
        """As `Cluster.observe`."""
        return await self.cluster.observe(ref)

    async def get(self, ref: TargetRef) -> JsonObject:
        """As `Cluster.get`."""
        return await self.cluster.get(ref)

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Sequence[JsonObject]:
        """As `Cluster.list`."""
        return await self.cluster.list(kind, namespace, labels=labels, fields=fields)

    async def patch(
        self,
        ref: TargetRef,
        body: JsonObject | Sequence[JsonObject],
        kind: PatchType,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> JsonObject:
        """As `Cluster.patch`, in time."""
        return await self._in_time().patch(
            ref, body, kind, subresource=subresource, dry_run=dry_run
        )

    async def delete(
        self, ref: TargetRef, *, grace_seconds: int | None = None, dry_run: bool = False
    ) -> None:
        """As `Cluster.delete`, in time."""
        await self._in_time().delete(ref, grace_seconds=grace_seconds, dry_run=dry_run)

    async def evict(self, ref: TargetRef, *, dry_run: bool = False) -> None:
        """As `Cluster.evict`, in time."""
        await self._in_time().evict(ref, dry_run=dry_run)

    async def create(self, manifest: JsonObject, *, dry_run: bool = False) -> JsonObject:
        """As `Cluster.create`, in time."""
        return await self._in_time().create(manifest, dry_run=dry_run)

    async def missing_right(self, permission: Permission, namespace: str) -> str:
        """As `Cluster.missing_right`."""
        return await self.cluster.missing_right(permission, namespace)

    async def zones(self) -> Mapping[str, DomainHealth]:
        """As `Cluster.zones`."""
        return await self.cluster.zones()

    def watch(self, kind: Kind, namespace: str = "") -> AsyncIterator[WatchEvent]:
        """As `Cluster.watch`."""
        return self.cluster.watch(kind, namespace)
