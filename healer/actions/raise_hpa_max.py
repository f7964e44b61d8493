"""raise_hpa_max: let an autoscaler that is at its ceiling add more replicas, up to a hard limit."""

from collections.abc import Mapping
from math import ceil
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import Whole
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
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Refused
from healer.ports import JsonObject, Permission


class RaiseHpaMaxParams(Params):
    """By how much: either `by` replicas or `percent` of the present maximum."""

    by: Annotated[Whole, Field(ge=1, le=1000)] | None = None
    percent: Annotated[Whole, Field(ge=1, le=400)] | None = None
    limit: Annotated[Whole, Field(ge=1, le=10_000)]
    """Never above this, however often it runs."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.by is None) == (self.percent is None):
            raise ValueError("give either `by` or `percent`")
        return self

    def wanted(self, now: int) -> int:
        """The new maximum, from the present one."""
        more = self.by if self.by is not None else ceil(now * (self.percent or 0) / 100)
        return min(self.limit, now + more)


class RaiseHpaMax:
    """Raises `spec.maxReplicas`, only while it is as planned."""

    name: ClassVar[str] = "raise_hpa_max"
    summary: ClassVar[str] = "Raise the maximum of a HorizontalPodAutoscaler, up to a hard limit."
    params: ClassVar[type[Params]] = RaiseHpaMaxParams
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.HPA})
    action_class: ClassVar[str] = "scale"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "`spec.maxReplicas`"
    undone_by: ClassVar[str] = "puts back the previous maximum, if nobody changed it since"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch autoscalers."""
        return each((Kind.HPA,), "get", "patch")

    def cost(self, params: Any, seen: Observation) -> int:
        """One: it disrupts nothing and costs money, so it is budgeted."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Refuses at the limit."""
        now = _maximum(await fetch(ctx.cluster, seen.ref))
        wanted = params.wanted(now)
        if wanted <= now:
            raise Refused(f"maxReplicas of {seen.ref} is {now}, and the limit is {params.limit}")
        return {"uid": seen.ref.uid, "max": now, "to": wanted}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Raise it, unless somebody else has changed it."""
        return await _set(ctx, target, int(before["max"]), int(before["to"]))

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether the maximum is as planned."""
        found = await fetch_if_there(ctx.cluster, target)
        done = found is not None and _maximum(found) == int(before["to"])
        return Presence.APPLIED if done else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """The previous maximum. Raises Conflict when somebody changed it since."""
        return await _set(ctx, target, int(before["to"]), int(before["max"]))


async def _set(ctx: ActionContext, target: TargetRef, old: int, new: int) -> Applied:
    def change(found: JsonObject) -> dict[str, Any] | None:
        now = _maximum(found)
        if now == new:
            return None
        if now != old:
            raise changed_meanwhile(target, "spec.maxReplicas", now, old)
        return {"spec": {"maxReplicas": new}}

    if await patch_while(ctx, target, change) is None:
        return already(f"maxReplicas of {target} is {new}")
    return applied(ctx, f"maxReplicas of {target} goes from {old} to {new}", {"set": new})


def _maximum(found: JsonObject) -> int:
    return int(spec(found)["maxReplicas"])
