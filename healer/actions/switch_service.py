"""switch_service: point a Service at the other half, as in blue/green."""

from collections.abc import Mapping
from typing import Any, ClassVar

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import LabelKey, LabelValue
from healer.actions.objects import (
    already,
    applied,
    changed_meanwhile,
    fetch,
    fetch_if_there,
    patch_while,
    spec,
)
from healer.actions.rights import each
from healer.domain.manifests import is_ready, meta
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Refused
from healer.ports import JsonObject, Permission


class SwitchServiceParams(Params):
    """Which key of the selector gets which value."""

    key: LabelKey
    to: LabelValue


class SwitchService:
    """Changes one key of the selector, once ready pods stand behind the new value."""

    name: ClassVar[str] = "switch_service"
    summary: ClassVar[str] = "Point a Service at other pods by one key of its selector."
    params: ClassVar[type[Params]] = SwitchServiceParams
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.SERVICE})
    action_class: ClassVar[str] = "traffic"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "the key of the selector"
    undone_by: ClassVar[str] = "puts back the previous value, if nobody changed it since"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch Services, find pods."""
        return (*each((Kind.SERVICE,), "get", "patch"), *each((Kind.POD,), "list"))

    def cost(self, params: Any, seen: Observation) -> int:
        """One, so that it is budgeted."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Refuses to add a key, and to point at nothing that is ready."""
        found = await fetch(ctx.cluster, seen.ref)
        selector = dict(spec(found).get("selector") or {})
        if params.key not in selector:
            raise Refused(f"the selector of {seen.ref} has no {params.key}: {selector}")
        wanted = {**selector, params.key: params.to}
        text = ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))
        pods = await ctx.cluster.list(Kind.POD, seen.ref.namespace, labels=text)
        ready = [pod for pod in pods if is_ready(pod) and not meta(pod).get("deletionTimestamp")]
        if not ready:
            raise Refused(f"no ready pod in {seen.ref.namespace} has {text}: nothing would answer")
        return {"uid": seen.ref.uid, "value": selector[params.key], "ready": len(ready)}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Switch, unless somebody else has."""
        return await _set(ctx, target, params.key, before["value"], params.to)

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether the selector has the value."""
        found = await fetch_if_there(ctx.cluster, target)
        done = found is not None and _value(found, params.key) == params.to
        return Presence.APPLIED if done else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """The previous value. Raises Conflict when somebody changed it since."""
        if before["value"] == params.to:
            return None
        return await _set(ctx, target, params.key, params.to, before["value"])


async def _set(ctx: ActionContext, target: TargetRef, key: str, old: str, new: str) -> Applied:
    def change(found: JsonObject) -> dict[str, Any] | None:
        now = _value(found, key)
        if now == new:
            return None
        if now != old:
            raise changed_meanwhile(target, f"spec.selector.{key}", now, old)
        return {"spec": {"selector": {key: new}}}

    if await patch_while(ctx, target, change) is None:
        return already(f"{target} selects {key}={new} already")
    return applied(ctx, f"{target} goes from {key}={old} to {key}={new}")


def _value(found: JsonObject, key: str) -> str | None:
    return (spec(found).get("selector") or {}).get(key)
