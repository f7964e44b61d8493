"""`healer.ports.Cluster` over one real API server."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self, TypedDict

from healer.clients.kube.caching import Kept
from healer.clients.kube.connection import FIELD_MANAGER, Connection
from healer.clients.kube.errors import Call
from healer.clients.kube.observing import Observer
from healer.clients.kube.paths import collection_path, object_path
from healer.clients.kube.reading import (
    Reader,
    begun_again,
    decode,
    decode_as,
    describe,
    place_of,
)
from healer.clients.kube.watching import SILENCE_SECONDS, Watch
from healer.domain.kinds import RESOURCES, Resource, group_of, is_namespaced
from healer.domain.manifests import counts_in_domain, is_bad, meta
from healer.domain.target import DomainHealth, Kind, Observation, TargetRef
from healer.errors import Conflict, Refused
from healer.kernel.clock import Clock
from healer.ports import JsonObject, PatchType, Permission, WatchEvent

ZONES_SECONDS = 5.0
RIGHTS_SECONDS = 60.0

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class _PodMeta(TypedDict, total=False):
    creationTimestamp: str | None
    deletionTimestamp: str | None


class _PodSpec(TypedDict, total=False):
    nodeName: str


class _PodCondition(TypedDict, total=False):
    type: str
    status: str
    lastTransitionTime: str | None


class _PodContainer(TypedDict, total=False):
    restartCount: int


class _PodStatus(TypedDict, total=False):
    phase: str
    conditions: list[_PodCondition]
    containerStatuses: list[_PodContainer]


class _CountedPod(TypedDict, total=False):
    """What counting needs of a pod; the rest of its JSON is never built."""

    metadata: _PodMeta
    spec: _PodSpec
    status: _PodStatus


class KubeCluster:
    """The API server, as the engine may use it."""

    def __init__(
        self, connection: Connection, clock: Clock, *, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._silence = silence_seconds
        self._reader = Reader(connection)
        self._observer = Observer(self._reader, clock)
        self._zones: Kept[None, Mapping[str, DomainHealth]] = Kept(
            clock, ZONES_SECONDS, self._count_zones
        )
        self._rights: Kept[tuple[Permission, str], str] = Kept(
            clock, RIGHTS_SECONDS, self._review_right
        )

    @classmethod
    async def open(
        cls,
        clock: Clock,
        *,
        kubeconfig: str = "",
        context: str = "",
        timeout_seconds: float = 10.0,
    ) -> Self:
        """The cluster that `find_access` finds; nothing is sent yet. Raises ConfigError."""
        connection = await Connection.open(
            clock, kubeconfig=kubeconfig, context=context, timeout_seconds=timeout_seconds
        )
        return cls(connection, clock)

    async def close(self) -> None:
        """Close every connection."""
        await self._observer.close()
        await self._zones.close()
        await self._rights.close()
        await self._connection.close()

    async def version(self) -> str:
        """The API server's own version, `v1.36.3`; also the cheapest proof that it answers."""
        call = Call("get", "/version")
        return str(decode(call, await self._connection.call("GET", "/version", call))["gitVersion"])

    async def observe(self, ref: TargetRef) -> Observation:
        """One fresh look at the object, its owner and the owner's pods. Raises NotFound."""
        return await self._observer.observe(ref)

    async def get(self, ref: TargetRef) -> JsonObject:
        """The object as it is. Raises NotFound."""
        return await self._reader.get(ref)

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Sequence[JsonObject]:
        """Objects by label and field selector; an empty namespace is all namespaces."""
        return await self._reader.list(kind, namespace, labels=labels, fields=fields)

    async def patch(
        self,
        ref: TargetRef,
        body: JsonObject | Sequence[JsonObject],
        kind: PatchType,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> JsonObject:
        """Patch; a uid in `ref` is sent along, so another incarnation is refused (Conflict)."""
        what = describe("patch", ref.kind, place_of(ref)).what
        if subresource:
            what = what.replace(" ", f"/{subresource} ", 1)
        sent = with_uid(ref, body, kind)
        tests = isinstance(sent, list) and any(step.get("op") == "test" for step in sent)
        call = Call("patch", what, writes=not dry_run, tests=tests)
        content = await self._connection.call(
            "PATCH",
            object_path(ref, subresource),
            call,
            query=_write_query(dry_run),
            body=sent,
            content_type=kind,
        )
        return decode(call, content)

    async def delete(
        self, ref: TargetRef, *, grace_seconds: int | None = None, dry_run: bool = False
    ) -> None:
        """Delete exactly the incarnation `ref.uid`. Raises NotFound when it is already gone and
        Conflict when another one has its name."""
        _demand_uid(ref, "deleted")
        # Without a policy the API server would leave the pods of a deleted Job running.
        body: JsonObject = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": ref.uid},
            "propagationPolicy": "Background",
        }
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        if dry_run:
            body["dryRun"] = ["All"]
        call = describe("delete", ref.kind, place_of(ref), writes=not dry_run)
        await self._connection.call("DELETE", object_path(ref), call, body=body)

    async def evict(self, ref: TargetRef, *, dry_run: bool = False) -> None:
        """Evict a pod through the Eviction API. Raises Throttled when a PDB refuses it now."""
        _demand_uid(ref, "evicted")
        # Asked to evict another incarnation, the API server repeats it for ten seconds before it
        # says so (seen on 1.36): look first, and send the precondition for the moment between.
        found = meta(await self._reader.get(ref)).get("uid")
        if found != ref.uid:
            raise Conflict(f"evict {ref}: it is another pod now (uid {found}, not {ref.uid})")
        what = f"pods/eviction {place_of(ref)}"
        call = Call("create", what, writes=not dry_run)
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": ref.name, "namespace": ref.namespace},
            "deleteOptions": {"preconditions": {"uid": ref.uid}},
        }
        path = object_path(ref, "eviction")
        await self._connection.call("POST", path, call, query=_write_query(dry_run), body=body)

    async def create(self, manifest: JsonObject, *, dry_run: bool = False) -> JsonObject:
        """Create; raises Conflict when the name is taken."""
        ref, served = named_by(manifest)
        what = f"{served} {place_of(ref)}"
        call = Call("create", what, writes=not dry_run)
        content = await self._connection.call(
            "POST",
            collection_path(ref.kind, ref.namespace, served),
            call,
            query=_write_query(dry_run),
            body=manifest,
        )
        return decode(call, content)

    async def missing_right(self, permission: Permission, namespace: str) -> str:
        """Empty when we may; else what is missing, in words. Cached for a minute."""
        return await self._rights.get((permission, namespace))

    async def zones(self) -> Mapping[str, DomainHealth]:
        """Pods and bad pods per zone, at most 5 seconds old. Raises when it cannot be counted.

        Pods without a node, and all of them where nodes name no zone, are under the empty name.
        """
        return await self._zones.get(None)

    def watch(self, kind: Kind, namespace: str = "") -> AsyncIterator[WatchEvent]:
        """List, then follow for ever: relists by itself after 410, disconnects and silence."""
        return Watch(
            self._connection, self._clock, kind, namespace, silence_seconds=self._silence
        ).events()

    async def _count_zones(self, _: None) -> Mapping[str, DomainHealth]:
        call = describe("list", Kind.POD, "")

        async def by_node() -> tuple[Counter[str], Counter[str]]:
            total: Counter[str] = Counter()
            bad: Counter[str] = Counter()
            async for page in self._reader.pages(Kind.POD):
                now = self._clock.now()
                for raw in page.items:
                    pod: Mapping[str, Any] = decode_as(call, raw, _CountedPod)
                    if counts_in_domain(pod, now):
                        node = (pod.get("spec") or {}).get("nodeName") or ""
                        total[node] += 1
                        bad[node] += is_bad(pod, now)
            return total, bad

        total, bad = await begun_again(by_node)
        zone_of = await self._observer.zones_of(set(total))
        sums: dict[str, DomainHealth] = {}
        for node, count in total.items():
            zone = zone_of.get(node, "")
            so_far = sums.get(zone, DomainHealth(zone, 0, 0))
            sums[zone] = DomainHealth(zone, so_far.total + count, so_far.bad + bad[node])
        return sums

    async def _review_right(self, key: tuple[Permission, str]) -> str:
        permission, namespace = key
        attributes = {
            "verb": permission.verb,
            "group": permission.group,
            "resource": permission.resource,
            "subresource": permission.subresource,
            "namespace": namespace,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {k: v for k, v in attributes.items() if v}},
        }
        call = Call("create", "selfsubjectaccessreviews.authorization.k8s.io")
        content = await self._connection.call("POST", _REVIEWS, call, body=review)
        status = decode(call, content).get("status") or {}
        if status.get("allowed"):
            return ""
        place = f"in namespace {namespace}" if namespace else "in the whole cluster"
        said = status.get("reason") or status.get("evaluationError")
        return f"{permission} {place}" + (f" ({said})" if said else "")


def with_uid(
    ref: TargetRef, body: JsonObject | Sequence[JsonObject], kind: PatchType
) -> JsonObject | list[JsonObject]:
    """The patch with the precondition that it is still the incarnation `ref.uid`, if that is set.

    Raises Refused when the body is not of the patch type.
    """
    if kind is PatchType.JSON:
        if isinstance(body, dict):
            raise Refused(f"patch {ref}: a JSON patch is a list of operations, this is an object")
        steps = list(body)
        test = {"op": "test", "path": "/metadata/uid", "value": ref.uid}
        return [test, *steps] if ref.uid else steps
    if not isinstance(body, dict):
        raise Refused(f"patch {ref}: a {kind.name.lower()} patch is an object, this is a list")
    if not ref.uid:
        return body
    return {**body, "metadata": {**(body.get("metadata") or {}), "uid": ref.uid}}


def named_by(manifest: JsonObject) -> tuple[TargetRef, Resource]:
    """What a manifest would create, and where. Raises Refused for a kind healer cannot name."""
    try:
        kind = Kind(str(manifest.get("kind", "")))
    except ValueError as error:
        raise Refused(
            f"create: healer knows no kind {manifest.get('kind')!r}; one of {', '.join(Kind)}"
        ) from error
    head = manifest.get("metadata") or {}
    api_version = str(manifest.get("apiVersion") or RESOURCES[kind].api_version)
    group, version = group_of(api_version), api_version.rpartition("/")[2]
    ref = TargetRef(kind, str(head.get("name") or ""), str(head.get("namespace") or ""))
    if is_namespaced(kind) and not ref.namespace:
        raise Refused(f"create {ref}: the manifest names no namespace; a {kind} lives in one")
    return ref, Resource(group, version, RESOURCES[kind].plural)


def _demand_uid(ref: TargetRef, done: str) -> None:
    if not ref.uid:
        raise Refused(f"{ref} has no uid: only what was observed is {done}; observe it first")


def _write_query(dry_run: bool) -> dict[str, str]:
    query = {"fieldManager": FIELD_MANAGER}
    return query | {"dryRun": "All"} if dry_run else query
