"""patch_config_map: one key of one ConfigMap, for a feature flag or a brown-out."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import StringConstraints

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import DataKey
from healer.actions.objects import (
    already,
    applied,
    changed_meanwhile,
    fetch,
    fetch_if_there,
    patch_while,
)
from healer.actions.rights import each
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Refused
from healer.ports import JsonObject, Permission


class PatchConfigMapParams(Params):
    """Which key, and its new value."""

    key: DataKey
    value: Annotated[str, StringConstraints(max_length=65536, strip_whitespace=False)]


class PatchConfigMap:
    """Sets one key of `data`, only while it is as planned."""

    name: ClassVar[str] = "patch_config_map"
    summary: ClassVar[str] = "Set one key of a ConfigMap, such as a feature flag."
    params: ClassVar[type[Params]] = PatchConfigMapParams
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.CONFIG_MAP})
    action_class: ClassVar[str] = "patch"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "the key's value"
    undone_by: ClassVar[str] = "puts back the value, or its absence, if nobody changed it since"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch ConfigMaps."""
        return each((Kind.CONFIG_MAP,), "get", "patch")

    def cost(self, params: Any, seen: Observation) -> int:
        """One, so that it is budgeted."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """The value there is; refuses an immutable ConfigMap."""
        found = await fetch(ctx.cluster, seen.ref)
        if found.get("immutable"):
            raise Refused(f"{seen.ref} is immutable")
        if params.key in (found.get("binaryData") or {}):
            raise Refused(f"{params.key} of {seen.ref} is binary")
        return {"uid": seen.ref.uid, "value": _value(found, params.key)}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Set it, unless somebody else has changed it."""
        return await _set(ctx, target, params.key, before["value"], params.value)

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether the key has the value."""
        found = await fetch_if_there(ctx.cluster, target)
        done = found is not None and _value(found, params.key) == params.value
        return Presence.APPLIED if done else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """The previous value, or none. Raises Conflict when somebody changed it since."""
        if before["value"] == params.value:
            return None
        return await _set(ctx, target, params.key, params.value, before["value"])


async def _set(
    ctx: ActionContext, target: TargetRef, key: str, old: str | None, new: str | None
) -> Applied:
    def change(found: JsonObject) -> dict[str, Any] | None:
        now = _value(found, key)
        if now == new:
            return None
        if now != old:
            raise changed_meanwhile(target, f"data.{key}", now, old)
        return {"data": {key: new}}

    if await patch_while(ctx, target, change) is None:
        return already(f"{key} of {target} is so already")
    return applied(ctx, f"{key} of {target} is {'removed' if new is None else 'set'}")


def _value(found: JsonObject, key: str) -> str | None:
    return (found.get("data") or {}).get(key)
