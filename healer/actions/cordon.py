"""cordon and uncordon: whether new pods may be scheduled to a node."""

from collections.abc import Mapping
from typing import Any, ClassVar

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.objects import already, applied, fetch, fetch_if_there, patch_while, spec
from healer.actions.rights import each
from healer.domain.manifests import meta
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.ports import JsonObject, Permission

#: On a node: the key of the step that cordoned it. Only that cordon is lifted by its undo.
CORDONED_BY = "healer.dev/cordoned-by"


class CordonParams(Params):
    """None."""


class Cordon:
    """Sets `spec.unschedulable`, and marks whose cordon it is."""

    name: ClassVar[str] = "cordon"
    summary: ClassVar[str] = "Keep new pods off a node; those on it stay."
    params: ClassVar[type[Params]] = CordonParams
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.NODE})
    action_class: ClassVar[str] = "node"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "`spec.unschedulable`"
    undone_by: ClassVar[str] = "uncordons, if the cordon is still this step's own"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch nodes."""
        return each((Kind.NODE,), "get", "patch")

    def cost(self, params: Any, seen: Observation) -> int:
        """The node."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Whether it is cordoned now, and the key to undo only our own."""
        return await cordon_before(ctx, seen.ref)

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Cordon it."""
        if not await set_cordon(ctx, target, True, str(before["key"])):
            return already(f"{target} is cordoned already")
        return applied(ctx, f"{target} is cordoned")

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether it is cordoned."""
        found = await fetch_if_there(ctx.cluster, target)
        done = found is not None and bool(spec(found).get("unschedulable"))
        return Presence.APPLIED if done else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Uncordon, unless it was cordoned before or somebody else cordoned it since."""
        return await lift_own(ctx, target, before)


class Uncordon:
    """Clears `spec.unschedulable`."""

    name: ClassVar[str] = "uncordon"
    summary: ClassVar[str] = "Let pods be scheduled to a node again."
    params: ClassVar[type[Params]] = CordonParams
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.NODE})
    action_class: ClassVar[str] = "node"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "`spec.unschedulable`"
    undone_by: ClassVar[str] = "cordons again, if it was cordoned"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch nodes."""
        return each((Kind.NODE,), "get", "patch")

    def cost(self, params: Any, seen: Observation) -> int:
        """One, so that it is budgeted."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Whether it is cordoned now."""
        return await cordon_before(ctx, seen.ref)

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Uncordon it."""
        if not await set_cordon(ctx, target, False):
            return already(f"{target} is not cordoned")
        return applied(ctx, f"{target} is uncordoned")

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether it is not cordoned."""
        found = await fetch_if_there(ctx.cluster, target)
        done = found is not None and not spec(found).get("unschedulable")
        return Presence.APPLIED if done else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Cordon again, if it was."""
        if not before["unschedulable"]:
            return None
        if not await set_cordon(ctx, target, True, before["owner"] or None):
            return already(f"{target} is cordoned already")
        return applied(ctx, f"{target} is cordoned again")


async def cordon_before(ctx: ActionContext, target: TargetRef) -> dict[str, Any]:
    """What to remember of a node before its cordon changes."""
    found = await fetch(ctx.cluster, target)
    return {
        "uid": target.uid,
        "unschedulable": bool(spec(found).get("unschedulable")),
        "owner": (meta(found).get("annotations") or {}).get(CORDONED_BY, ""),
        "key": ctx.key,
    }


async def set_cordon(
    ctx: ActionContext, target: TargetRef, on: bool, mark: str | None = None
) -> bool:
    """Cordon, marked as whose it is, or uncordon. False when it is so already."""

    def change(found: JsonObject) -> dict[str, Any] | None:
        if bool(spec(found).get("unschedulable")) is on:
            return None
        return {
            "metadata": {"annotations": {CORDONED_BY: mark}},
            "spec": {"unschedulable": on or None},
        }

    return await patch_while(ctx, target, change) is not None


async def lift_own(
    ctx: ActionContext, target: TargetRef, before: Mapping[str, Any]
) -> Applied | None:
    """Uncordon a node that carries the cordon of `before["key"]`; None when it does not."""
    if before["unschedulable"]:
        return None
    found = await fetch(ctx.cluster, target)
    if (meta(found).get("annotations") or {}).get(CORDONED_BY) != before["key"]:
        return None
    if not await set_cordon(ctx, target, False):
        return already(f"{target} is not cordoned")
    return applied(ctx, f"{target} is uncordoned again")
