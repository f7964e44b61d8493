"""shift_weight: how much traffic goes to which backend."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import Label, Whole
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
from healer.domain.manifests import meta
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Refused
from healer.ports import JsonObject, Permission

CANARY = "nginx.ingress.kubernetes.io/canary"
CANARY_WEIGHT = "nginx.ingress.kubernetes.io/canary-weight"
CANARY_TOTAL = "nginx.ingress.kubernetes.io/canary-weight-total"

Weights = dict[str, int]


class ShiftWeightParams(Params):
    """Weights of an HTTPRoute's backends, or the one weight of a canary Ingress."""

    weights: dict[Label, Annotated[Whole, Field(ge=0, le=1_000_000)]] | None = None
    """HTTPRoute: backend name → weight, as Gateway API means it: its share of the sum."""
    rule: Annotated[Whole, Field(ge=0, le=15)] | None = None
    """HTTPRoute: which rule, counted from 0; none means that there is exactly one."""
    canary: Annotated[Whole, Field(ge=0, le=100)] | None = None
    """Ingress: percent of traffic that goes to the canary (ingress-nginx)."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.weights is None) == (self.canary is None):
            raise ValueError("give either `weights` (HTTPRoute) or `canary` (Ingress)")
        if self.weights is not None and not any(self.weights.values()):
            raise ValueError("the weights are all 0 or there are none: nothing would answer")
        return self


class ShiftWeight:
    """Changes weights only while they are as planned; what is not named keeps its weight."""

    name: ClassVar[str] = "shift_weight"
    summary: ClassVar[str] = "Shift traffic between the backends of an HTTPRoute or canary Ingress."
    params: ClassVar[type[Params]] = ShiftWeightParams
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.HTTP_ROUTE, Kind.INGRESS})
    action_class: ClassVar[str] = "traffic"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "the weights"
    undone_by: ClassVar[str] = "puts back the previous weights, if nobody changed them since"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch the route."""
        return each(among(kind, self.kinds), "get", "patch")

    def cost(self, params: Any, seen: Observation) -> int:
        """One, so that it is budgeted."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """The weights there are, and those there will be."""
        found = await fetch(ctx.cluster, seen.ref)
        rule = 0
        if seen.ref.kind is Kind.HTTP_ROUTE:
            if params.weights is None:
                raise Refused(f"{seen.ref} needs `weights`; `canary` is for an Ingress")
            rule = _which_rule(found, seen.ref, params.rule)
        elif params.canary is None:
            raise Refused(f"{seen.ref} needs `canary`; `weights` is for an HTTPRoute")
        now = _read(seen.ref, found, rule)
        if seen.ref.kind is Kind.INGRESS:
            _refuse_no_canary(found, seen.ref)
            return {"uid": seen.ref.uid, "rule": 0, "weights": now, "to": {"": params.canary}}
        unknown = sorted(set(params.weights) - set(now))
        if unknown:
            raise Refused(f"rule {rule} of {seen.ref} has no backend {', '.join(unknown)}")
        wanted = {**now, **params.weights}
        return {"uid": seen.ref.uid, "rule": rule, "weights": now, "to": wanted}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Shift, unless somebody else has."""
        return await _set(ctx, target, before["rule"], before["weights"], before["to"])

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether the weights are as planned."""
        found = await fetch_if_there(ctx.cluster, target)
        done = found is not None and _read(target, found, before["rule"]) == before["to"]
        return Presence.APPLIED if done else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """The previous weights. Raises Conflict when somebody changed them since."""
        if before["weights"] == before["to"]:
            return None
        return await _set(ctx, target, before["rule"], before["to"], before["weights"])


def _which_rule(found: JsonObject, target: TargetRef, rule: int | None) -> int:
    count = len(spec(found).get("rules") or ())
    if rule is None and count != 1:
        raise Refused(f"{target} has {count} rules; say which with `rule`")
    if rule is not None and rule >= count:
        raise Refused(f"{target} has {count} rules, so none is number {rule}")
    return rule or 0


def _refuse_no_canary(found: JsonObject, target: TargetRef) -> None:
    marks = meta(found).get("annotations") or {}
    if marks.get(CANARY) != "true":
        raise Refused(f'{target} is no canary: it has no annotation {CANARY}: "true"')
    if CANARY_TOTAL in marks:
        raise Refused(f"{target} has {CANARY_TOTAL}, so its weight is no percentage")


def _read(target: TargetRef, found: JsonObject, rule: int) -> Weights:
    if target.kind is Kind.INGRESS:
        text = (meta(found).get("annotations") or {}).get(CANARY_WEIGHT)
        return {} if text is None else {"": int(text)}
    rules = spec(found).get("rules") or []
    if rule >= len(rules):
        return {}
    backends = rules[rule].get("backendRefs") or []
    names = [backend["name"] for backend in backends]
    if len(set(names)) != len(names):
        raise Refused(f"rule {rule} of {target} names a backend twice: its weights are ambiguous")
    return {backend["name"]: int(backend.get("weight", 1)) for backend in backends}


async def _set(
    ctx: ActionContext, target: TargetRef, rule: int, old: Weights, new: Weights
) -> Applied:
    def change(found: JsonObject) -> dict[str, Any] | None:
        now = _read(target, found, rule)
        if now == new:
            return None
        if now != old:
            raise changed_meanwhile(target, "the weights", now, old)
        if target.kind is Kind.INGRESS:
            text = str(new[""]) if "" in new else None
            return {"metadata": {"annotations": {CANARY_WEIGHT: text}}}
        rules = [dict(entry) for entry in spec(found)["rules"]]
        rules[rule]["backendRefs"] = [
            {**backend, "weight": new[backend["name"]]} for backend in rules[rule]["backendRefs"]
        ]
        return {"spec": {"rules": rules}}

    if await patch_while(ctx, target, change) is None:
        return already(f"{target} has these weights already")
    return applied(ctx, f"weights of {target} go from {old} to {new}", {"set": new})
