"""Objects of a fake cluster: versions, uids, generations, watches, and controllers that react."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from healer.domain.kinds import RESOURCES, is_namespaced
from healer.domain.manifests import controller_ref, meta, ref_of
from healer.domain.target import Kind, TargetRef
from healer.errors import Conflict, NotFound, Refused
from healer.kernel.clock import Clock, rfc3339
from healer.ports import JsonObject, WatchEvent, WatchKind
from healer.testing.controllers import CONTROLLED, owned, settle
from healer.testing.copying import copied


@dataclass(eq=False, slots=True)
class Subscription:
    """One watch's queue; None in it means: list anew."""

    kind: Kind
    namespace: str
    queue: asyncio.Queue[WatchEvent | None]


class KeptObjects:
    """Live objects, not copies: whoever gives them out copies them."""

    def __init__(self, clock: Clock, *, pods_start: bool) -> None:
        self.pods_start = pods_start
        self.rolling = False  #: Deployments replace their pods one by one, as these become ready
        self.used_names: set[str] = set()
        self.subscriptions: list[Subscription] = []
        self.version = 100
        self._clock = clock
        self._objects: dict[TargetRef, JsonObject] = {}
        self._uids = 0

    def of(self, kind: Kind, namespace: str = "") -> list[JsonObject]:
        """The live objects of a kind, for controllers; tests use `object` and `list`."""
        return [
            value
            for ref, value in list(self._objects.items())
            if ref.kind is kind and namespace in {"", ref.namespace}
        ]

    def put(self, value: JsonObject) -> JsonObject:
        """Store a new object or a new version of one, and tell the watches."""
        kind = Kind(value["kind"])
        head = value["metadata"]
        self.version += 1
        head["resourceVersion"] = str(self.version)
        if "uid" not in head:
            self._uids += 1
            head["uid"] = f"00000000-0000-4000-8000-{self._uids:012d}"
            head.setdefault("generation", 1)
            head.setdefault(
                "creationTimestamp", rfc3339(self._clock.now()).split(".")[0][:19] + "Z"
            )
        key = _key(ref_of(value, kind))
        event = WatchKind.MODIFIED if key in self._objects else WatchKind.ADDED
        self._objects[key] = value
        self._tell(event, key, value)
        return value

    def drop(self, value: JsonObject) -> None:
        """Remove an object and what it owns, and tell the watches."""
        key = _key(ref_of(value, Kind(value["kind"])))
        if self._objects.pop(key, None) is None:
            return
        self.version += 1
        self._tell(WatchKind.DELETED, key, value)
        for kind in Kind:
            for child in owned(self, kind, value):
                self.drop(child)

    def _tell(self, event: WatchKind, key: TargetRef, value: JsonObject) -> None:
        for watch in self.subscriptions:
            if watch.kind is key.kind and watch.namespace in {"", key.namespace}:
                watch.queue.put_nowait(WatchEvent(event, copied(value)))

    def make(self, value: JsonObject) -> JsonObject:
        """Store a new object as if it had been created now, and let controllers react."""
        kind = Kind(value["kind"])
        value.setdefault("apiVersion", RESOURCES[kind].api_version)
        head = value.setdefault("metadata", {})
        if is_namespaced(kind):
            head.setdefault("namespace", "default")
        self.put(value)
        self._settle(kind, value)
        return value

    def change(self, old: JsonObject, new: JsonObject) -> JsonObject:
        """Put `new` in the place of `old`; a change of its spec is a new generation."""
        if new == old:
            return old
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = int(meta(old).get("generation", 1)) + 1
        self.put(new)
        self._settle(Kind(new["kind"]), new)
        return new

    def delete(self, value: JsonObject) -> None:
        """Remove an object; its controller may replace it."""
        owner = controller_ref(value)
        self.drop(value)
        self._settle_owner(owner)

    def _settle(self, kind: Kind, value: JsonObject) -> None:
        if kind in CONTROLLED:
            settle(self, kind, value)
        self._settle_owner(controller_ref(value))

    def _settle_owner(self, owner: TargetRef | None) -> None:
        found = self._objects.get(_key(owner)) if owner is not None else None
        if owner is not None and found is not None and owner.kind in CONTROLLED:
            above = controller_ref(found)
            settle(self, owner.kind, found)
            self._settle_owner(above)

    def find(self, ref: TargetRef) -> JsonObject:
        """The live object. Raises NotFound."""
        value = self.look(ref)
        if value is None:
            raise NotFound(f"{ref} is not there")
        return value

    def look(self, ref: TargetRef) -> JsonObject | None:
        """The live object of that name, whatever its uid; None when there is none."""
        return self._objects.get(_key(ref))

    def incarnation(self, ref: TargetRef) -> JsonObject:
        """The live object with exactly the uid of `ref`. Raises NotFound, Conflict or Refused."""
        if not ref.uid:
            raise Refused(f"{ref} has no uid: only what was observed is deleted or evicted")
        value = self.find(ref)
        if meta(value)["uid"] != ref.uid:
            raise Conflict(f"{ref}: its uid is {meta(value)['uid']}, not {ref.uid}")
        return value

    def pods_of(self, top: JsonObject, kind: Kind) -> list[JsonObject]:
        """The pods that a workload owns, through its ReplicaSets or Jobs."""
        between = {Kind.DEPLOYMENT: Kind.REPLICA_SET, Kind.CRON_JOB: Kind.JOB}.get(kind)
        owners: Iterable[JsonObject] = [top] if between is None else owned(self, between, top)
        return [pod for owner in owners for pod in owned(self, Kind.POD, owner)]


def _key(ref: TargetRef) -> TargetRef:
    return ref.with_uid("")
