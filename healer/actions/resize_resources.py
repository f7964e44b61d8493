"""resize_resources: other requests and limits for one container, by a bounded factor."""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import Label, Quantity
from healer.actions.objects import (
    already,
    applied,
    changed_meanwhile,
    fetch,
    fetch_if_there,
    patch_while,
    spec,
)
from healer.actions.rights import among, each
from healer.domain.outcome import Applied
from healer.domain.target import WORKLOADS, Kind, Observation, TargetRef
from healer.errors import Refused
from healer.kernel.quantities import format_bytes, format_milli, parse_quantity
from healer.ports import JsonObject, Permission

_MEBIBYTE = Decimal(2) ** 20
Resources = dict[str, Any]


class Resize(Params):
    """Either an absolute value, or a factor on what there is with a hard limit."""

    to: Quantity | None = None
    factor: Annotated[float, Field(ge=0.25, le=4.0)] | None = None
    limit: Quantity | None = None
    """Never above this, however often it runs. A must with `factor`."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.to is None) == (self.factor is None):
            raise ValueError("give either `to` or `factor`")
        if self.factor is not None and self.limit is None:
            raise ValueError("`factor` needs a `limit`: it may run more than once")
        if self.to and self.limit and parse_quantity(self.to) > parse_quantity(self.limit):
            raise ValueError("`to` is above `limit`")
        return self

    def wanted(self, now: Decimal) -> Decimal:
        """The new value from the present one."""
        if self.to is not None:
            return parse_quantity(self.to)
        grown = now * Decimal(str(self.factor))
        limit = parse_quantity(self.limit or "0")
        return min(max(limit, now) if grown > now else grown, grown)


class ResizeResourcesParams(Params):
    """What of which container."""

    container: Label | None = None
    """May be left out when the workload has only one."""
    cpu: Resize | None = None
    memory: Resize | None = None
    of: Literal["requests", "limits", "both"] = "both"
    """Which of the two changes; what is not set stays unset, except by `to`."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.cpu is None and self.memory is None:
            raise ValueError("give `cpu`, `memory` or both")
        return self


class ResizeResources:
    """Changes the pod template, so the workload rolls out its new size."""

    name: ClassVar[str] = "resize_resources"
    summary: ClassVar[str] = "Change the CPU or memory of one container of a workload, bounded."
    params: ClassVar[type[Params]] = ResizeResourcesParams
    kinds: ClassVar[frozenset[Kind]] = WORKLOADS
    action_class: ClassVar[str] = "rollout"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "`resources` of the container in the pod template"
    undone_by: ClassVar[str] = "puts back the previous resources, if nobody changed them since"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch the workload."""
        return each(among(kind, self.kinds), "get", "patch")

    def cost(self, params: Any, seen: Observation) -> int:
        """One: the workload's strategy takes down one batch at a time."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Resolves factors to absolute values. Refuses when nothing would change."""
        found = await fetch(ctx.cluster, seen.ref)
        container = _choose(found, seen.ref, params.container)
        old: Resources = container.get("resources") or {}
        new = resized(old, params)
        if new == old:
            raise Refused(
                f"container {container['name']} of {seen.ref} has {old or 'no resources'}: "
                "nothing would change (at the limit, or nothing is set that a factor could grow)"
            )
        return {"uid": seen.ref.uid, "container": container["name"], "resources": old, "to": new}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Change the template, unless somebody else has."""
        return await _set(ctx, target, before["container"], before["resources"], before["to"])

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether the container has the planned resources."""
        found = await fetch_if_there(ctx.cluster, target)
        if found is None:
            return Presence.NOT_APPLIED
        now = _resources(found, target, before["container"])
        return Presence.APPLIED if _same(now, before["to"]) else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """The previous resources. Raises Conflict when somebody changed them since."""
        return await _set(ctx, target, before["container"], before["to"], before["resources"])


def resized(old: Resources, params: ResizeResourcesParams) -> Resources:
    """The new `resources`; a request never ends above its limit."""
    new = {key: dict(value) if isinstance(value, dict) else value for key, value in old.items()}
    parts = ("requests", "limits") if params.of == "both" else (params.of,)
    for name, rule in (("cpu", params.cpu), ("memory", params.memory)):
        if rule is None:
            continue
        for part in parts:
            now = (old.get(part) or {}).get(name)
            if now is None and rule.to is None:
                continue
            value = rule.wanted(parse_quantity(now or "0"))
            if now is not None and value == parse_quantity(now):
                continue
            new.setdefault(part, {})[name] = _written(name, value)
        limit = (new.get("limits") or {}).get(name)
        request = (new.get("requests") or {}).get(name)
        if limit and request and parse_quantity(request) > parse_quantity(limit):
            raise Refused(
                f"the {name} request {request} would be above its limit {limit}; use `of: both`"
            )
    return new


def _written(name: str, value: Decimal) -> str:
    if name == "memory":
        return format_bytes((value / _MEBIBYTE).to_integral_value(ROUND_CEILING) * _MEBIBYTE)
    return format_milli(value)


def _containers(found: JsonObject) -> list[JsonObject]:
    template = (spec(found).get("template") or {}).get("spec") or {}
    return list(template.get("containers") or ())


def _choose(found: JsonObject, target: TargetRef, name: str | None) -> JsonObject:
    containers = _containers(found)
    names = ", ".join(container["name"] for container in containers)
    if name is None:
        if len(containers) != 1:
            raise Refused(f"{target} has containers {names}; say which with `container`")
        return containers[0]
    for container in containers:
        if container["name"] == name:
            return container
    raise Refused(f"{target} has no container {name}, only {names}")


def _resources(found: JsonObject, target: TargetRef, name: str) -> Resources:
    resources: Resources = _choose(found, target, name).get("resources") or {}
    return resources


def _same(one: Resources, other: Resources) -> bool:
    return _exact(one) == _exact(other)


def _exact(resources: Resources) -> dict[str, Any]:
    return {
        part: {name: parse_quantity(str(value)) for name, value in entries.items()}
        if isinstance(entries, dict)
        else entries
        for part, entries in resources.items()
        if entries
    }


async def _set(
    ctx: ActionContext, target: TargetRef, name: str, old: Resources, new: Resources
) -> Applied:
    def change(found: JsonObject) -> dict[str, Any] | None:
        now = _resources(found, target, name)
        if _same(now, new):
            return None
        if not _same(now, old):
            raise changed_meanwhile(target, f"resources of container {name}", now, old)
        containers = [
            {**container, "resources": new} if container["name"] == name else container
            for container in _containers(found)
        ]
        return {"spec": {"template": {"spec": {"containers": containers}}}}

    if await patch_while(ctx, target, change) is None:
        return already(f"container {name} of {target} has these resources already")
    return applied(ctx, f"container {name} of {target} gets {new}", {"set": new})
