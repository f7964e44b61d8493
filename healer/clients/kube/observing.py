"""One fresh look at a target with as few requests, and as few rounds of them, as it takes.

A pod whose ReplicaSet is known takes three requests in two rounds: the pod; its Deployment and the
Deployment's pods need each other's answer only through the selector, which cannot change.
"""

from collections.abc import Mapping
from typing import Any

from healer.clients.kube.caching import Kept
from healer.clients.kube.reading import METADATA, METADATA_LIST, Reader, together
from healer.domain.kinds import RESOURCES
from healer.domain.manifests import controller_ref, hpa_for, meta, ref_of, selector_text, zone_label
from healer.domain.target import Kind, Observation, TargetRef
from healer.domain.workloads import Seen, observation
from healer.errors import NotFound, Refused
from healer.kernel.clock import Clock
from healer.ports import JsonObject, Permission

#: A node does not move to another zone.
NODES_SECONDS = 60.0
#: A node that is not among the known ones is looked for this often.
UNKNOWN_NODE_SECONDS = 1.0
#: An autoscaler is rarely made just before an alert.
HPAS_SECONDS = 5.0
#: A ReplicaSet does not change hands.
OWNERS_SECONDS = 300.0

SCALABLE = frozenset({Kind.DEPLOYMENT, Kind.REPLICA_SET, Kind.STATEFUL_SET})
_WITH_PODS = SCALABLE | {Kind.DAEMON_SET, Kind.JOB, Kind.CRON_JOB}
_JOB_LABEL = "batch.kubernetes.io/controller-uid"

#: What looking itself needs, whatever the playbooks do; the target's own kind comes on top.
RIGHTS = tuple(
    Permission(verb, RESOURCES[kind].plural, RESOURCES[kind].group)
    for kind, verb in (
        (Kind.POD, "get"), (Kind.POD, "list"), (Kind.NODE, "list"), (Kind.REPLICA_SET, "get"),
        (Kind.REPLICA_SET, "list"), (Kind.DEPLOYMENT, "get"), (Kind.STATEFUL_SET, "get"),
        (Kind.DAEMON_SET, "get"), (Kind.JOB, "get"), (Kind.JOB, "list"), (Kind.CRON_JOB, "get"),
        (Kind.HPA, "list"),
    )
)  # fmt: skip

_Found = tuple[JsonObject, Kind] | None


class Observer:
    """Looks at targets. The target, its owner and its pods are always read anew."""

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._zones: Kept[None, dict[str, str]] = Kept(clock, NODES_SECONDS, self._read_zones)
        self._hpas: Kept[str, list[JsonObject]] = Kept(clock, HPAS_SECONDS, self._read_hpas)
        self._owners: Kept[TargetRef, TargetRef | None] = Kept(
            clock, OWNERS_SECONDS, self._read_owner, ahead=False
        )
        self._selectors: dict[str, str] = {}  #: of Deployments, by uid: immutable in apps/v1

    async def close(self) -> None:
        """End what is under way in the background."""
        await self._zones.close()
        await self._hpas.close()

    async def observe(self, ref: TargetRef) -> Observation:
        """One fresh look. Raises NotFound."""
        at = self._clock.now()
        scalable = ref.kind in SCALABLE or ref.kind is Kind.POD
        target, _, hpas = await together(
            self._reader.get(ref),
            self._zones.get(None),
            self._hpas.get(ref.namespace) if scalable else _nothing(),
        )
        found, pods = await self._owner_and_pods(target, ref.kind)
        top, kind = found or (target, ref.kind)
        nodes = {str((pod.get("spec") or {}).get("nodeName") or "") for pod in (target, *pods)}
        zones = await self.zones_of(nodes)
        seen = Seen(
            kind=ref.kind,
            target=target,
            top=found[0] if found else None,
            top_kind=found[1] if found else None,
            pods=tuple(pods),
            hpa=hpa_for(ref_of(top, kind), hpas),
        )
        return observation(seen, at, lambda node: zones.get(node, ""))

    async def zones_of(self, nodes: set[str]) -> Mapping[str, str]:
        """Node name → zone for at least these nodes, as far as they exist."""
        zones = await self._zones.get(None)
        if nodes - {""} <= zones.keys():
            return zones
        return await self._zones.get(None, no_older_than=UNKNOWN_NODE_SECONDS)

    async def _owner_and_pods(
        self, target: JsonObject, kind: Kind
    ) -> tuple[_Found, list[JsonObject]]:
        owner = controller_ref(target)
        if owner is not None and owner.kind is Kind.REPLICA_SET:
            above = await self._owners.get(owner)
            selector = self._selectors.get(above.uid) if above is not None else None
            if above is not None and selector:
                # Both at once; the pods count only if the Deployment is still that one.
                deployment, listed = await together(
                    self._get_if(above),
                    self._reader.list(Kind.POD, above.namespace, labels=selector),
                )
                if deployment is not None:
                    pods = await self._of_deployment(deployment, listed, selector)
                    return (deployment, Kind.DEPLOYMENT), pods
        found = await self._climb(target)
        top, top_kind = found or (target, kind)
        return found, await self._pods_of(top, top_kind)

    async def _climb(self, value: JsonObject) -> _Found:
        found: _Found = None
        for _ in range(5):  # no known kind is nested deeper; a cycle must not hold us
            above = controller_ref(value)
            if above is not None and above.kind is Kind.REPLICA_SET:
                above = await self._owners.get(above) or above
            owner = await self._get_if(above) if above is not None else None
            if above is None or owner is None:
                return found
            value, found = owner, (owner, above.kind)
        return found

    async def _get_if(self, ref: TargetRef) -> JsonObject | None:
        # A pod can outlive its owner for a moment; then it has none any more.
        try:
            value = await self._reader.get(ref)
        except NotFound:
            return None
        return value if meta(value).get("uid") == ref.uid else None

    async def _pods_of(self, top: JsonObject, kind: Kind) -> list[JsonObject]:
        head = meta(top)
        if kind not in _WITH_PODS:
            return []
        if kind is Kind.CRON_JOB:
            jobs = [
                str(meta(job)["uid"])
                for job in await self._reader.list(
                    Kind.JOB, head["namespace"], accept=METADATA_LIST
                )
                if _controlled(job, {str(head["uid"])})
            ]
            if not jobs:
                return []
            selector = f"{_JOB_LABEL} in ({','.join(jobs)})"
            listed = await self._reader.list(Kind.POD, head["namespace"], labels=selector)
            return [pod for pod in listed if _controlled(pod, set(jobs))]
        try:
            selector = selector_text((top.get("spec") or {}).get("selector") or {})
        except ValueError as error:
            raise Refused(f"{ref_of(top, kind)}: {error}; give it a selector") from error
        listed = await self._reader.list(Kind.POD, head["namespace"], labels=selector)
        if kind is Kind.DEPLOYMENT:
            return await self._of_deployment(top, listed, selector)
        return [pod for pod in listed if _controlled(pod, {str(head["uid"])})]

    async def _of_deployment(
        self, deployment: JsonObject, listed: list[JsonObject], selector: str
    ) -> list[JsonObject]:
        # A selector alone can match another's pods, so the chain of owners decides.
        head = meta(deployment)
        self._selectors[str(head["uid"])] = selector
        if len(self._selectors) > 4096:
            self._selectors.pop(next(iter(self._selectors)))
        owners = {owner for pod in listed if (owner := controller_ref(pod)) is not None}
        replica_sets = {owner for owner in owners if owner.kind is Kind.REPLICA_SET}
        above = await together(*(self._owners.get(owner) for owner in replica_sets))
        ours = {
            owner.uid
            for owner, top in zip(replica_sets, above, strict=True)
            if top is not None and top.uid == head["uid"]
        }
        return [pod for pod in listed if _controlled(pod, ours)]

    async def _read_owner(self, ref: TargetRef) -> TargetRef | None:
        try:
            value = await self._reader.get(ref, accept=METADATA)
        except NotFound:
            return None
        return controller_ref(value) if meta(value).get("uid") == ref.uid else None

    async def _read_zones(self, _: None) -> dict[str, str]:
        nodes = await self._reader.list(Kind.NODE, accept=METADATA_LIST)
        return {str(meta(node)["name"]): zone_label(node) for node in nodes}

    async def _read_hpas(self, namespace: str) -> list[JsonObject]:
        return await self._reader.list(Kind.HPA, namespace)


async def _nothing() -> list[Any]:
    return []


def _controlled(value: JsonObject, uids: set[str]) -> bool:
    owners = meta(value).get("ownerReferences") or ()
    return any(owner.get("controller") and owner.get("uid") in uids for owner in owners)
