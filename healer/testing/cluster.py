"""A Kubernetes API server in memory: enough of one for the engine, held to the real one by tests.

It keeps uids, resourceVersions and generations, refuses what a real one refuses, replaces pods as
controllers do, tells watches, and fails exactly when it is told to.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from healer.domain.kinds import is_namespaced
from healer.domain.manifests import (
    controller_ref,
    counts_in_domain,
    hpa_for,
    is_bad,
    meta,
    ref_of,
    zone_label,
)
from healer.domain.target import DomainHealth, Kind, Observation, TargetRef
from healer.domain.workloads import Seen, observation
from healer.errors import Conflict, HealerError, Refused
from healer.kernel.clock import Clock
from healer.ports import JsonObject, PatchType, Permission, WatchEvent, WatchKind
from healer.testing.clock import FakeClock
from healer.testing.copying import copied
from healer.testing.disruption import ask_budgets
from healer.testing.kept_objects import KeptObjects, Subscription
from healer.testing.patches import merge
from healer.testing.selectors import fields_match, labels_match
from healer.testing.writing import patched, restricted, scale_of, validate


@dataclass(frozen=True, slots=True)
class Write:
    """One write that was asked for, whether or not it came through."""

    call: str  #: patch, delete, evict or create
    ref: TargetRef
    body: JsonObject | Sequence[JsonObject] | None = None
    subresource: str = ""
    dry_run: bool = False


@dataclass(slots=True)
class Hold:
    """A call that is held until it is let go."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let the call go on."""
        self.released.set()


@dataclass(frozen=True, slots=True)
class _Failure:
    error: HealerError
    after: bool


class FakeCluster:
    """Implements `healer.ports.Cluster`. Set it up with `add`, `change` and `remove`.

    With `pods_start` new pods of controllers are placed and ready at once, else they stay pending.
    """

    def __init__(self, clock: Clock | None = None, *, pods_start: bool = True) -> None:
        self.clock: Clock = clock or FakeClock()
        self.writes: list[Write] = []
        self.calls: Counter[str] = Counter()
        #: Rights that are missing; a namespace narrows one, empty means everywhere.
        self.denied: set[tuple[Permission, str]] = set()
        self._kept = KeptObjects(self.clock, pods_start=pods_start)
        self._failures: defaultdict[str, deque[_Failure]] = defaultdict(deque)
        self._holds: defaultdict[str, deque[Hold]] = defaultdict(deque)

    # ------------------------------------------------------------------ setting the stage

    @property
    def pods_start(self) -> bool:
        """Whether new pods of controllers are placed and ready at once."""
        return self._kept.pods_start

    @pods_start.setter
    def pods_start(self, value: bool) -> None:
        self._kept.pods_start = value

    def add(self, *values: JsonObject) -> TargetRef:
        """Add objects as if they had always been there; returns the last one with its uid."""
        ref = None
        for value in values:
            ref = ref_of(self._kept.make(copied(value)), Kind(value["kind"]))
        if ref is None:
            raise ValueError("add at least one object")
        return ref

    def change(self, ref: TargetRef, patch: JsonObject) -> JsonObject:
        """Change an object, status included, as the cluster itself would (merge patch)."""
        return copied(self._kept.change(self._kept.find(ref), merge(self._kept.find(ref), patch)))

    def remove(self, ref: TargetRef) -> None:
        """Make an object disappear; its controller may replace it."""
        self._kept.delete(self._kept.find(ref))

    def object(self, ref: TargetRef) -> JsonObject:
        """A copy of the object as it is. Raises NotFound."""
        return copied(self._kept.find(ref))

    def pods_of(self, owner: TargetRef) -> list[TargetRef]:
        """The pods of a workload by name, with uids."""
        pods = self._kept.pods_of(self._kept.find(owner), owner.kind)
        return sorted((ref_of(pod, Kind.POD) for pod in pods), key=lambda ref: ref.name)

    def fail_next(
        self, call: str, error: HealerError, *, times: int = 1, after: bool = False
    ) -> None:
        """Let the next calls fail; with `after` they take effect first: a lost answer."""
        self._failures[call].extend([_Failure(error, after)] * times)

    def hold_next(self, call: str) -> Hold:
        """Hold the next such call before it does anything, until it is released."""
        hold = Hold()
        self._holds[call].append(hold)
        return hold

    def break_watches(self) -> None:
        """Cut every watch: each lists anew, as after a 410."""
        for watch in self._kept.subscriptions:
            watch.queue.put_nowait(None)

    # ------------------------------------------------------------------ healer.ports.Cluster

    async def observe(self, ref: TargetRef) -> Observation:
        """One look at the object, its owner and the owner's pods. Raises NotFound."""
        await self._enter("observe")
        target = self._kept.find(ref)
        found: tuple[JsonObject, Kind] | None = None
        above = controller_ref(target)
        while above is not None and (owner := self._kept.look(above)) is not None:
            if meta(owner)["uid"] != above.uid:
                break
            found, above = (owner, above.kind), controller_ref(owner)
        top, kind = found or (target, ref.kind)
        zones = {meta(node)["name"]: zone_label(node) for node in self._kept.of(Kind.NODE)}
        seen = Seen(
            kind=ref.kind,
            target=copied(target),
            top=copied(found[0]) if found else None,
            top_kind=found[1] if found else None,
            pods=tuple(self._kept.pods_of(top, kind)),
            hpa=hpa_for(ref_of(top, kind), self._kept.of(Kind.HPA)),
        )
        self._leave("observe")
        return observation(seen, self.clock.now(), lambda node: zones.get(node, ""))

    async def get(self, ref: TargetRef) -> JsonObject:
        """The object as it is. Raises NotFound."""
        await self._enter("get")
        value = self.object(ref)
        self._leave("get")
        return value

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Sequence[JsonObject]:
        """Objects by label and field selector; an empty namespace is all namespaces."""
        await self._enter("list")
        found = [
            copied(value)
            for value in self._kept.of(kind, namespace)
            if labels_match(labels, meta(value).get("labels") or {}) and fields_match(fields, value)
        ]
        self._leave("list")
        return found

    async def patch(
        self,
        ref: TargetRef,
        body: JsonObject | Sequence[JsonObject],
        kind: PatchType,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> JsonObject:
        """Patch; a uid in `ref` is a precondition (Conflict)."""
        self.writes.append(Write("patch", ref, copied(body), subresource, dry_run))
        await self._enter("patch")
        value = self._kept.find(ref)
        if ref.uid and meta(value)["uid"] != ref.uid:
            raise Conflict(f"patch {ref}: its uid is {meta(value)['uid']}, not {ref.uid}")
        shown = scale_of(value) if subresource == "scale" else value
        changed = patched(shown, body, kind, ref)
        if meta(changed).get("uid") != meta(value)["uid"]:
            raise Conflict(f"patch {ref}: metadata.uid: field is immutable")
        if meta(changed).get("resourceVersion") != meta(value)["resourceVersion"]:
            raise Conflict(f"patch {ref}: the object has been modified")
        changed = restricted(value, changed, ref.kind, subresource)
        validate(changed, ref)
        if not dry_run:
            changed = self._kept.change(value, changed)
        self._leave("patch")
        return copied(scale_of(changed) if subresource == "scale" else changed)

    async def delete(
        self, ref: TargetRef, *, grace_seconds: int | None = None, dry_run: bool = False
    ) -> None:
        """Delete exactly the incarnation `ref.uid`. Raises NotFound or Conflict."""
        body = None if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        self.writes.append(Write("delete", ref, body, dry_run=dry_run))
        await self._enter("delete")
        value = self._kept.incarnation(ref)
        if not dry_run:
            self._kept.delete(value)
        self._leave("delete")

    async def evict(self, ref: TargetRef, *, dry_run: bool = False) -> None:
        """Evict a pod. Raises Throttled when a PodDisruptionBudget refuses it now."""
        self.writes.append(Write("evict", ref, dry_run=dry_run))
        await self._enter("evict")
        value = self._kept.incarnation(ref)
        ask_budgets(self._kept, value)
        if not dry_run:
            self._kept.delete(value)
        self._leave("evict")

    async def create(self, manifest: JsonObject, *, dry_run: bool = False) -> JsonObject:
        """Create; raises Conflict when the name is taken."""
        try:
            kind = Kind(str(manifest.get("kind", "")))
        except ValueError as error:
            raise Refused(f"create: healer knows no kind {manifest.get('kind')!r}") from error
        head = manifest.get("metadata") or {}
        ref = TargetRef(kind, head.get("name", ""), head.get("namespace", ""))
        self.writes.append(Write("create", ref, copied(manifest), dry_run=dry_run))
        await self._enter("create")
        if is_namespaced(kind) and not ref.namespace:
            raise Refused(f"create {ref}: the manifest names no namespace; a {kind} lives in one")
        if not ref.name:
            raise Refused(f"create {ref}: the manifest names no name")
        if self._kept.look(ref) is not None:
            raise Conflict(f"create {ref}: it already exists")
        value = copied(manifest)
        if not dry_run:
            value = self._kept.make(value)
        self._leave("create")
        return copied(value)

    async def missing_right(self, permission: Permission, namespace: str) -> str:
        """Empty unless the right is in `denied`."""
        await self._enter("missing_right")
        self._leave("missing_right")
        if self.denied & {(permission, namespace), (permission, "")}:
            return f"{permission} in namespace {namespace}"
        return ""

    async def zones(self) -> Mapping[str, DomainHealth]:
        """Pods and bad pods per zone."""
        await self._enter("zones")
        now = self.clock.now()
        zone_of = {meta(node)["name"]: zone_label(node) for node in self._kept.of(Kind.NODE)}
        total: Counter[str] = Counter()
        bad: Counter[str] = Counter()
        for pod in self._kept.of(Kind.POD):
            if counts_in_domain(pod, now):
                zone = zone_of.get((pod.get("spec") or {}).get("nodeName") or "", "")
                total[zone] += 1
                bad[zone] += is_bad(pod, now)
        self._leave("zones")
        return {zone: DomainHealth(zone, total[zone], bad[zone]) for zone in total}

    async def watch(self, kind: Kind, namespace: str = "") -> AsyncIterator[WatchEvent]:
        """List, then follow; `break_watches` makes it list anew."""
        queue: asyncio.Queue[WatchEvent | None] = asyncio.Queue()
        watch = Subscription(kind, namespace, queue)
        self._kept.subscriptions.append(watch)
        try:
            while True:
                await self._enter("watch")
                while not queue.empty():
                    queue.get_nowait()
                listed = copied(self._kept.of(kind, namespace))
                keys = [(meta(v).get("namespace", ""), meta(v)["name"]) for v in listed]
                head = {"resourceVersion": str(self._kept.version)}
                for value in listed:
                    yield WatchEvent(WatchKind.ADDED, value)
                yield WatchEvent(WatchKind.SYNCED, {"keys": keys, "metadata": head})
                while (event := await queue.get()) is not None:
                    yield event
        finally:
            self._kept.subscriptions.remove(watch)

    # ------------------------------------------------------------------ scripted trouble

    async def _enter(self, call: str) -> None:
        self.calls[call] += 1
        if self._holds[call]:
            hold = self._holds[call].popleft()
            hold.reached.set()
            await hold.released.wait()
        if self._failures[call] and not self._failures[call][0].after:
            raise self._failures[call].popleft().error

    def _leave(self, call: str) -> None:
        if self._failures[call] and self._failures[call][0].after:
            raise self._failures[call].popleft().error
