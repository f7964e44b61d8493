"""expand_pvc: a larger volume. There is no way back, so the limit is a must."""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import Quantity, Whole
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
from healer.kernel.quantities import format_bytes, parse_quantity
from healer.ports import JsonObject, Permission

_MEBIBYTE = Decimal(2) ** 20


class ExpandPvcParams(Params):
    """How large: either `to`, or `percent` more than now."""

    to: Quantity | None = None
    percent: Annotated[Whole, Field(ge=1, le=400)] | None = None
    limit: Quantity
    """Never larger than this, however often it runs."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.to is None) == (self.percent is None):
            raise ValueError("give either `to` or `percent`")
        if self.to is not None and parse_quantity(self.to) > parse_quantity(self.limit):
            raise ValueError("`to` is above `limit`")
        return self

    def wanted(self, now: Decimal) -> Decimal:
        """The new size in bytes, whole MiB, from the present one."""
        if self.to is not None:
            return parse_quantity(self.to)
        grown = now * (100 + (self.percent or 0)) / 100
        grown = (grown / _MEBIBYTE).to_integral_value(ROUND_CEILING) * _MEBIBYTE
        return min(parse_quantity(self.limit), grown)


class ExpandPvc:
    """Raises `spec.resources.requests.storage`, where the StorageClass allows it. Never shrinks."""

    name: ClassVar[str] = "expand_pvc"
    summary: ClassVar[str] = "Make a volume larger, up to a hard limit."
    params: ClassVar[type[Params]] = ExpandPvcParams
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.PVC})
    action_class: ClassVar[str] = "storage"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "the requested size"
    undone_by: ClassVar[str] = "nothing: a volume never shrinks"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch claims, read StorageClasses."""
        return (*each((Kind.PVC,), "get", "patch"), *each((Kind.STORAGE_CLASS,), "get"))

    def cost(self, params: Any, seen: Observation) -> int:
        """One: it disrupts nothing and cannot be undone, so it is budgeted."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Refuses what would fail later: no class, no expansion, not bound, already resizing."""
        found = await fetch(ctx.cluster, seen.ref)
        status = found.get("status") or {}
        if status.get("phase") != "Bound":
            raise Refused(f"{seen.ref} is {status.get('phase') or 'not bound'}, not Bound")
        now = parse_quantity(_size(found))
        wanted = params.wanted(now)
        if wanted <= now:
            raise Refused(
                f"{seen.ref} is {_size(found)} and a volume never shrinks: {format_bytes(wanted)} "
                f"is not more (limit {params.limit})"
            )
        capacity = (status.get("capacity") or {}).get("storage")
        if capacity is not None and parse_quantity(capacity) < now:
            raise Refused(f"{seen.ref} is being resized from {capacity} to {_size(found)} already")
        name = spec(found).get("storageClassName")
        if not name:
            raise Refused(f"{seen.ref} has no StorageClass, so it cannot be expanded")
        storage = await ctx.cluster.get(TargetRef(Kind.STORAGE_CLASS, name))
        if not storage.get("allowVolumeExpansion"):
            raise Refused(f"StorageClass {name} of {seen.ref} has no allowVolumeExpansion: true")
        return {"uid": seen.ref.uid, "size": _size(found), "to": format_bytes(wanted)}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Ask for more, unless somebody changed the size meanwhile."""
        new = str(before["to"])

        def change(found: JsonObject) -> dict[str, Any] | None:
            now = _size(found)
            if parse_quantity(now) >= parse_quantity(new):
                return None
            if parse_quantity(now) != parse_quantity(str(before["size"])):
                raise changed_meanwhile(target, "the size", now, before["size"])
            return {"spec": {"resources": {"requests": {"storage": new}}}}

        if await patch_while(ctx, target, change) is None:
            return already(f"{target} is {new} or more already")
        return applied(ctx, f"{target} grows from {before['size']} to {new}", {"set": new})

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether at least that much is asked for."""
        found = await fetch_if_there(ctx.cluster, target)
        wanted = parse_quantity(str(before["to"]))
        done = found is not None and parse_quantity(_size(found)) >= wanted
        return Presence.APPLIED if done else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Nothing: a volume never shrinks."""
        return None


def _size(found: JsonObject) -> str:
    return str(spec(found)["resources"]["requests"]["storage"])
