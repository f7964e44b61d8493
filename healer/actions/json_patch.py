"""json_patch: a change that no other action knows, guarded by `test` operations."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import Pointer
from healer.actions.objects import already, applied, fetch, fetch_if_there
from healer.actions.pointer import ABSENT, patched, resolve
from healer.actions.rights import among, each
from healer.domain.manifests import meta
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Conflict, Refused
from healer.ports import JsonObject, PatchType, Permission

#: Records, and the objects through which rights are given out.
REFUSED_KINDS = frozenset({
    Kind.EVENT, Kind.ENDPOINT_SLICE, Kind.CONTROLLER_REVISION, Kind.NAMESPACE,
})  # fmt: skip
#: Where a patch may change something; `status` belongs to controllers.
CHANGEABLE = ("/spec/", "/data/", "/metadata/labels/", "/metadata/annotations/")
#: Parts of a pod template through which a patch could give a workload more rights or other
#: people's secrets, and of a Service through which it could take other people's traffic.
FORBIDDEN_PARTS = frozenset({
    "serviceAccountName", "serviceAccount", "automountServiceAccountToken", "securityContext",
    "privileged", "hostPath", "hostNetwork", "hostPID", "hostIPC", "hostUsers", "hostPort",
    "hostAliases", "nodeName", "runtimeClassName", "shareProcessNamespace", "ephemeralContainers",
    "secret", "secretName", "secretRef", "secretKeyRef", "imagePullSecrets", "projected", "csi",
    "flexVolume", "externalIPs", "externalName",
})  # fmt: skip
#: A patch that takes one of these away, or writes it anew, drops the restrictions in it too.
WHOLE_PARTS = re.compile(
    r"/spec/template(/spec)?|/spec/jobTemplate(/spec(/template(/spec)?)?)?"
    r"|(/spec/jobTemplate)?(/spec/template)?/spec/(initContainers|containers)(/[^/]+)?"
)
#: Annotations that a controller runs as its own configuration (ingress-nginx CVE-2021-25742).
_SNIPPET = re.compile(r"snippet|auth-url|/lua|apparmor|seccomp|default-container", re.IGNORECASE)


class Operation(Params):
    """One operation of a JSON patch (RFC 6902)."""

    op: Literal["test", "add", "replace", "remove"]
    path: Pointer
    value: Any = None


class JsonPatchParams(Params):
    """The operations, in order."""

    patch: Annotated[tuple[Operation, ...], Field(min_length=1, max_length=50)]

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        changes = [operation for operation in self.patch if operation.op != "test"]
        if not changes:
            raise ValueError("a patch of only `test` operations changes nothing")
        for operation in changes:
            if not operation.path.startswith(CHANGEABLE):
                raise ValueError(f"{operation.path} is outside {', '.join(CHANGEABLE)}")
            if WHOLE_PARTS.fullmatch(operation.path):
                raise ValueError(
                    f"{operation.path} holds what restricts the pod; name the part that changes"
                )
            if operation.path.startswith("/metadata/annotations/") and _SNIPPET.search(
                operation.path
            ):
                raise ValueError(f"{operation.path} is configuration that a controller runs")
            named = {*operation.path.split("/"), *_keys(operation.value)} & FORBIDDEN_PARTS
            if named:
                raise ValueError(f"{operation.path} may not change {', '.join(sorted(named))}")
        return self


class JsonPatch:
    """Sends the patch with a test of the uid and of every value it changes."""

    name: ClassVar[str] = "json_patch"
    summary: ClassVar[str] = "Change any listed object by a JSON patch with test operations."
    params: ClassVar[type[Params]] = JsonPatchParams
    kinds: ClassVar[frozenset[Kind]] = frozenset(Kind) - REFUSED_KINDS
    action_class: ClassVar[str] = "patch"
    idempotent: ClassVar[bool] = False
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "the values it sets; those it found before mean not done"
    undone_by: ClassVar[str] = "puts back every value, if nobody changed one since"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch the target's kind."""
        return each(among(kind, self.kinds), "get", "patch")

    def cost(self, params: Any, seen: Observation) -> int:
        """One, so that it is budgeted."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """The values before and after, and the way back. Refuses when a test fails."""
        found = await fetch(ctx.cluster, seen.ref)
        patch = _plain(params)
        after, back = patched(found, patch)
        if after == found:
            raise Refused(f"the patch would change nothing of {seen.ref}")
        touched = [entry["path"] for entry in back]
        return {
            "uid": seen.ref.uid,
            "patch": [*_tests(found, touched), *patch],
            "undo": [*_tests(after, touched), *back],
            "before": _values(found, touched),
            "after": _values(after, touched),
        }

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Send it. Raises Conflict when a value is not as it was."""
        return await _send(ctx, target, before["patch"], before["before"], before["after"])

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """By the values: those after, those before, or neither."""
        found = await fetch_if_there(ctx.cluster, target)
        if found is None:
            return Presence.NOT_APPLIED
        now = _values(found, before["after"])
        if now == before["after"]:
            return Presence.APPLIED
        return Presence.NOT_APPLIED if now == before["before"] else Presence.UNKNOWN

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """The inverse patch. Raises Conflict when somebody changed a value since."""
        return await _send(ctx, target, before["undo"], before["after"], before["before"])


async def _send(
    ctx: ActionContext,
    target: TargetRef,
    patch: Sequence[dict[str, Any]],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
) -> Applied:
    found = await fetch(ctx.cluster, target)
    now = _values(found, old)
    if now == new:
        return already(f"{target} is patched already")
    if now != old:
        raise Conflict(f"{target} has {now}, and had {old} when this was planned: left alone")
    pinned = [{"op": "test", "path": "/metadata/uid", "value": meta(found)["uid"]}, *patch]
    await ctx.cluster.patch(target, pinned, PatchType.JSON, dry_run=ctx.dry_run)
    return applied(ctx, f"{target} is patched at {', '.join(old)}", {"values": dict(new)})


def _plain(params: JsonPatchParams) -> list[dict[str, Any]]:
    return [
        {"op": entry.op, "path": entry.path}
        | ({} if entry.op == "remove" else {"value": entry.value})
        for entry in params.patch
    ]


def _values(found: JsonObject, paths: Any) -> dict[str, Any]:
    """The value at each path, in a list so that absence is not null."""
    values = {path: resolve(found, path) for path in paths}
    return {path: [] if value is ABSENT else [value] for path, value in values.items()}


def _tests(found: JsonObject, paths: Sequence[str]) -> list[dict[str, Any]]:
    """A test of each value that is there; absence cannot be tested at the API server."""
    return [
        {"op": "test", "path": path, "value": value[0]}
        for path, value in _values(found, paths).items()
        if value
    ]


def _keys(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        return {*map(str, value), *(key for inner in value.values() for key in _keys(inner))}
    if isinstance(value, list | tuple):
        return {key for inner in value for key in _keys(inner)}
    return set()
