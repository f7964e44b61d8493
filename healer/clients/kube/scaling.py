"""`scalers.ports.Workloads` on the API server: replicas, rollouts, scalers and time to ready."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Self

from healer.clients.kube.connection import Connection
from healer.clients.kube.errors import Call
from healer.clients.kube.reading import PAGE, decode
from healer.errors import HealerError, NotFound
from healer.kernel.clock import Clock, parse_rfc3339
from healer.ports import Permission
from scalers.policy import Workload
from scalers.ports import Scaler, SourceError, Standing

Json = Mapping[str, Any]

#: What it needs in the namespaces of the policies.
LOOK = (
    Permission("list", "deployments", "apps"),
    Permission("list", "statefulsets", "apps"),
    Permission("list", "pods"),
    Permission("list", "horizontalpodautoscalers", "autoscaling"),
    Permission("list", "scaledobjects", "keda.sh"),
)
PARALLEL = 8
_PLURALS = {("apps/v1", "Deployment"): "deployments", ("apps/v1", "StatefulSet"): "statefulsets"}
_HPAS = ("autoscaling/v2", "horizontalpodautoscalers")
_SCALED_OBJECTS = ("keda.sh/v1alpha1", "scaledobjects")
_PODS = ("v1", "pods")


class KubeWorkloads:
    """Lists, one for each kind and namespace; other kinds by their scale subresource."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._plurals: dict[tuple[str, str], str] = dict(_PLURALS)

    @classmethod
    async def open(cls, clock: Clock, *, kubeconfig: str = "", context: str = "") -> Self:
        """On the API server that `find_access` finds; nothing is sent yet. Raises ConfigError."""
        return cls(await Connection.open(clock, kubeconfig=kubeconfig, context=context))

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def look(self, workloads: Sequence[Workload]) -> Mapping[Workload, Standing]:
        """See the port."""
        try:
            return await self._look(workloads)
        except HealerError as error:
            raise SourceError(f"the API server cannot be asked: {error}") from error

    async def _look(self, workloads: Sequence[Workload]) -> Mapping[Workload, Standing]:
        wanted: set[tuple[str, str, str]] = set()
        singles: list[Workload] = []
        for one in workloads:
            known = _PLURALS.get((one.api_version, one.kind))
            if known is None:
                singles.append(one)
            else:
                wanted.add((one.api_version, known, one.namespace))
            for api, plural in (_HPAS, _SCALED_OBJECTS, _PODS):
                wanted.add((api, plural, one.namespace))
        gate = asyncio.Semaphore(PARALLEL)
        lists = dict(
            zip(
                sorted(wanted),
                await asyncio.gather(*(self._list(*one, gate) for one in sorted(wanted))),
                strict=True,
            )
        )
        scales = dict(
            zip(
                singles,
                await asyncio.gather(*(self._scale(one, gate) for one in singles)),
                strict=True,
            )
        )
        indexed = {
            key: {str(item["metadata"]["name"]): item for item in items}
            for key, items in lists.items()
        }
        scalers = {
            namespace: _scalers(lists[*_HPAS, namespace], lists[*_SCALED_OBJECTS, namespace])
            for namespace in {one.namespace for one in workloads}
        }
        ready = {
            namespace: _became_ready(lists[*_PODS, namespace])
            for namespace in {one.namespace for one in workloads}
        }
        found: dict[Workload, Standing] = {}
        for one in workloads:
            listed = _PLURALS.get((one.api_version, one.kind))
            if listed is None:
                item: Json | None = scales[one]
            else:
                item = indexed[one.api_version, listed, one.namespace].get(one.name)
            found[one] = _standing(
                one,
                item,
                tuple(scalers[one.namespace].get((one.kind, one.name), ())),
                tuple(ready[one.namespace].get((one.kind, one.name), ())),
            )
        return found

    async def _list(
        self, api: str, plural: str, namespace: str, gate: asyncio.Semaphore
    ) -> list[Json]:
        call = Call("list", f"{plural}.{api.split('/', maxsplit=1)[0]} {namespace}")
        path = f"{_prefix(api)}/namespaces/{namespace}/{plural}"
        query = {"limit": str(PAGE)}
        items: list[Json] = []
        while True:
            try:
                async with gate:
                    content = await self._connection.call("GET", path, call, query=query)
            except NotFound:
                if (api, plural) == _SCALED_OBJECTS:
                    return []  # KEDA is not installed
                raise
            answer = decode(call, content)
            items += answer.get("items") or []
            more = str((answer.get("metadata") or {}).get("continue") or "")
            if not more:
                return items
            query["continue"] = more

    async def _scale(self, one: Workload, gate: asyncio.Semaphore) -> Json | None:
        """The scale subresource of another kind; None when there is no such object."""
        async with gate:
            plural = await self._plural(one)
            if not plural:
                return None
            call = Call("get", f"{plural}/scale {one.namespace}/{one.name}")
            path = f"{_prefix(one.api_version)}/namespaces/{one.namespace}/{plural}/{one.name}"
            try:
                return decode(call, await self._connection.call("GET", f"{path}/scale", call))
            except NotFound:
                return None

    async def _plural(self, one: Workload) -> str:
        key = (one.api_version, one.kind)
        if key not in self._plurals:
            call = Call("discover", one.api_version)
            try:
                content = await self._connection.call("GET", _prefix(one.api_version), call)
            except NotFound:
                return ""
            for resource in decode(call, content).get("resources") or ():
                if resource.get("kind") == one.kind and "/" not in resource["name"]:
                    self._plurals[key] = str(resource["name"])
        return self._plurals.get(key, "")


def _prefix(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _standing(
    one: Workload,
    item: Json | None,
    scalers: tuple[Scaler, ...],
    ready: tuple[tuple[str, float, float], ...],
) -> Standing:
    if item is None:
        told = f"there is no {one}; check kind, apiVersion and name in the policy"
        return Standing(None, scalers=scalers, missing=told)
    spec, status = item.get("spec") or {}, item.get("status") or {}
    return Standing(
        int(spec.get("replicas") or 0 if "replicas" in spec else 1),
        status.get("readyReplicas"),
        _rollout(status),
        scalers,
        ready,
    )


def _rollout(status: Json) -> str:
    """What is being rolled out: pods of an older revision are still there."""
    there, updated = int(status.get("replicas") or 0), status.get("updatedReplicas")
    if updated is None and "updateRevision" not in status:
        return ""  # a scale subresource tells nothing of it, and a new object has no pods
    if status.get("updateRevision", 0) == status.get("currentRevision", 1):
        return ""
    if int(updated or 0) < there:
        return f"{updated or 0} of {there} pods are of the new revision"
    return ""


def _scalers(
    hpas: Iterable[Json], scaled_objects: Iterable[Json]
) -> dict[tuple[str, str], list[Scaler]]:
    """By kind and name of what they scale."""
    found: dict[tuple[str, str], list[Scaler]] = {}
    for item in hpas:
        reference = item["spec"]["scaleTargetRef"]
        owners = item["metadata"].get("ownerReferences") or ()
        owner = next((f"{o['kind']} {o['name']}" for o in owners if o.get("controller")), "")
        metrics = tuple(
            str(each[kind]["metric"]["name"])
            for each in item["spec"].get("metrics") or ()
            for kind in ("external", "object")
            if kind in each
        )
        scaler = Scaler("HorizontalPodAutoscaler", item["metadata"]["name"], metrics, owner)
        found.setdefault((reference["kind"], reference["name"]), []).append(scaler)
    for item in scaled_objects:
        reference = (item.get("spec") or {}).get("scaleTargetRef") or {}
        urls = tuple(
            str((each.get("metadata") or {}).get("url", ""))
            for each in item["spec"].get("triggers") or ()
        )
        scaler = Scaler("ScaledObject", item["metadata"]["name"], urls)
        target = (reference.get("kind") or "Deployment", str(reference.get("name", "")))
        found.setdefault(target, []).append(scaler)
    return found


def _became_ready(
    pods: Collection[Json],
) -> dict[tuple[str, str], list[tuple[str, float, float]]]:
    """By the Deployment or StatefulSet behind them: pods that are ready since their first start."""
    found: dict[tuple[str, str], list[tuple[str, float, float]]] = {}
    for pod in pods:
        meta, status = pod["metadata"], pod.get("status") or {}
        owner = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), None)
        since = next(
            (
                c.get("lastTransitionTime")
                for c in status.get("conditions") or ()
                if c.get("type") == "Ready" and c.get("status") == "True"
            ),
            None,
        )
        restarts = sum(
            int(c.get("restartCount") or 0) for c in status.get("containerStatuses") or ()
        )
        if owner is None or since is None or restarts:
            continue
        kind, name = str(owner["kind"]), str(owner["name"])
        template = (meta.get("labels") or {}).get("pod-template-hash")
        if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
            kind, name = "Deployment", name.removesuffix(f"-{template}")
        at = parse_rfc3339(since)
        took = at - parse_rfc3339(meta["creationTimestamp"])
        found.setdefault((kind, name), []).append((str(meta["uid"]), at, took))
    return found
