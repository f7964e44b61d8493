"""`healer.ports.Leases` over the `coordination.k8s.io/v1` Lease of one name.

It has a connection of its own: an election must not wait behind a storm's requests.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

from healer.clients.kube.connection import FIELD_MANAGER, Connection
from healer.clients.kube.errors import Call, unreadable
from healer.clients.kube.paths import lease_paths
from healer.clients.kube.reading import decode
from healer.errors import ConfigError
from healer.kernel.clock import Clock, parse_rfc3339
from healer.ports import JsonObject, LeaseRecord, Permission

#: What of its metadata is sent back as it was found: what others may have written, and the uid,
#: without which the API server makes a Lease that was deleted anew on update (seen on 1.36).
_KEPT = ("uid", "labels", "annotations", "ownerReferences", "finalizers")
_LABELS = {"app.kubernetes.io/name": "healer"}
#: What an election needs: the first in the namespace, the others of the one name.
CREATE = Permission("create", "leases", "coordination.k8s.io")
HOLD = (
    Permission("get", "leases", "coordination.k8s.io"),
    Permission("update", "leases", "coordination.k8s.io"),
)


class KubeLeases:
    """The Lease `name` in `namespace`."""

    def __init__(self, connection: Connection, namespace: str, name: str) -> None:
        """Raises ConfigError for names that cannot be."""
        self._connection = connection
        self._all, self._one = lease_paths(namespace, name)
        self._what = f"leases.coordination.k8s.io {namespace}/{name}"
        self._named = {"name": name, "namespace": namespace}
        self._kept: JsonObject = {}

    @classmethod
    async def open(
        cls,
        clock: Clock,
        namespace: str,
        name: str,
        *,
        kubeconfig: str = "",
        context: str = "",
        timeout_seconds: float,
    ) -> Self:
        """On the API server that `find_access` finds; nothing is sent yet. Raises ConfigError."""
        connection = await Connection.open(
            clock, kubeconfig=kubeconfig, context=context, timeout_seconds=timeout_seconds
        )
        try:
            return cls(connection, namespace, name)
        except ConfigError:
            await connection.close()
            raise

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def get(self) -> LeaseRecord:
        """A fresh look. Raises NotFound."""
        call = self._call("get")
        return self._record(call, await self._connection.call("GET", self._one, call))

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        """Store it; raises Conflict when there is one."""
        call = self._call("create", writes=True)
        return self._record(call, await self._write("POST", self._all, call, record))

    async def update(self, record: LeaseRecord) -> LeaseRecord:
        """Replace exactly that version. Raises Conflict or NotFound."""
        call = self._call("update", writes=True)
        return self._record(call, await self._write("PUT", self._one, call, record))

    def _call(self, verb: str, *, writes: bool = False) -> Call:
        return Call(verb, self._what, writes=writes)

    async def _write(self, method: str, path: str, call: Call, record: LeaseRecord) -> bytes:
        meta: JsonObject = {**self._named, "labels": _LABELS}
        if record.version:
            meta = {**self._named, **self._kept, "resourceVersion": record.version}
        spec: JsonObject = {
            "leaseDurationSeconds": max(1, round(record.seconds)),
            "acquireTime": _micro(record.acquired_at),
            "renewTime": _micro(record.renewed_at),
            "leaseTransitions": record.transitions,
        }
        if record.holder:  # an empty one is not accepted: nobody is said by leaving it out
            spec["holderIdentity"] = record.holder
        body = {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec,
        }  # fmt: skip
        return await self._connection.call(
            method, path, call, query={"fieldManager": FIELD_MANAGER}, body=body
        )

    def _record(self, call: Call, content: bytes) -> LeaseRecord:
        value = decode(call, content)
        meta: Mapping[str, Any] = value.get("metadata") or {}
        spec: Mapping[str, Any] = value.get("spec") or {}
        self._kept = {name: meta[name] for name in _KEPT if name in meta}
        try:
            return LeaseRecord(
                holder=str(spec.get("holderIdentity") or ""),
                seconds=float(spec.get("leaseDurationSeconds") or 0),
                acquired_at=_seconds(spec.get("acquireTime")),
                renewed_at=_seconds(spec.get("renewTime")),
                transitions=int(spec.get("leaseTransitions") or 0),
                version=str(meta["resourceVersion"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise unreadable(call, error) from error


def _seconds(text: Any) -> float:
    return parse_rfc3339(str(text)) if text else 0.0


def _micro(at: float) -> str:
    """As the API server demands of a MicroTime: six digits, no fewer."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
