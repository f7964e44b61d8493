"""A namespace to act in, on the fake cluster or on a real one, and a record of the rights used."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from healer.actions.contract import ActionContext
from healer.domain.kinds import RESOURCES
from healer.domain.manifests import meta, ref_of
from healer.domain.target import DomainHealth, Kind, Observation, TargetRef
from healer.errors import NotFound
from healer.kernel.clock import Clock
from healer.ports import (
    Alerts,
    Cluster,
    HttpAnswer,
    JsonObject,
    PatchType,
    Permission,
    WatchEvent,
)
from healer.testing.clock import START


class Recording:
    """`healer.ports.Cluster` that notes the right each call needs."""

    def __init__(self, inner: Cluster) -> None:
        self._inner = inner
        self.used: set[Permission] = set()

    def _note(self, verb: str, kind: Kind, subresource: str = "") -> None:
        resource = RESOURCES[kind]
        self.used.add(Permission(verb, resource.plural, resource.group, subresource))

    async def observe(self, ref: TargetRef) -> Observation:
        return await self._inner.observe(ref)

    async def get(self, ref: TargetRef) -> JsonObject:
        self._note("get", ref.kind)
        return await self._inner.get(ref)

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Sequence[JsonObject]:
        assert labels or fields, f"{kind} listed without any selector"
        self._note("list", kind)
        return await self._inner.list(kind, namespace, labels=labels, fields=fields)

    async def patch(
        self,
        ref: TargetRef,
        body: JsonObject | Sequence[JsonObject],
        kind: PatchType,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> JsonObject:
        self._note("patch", ref.kind, subresource)
        return await self._inner.patch(ref, body, kind, subresource=subresource, dry_run=dry_run)

    async def delete(
        self, ref: TargetRef, *, grace_seconds: int | None = None, dry_run: bool = False
    ) -> None:
        self._note("delete", ref.kind)
        await self._inner.delete(ref, grace_seconds=grace_seconds, dry_run=dry_run)

    async def evict(self, ref: TargetRef, *, dry_run: bool = False) -> None:
        self._note("get", Kind.POD)  # the client looks at the uid first
        self._note("create", Kind.POD, "eviction")
        await self._inner.evict(ref, dry_run=dry_run)

    async def create(self, manifest: JsonObject, *, dry_run: bool = False) -> JsonObject:
        self._note("create", Kind(manifest["kind"]))
        return await self._inner.create(manifest, dry_run=dry_run)

    async def missing_right(self, permission: Permission, namespace: str) -> str:
        return await self._inner.missing_right(permission, namespace)

    async def zones(self) -> Mapping[str, DomainHealth]:
        return await self._inner.zones()

    def watch(self, kind: Kind, namespace: str = "") -> AsyncIterator[WatchEvent]:
        return self._inner.watch(kind, namespace)


@dataclass
class Recorder:
    """Outgoing HTTP that answers as told and remembers what was asked."""

    status: int = 200
    body: bytes = b"ok"
    asked: list[tuple[str, str, Mapping[str, str], bytes]] = field(default_factory=list)
    done: set[str] = field(default_factory=set)  #: idempotency keys that were seen

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout: float = 10.0,  # noqa: ASYNC109 - the port's own
    ) -> HttpAnswer:
        sent = dict(headers or {})
        self.asked.append((method, url, sent, body))
        if "Idempotency-Key" in sent:
            self.done.add(sent["Idempotency-Key"])
        if method == "GET":
            return HttpAnswer(200 if self.done else 404, self.body, 0.01)
        return HttpAnswer(self.status, self.body, 0.01)


@dataclass
class Stage:
    """Where one test acts."""

    inner: Cluster
    namespace: str
    clock: Clock
    alerts: Alerts
    real: Any = None  #: the bed's cluster, None on the fake one
    http: Recorder = field(default_factory=Recorder)
    extra: list[TargetRef] = field(default_factory=list)  #: cluster-scoped, to be removed

    def __post_init__(self) -> None:
        self.cluster = Recording(self.inner)

    def context(self, key: str = "r-1-s0", **changes: Any) -> ActionContext:
        """The world of one step."""
        values: dict[str, Any] = {
            "cluster": self.cluster, "alerts": self.alerts, "http": self.http, "key": key,
            "run_id": "r-1", "at": START, "timeout_seconds": 20.0, "clock": self.clock,
        }  # fmt: skip
        return ActionContext(**{**values, **changes})

    async def put(self, manifest: JsonObject) -> TargetRef:
        """Create an object, and its status where it has one."""
        status = manifest.pop("status", None)
        made = await self.inner.create(manifest)
        ref = ref_of(made, Kind(manifest["kind"]))
        if not ref.namespace:
            self.extra.append(ref)
        if status is not None:
            await self.inner.patch(ref, {"status": status}, PatchType.MERGE, subresource="status")
        return ref

    async def until(self, what: Callable[[], Awaitable[Any]], text: str) -> Any:
        """Wait for controllers; the fake's have always acted already."""
        end = self.clock.monotonic() + 30.0
        while not (found := await what()):
            assert self.real is not None, f"never {text}"
            assert self.clock.monotonic() < end, f"never {text}"
            await self.clock.sleep(0.1)
        return found

    async def clean(self) -> None:
        """Remove what is in no namespace."""
        for ref in self.extra:
            with suppress(NotFound):
                await self.inner.delete(ref)


def said(value: JsonObject) -> JsonObject:
    """What an object was told: without what the API server and controllers write."""
    head = dict(meta(value))
    for name in ("resourceVersion", "generation", "managedFields", "creationTimestamp"):
        head.pop(name, None)
    marks = {
        name: text
        for name, text in (head.pop("annotations", None) or {}).items()
        if not name.startswith(
            ("deployment.kubernetes.io/", "healer.dev/run", "deprecated.", "node.")
        )
    }
    if value.get("kind") == "Node":
        value = {**value, "spec": {k: v for k, v in value["spec"].items() if k != "taints"}}
    kept = {name: part for name, part in value.items() if name not in {"metadata", "status"}}
    out: JsonObject = json.loads(json.dumps({**kept, "metadata": head, "annotations": marks}))
    return out
