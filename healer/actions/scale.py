"""scale: an absolute number of replicas, never above or below its bounds."""

from collections.abc import Mapping
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
from healer.actions.rights import among, each, right
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Refused
from healer.ports import JsonObject, Permission

SCALABLE = frozenset({Kind.DEPLOYMENT, Kind.STATEFUL_SET, Kind.REPLICA_SET})


class ScaleParams(Params):
    """How many replicas: either `replicas`, or `by` so many more or fewer than now."""

    replicas: Annotated[Whole, Field(ge=0, le=10_000)] | None = None
    by: Annotated[Whole, Field(ge=-1000, le=1000)] | None = None
    min: Annotated[Whole, Field(ge=0)] = 1
    """Never fewer; zero must be said."""
    max: Annotated[Whole, Field(ge=1, le=10_000)] = 50
    """Never more."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.replicas is None) == (self.by is None):
            raise ValueError("give either `replicas` or `by`")
        if self.by == 0:
            raise ValueError("`by: 0` would change nothing")
        if self.min > self.max:
            raise ValueError("`min` is above `max`")
        if self.replicas is not None and not self.min <= self.replicas <= self.max:
            raise ValueError(f"`replicas` is outside {self.min} to {self.max}; widen `min`, `max`")
        return self

    def wanted(self, now: int) -> int:
        """The absolute number, from the number there is."""
        if self.replicas is not None:
            return self.replicas
        return min(self.max, max(self.min, now + (self.by or 0)))


class Scale:
    """Writes the scale subresource with resourceVersion, only while the number is as planned."""

    name: ClassVar[str] = "scale"
    summary: ClassVar[str] = "Set the number of replicas of a workload, within bounds."
    params: ClassVar[type[Params]] = ScaleParams
    kinds: ClassVar[frozenset[Kind]] = SCALABLE
    action_class: ClassVar[str] = "scale"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "`spec.replicas`"
    undone_by: ClassVar[str] = "puts back the previous number, if nobody changed it since"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read the workload, patch its scale."""
        kinds = among(kind, self.kinds)
        return (*each(kinds, "get"), *(right("patch", one, "scale") for one in kinds))

    def cost(self, params: Any, seen: Observation) -> int:
        """The replicas taken away; at least 1 for any change."""
        now = seen.replicas or 0
        return max(1, now - int(params.wanted(now)))

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Resolves `by` to an absolute number. Refuses when the bound is reached already."""
        found = await fetch(ctx.cluster, seen.ref)
        now = _replicas(found)
        wanted = params.wanted(now)
        if params.by is not None and (wanted - now) * params.by <= 0:
            raise Refused(
                f"{seen.ref} has {now} replicas, which is at the bound {params.min} to "
                f"{params.max} of this step"
            )
        return {
            "uid": seen.ref.uid,
            "replicas": now,
            "to": wanted,
            "resourceVersion": found["metadata"].get("resourceVersion", ""),
        }

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Scale, unless somebody else has meanwhile."""
        return await _set(ctx, target, int(before["replicas"]), int(before["to"]))

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether the number is as planned."""
        found = await fetch_if_there(ctx.cluster, target)
        done = found is not None and _replicas(found) == int(before["to"])
        return Presence.APPLIED if done else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """The previous number. Raises Conflict when somebody changed it since."""
        if before["replicas"] == before["to"]:
            return None
        return await _set(ctx, target, int(before["to"]), int(before["replicas"]))


async def _set(ctx: ActionContext, target: TargetRef, old: int, new: int) -> Applied:
    def change(found: JsonObject) -> dict[str, Any] | None:
        now = _replicas(found)
        if now == new:
            return None
        if now != old:
            raise changed_meanwhile(target, "spec.replicas", now, old)
        return {"spec": {"replicas": new}}

    if await patch_while(ctx, target, change, subresource="scale") is None:
        return already(f"{target} has {new} replicas")
    return applied(ctx, f"{target} is scaled from {old} to {new} replicas", {"set": new})


def _replicas(found: JsonObject) -> int:
    value = spec(found).get("replicas")
    return 1 if value is None else int(value)
