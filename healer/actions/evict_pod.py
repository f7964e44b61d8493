"""evict_pod: as delete_pod, but the pod's disruption budgets are asked first."""

from collections.abc import Mapping
from typing import Any, ClassVar

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.delete_pod import gone_or_going, siblings
from healer.actions.objects import already, applied, fetch, fetch_if_there, refuse_unmanaged
from healer.actions.rights import each, right
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Conflict, NotFound
from healer.ports import Permission


class EvictPodParams(Params):
    """What may be evicted."""

    force: bool = False
    """Also a pod that no controller would make again."""


class EvictPod:
    """Asks the Eviction API; a PodDisruptionBudget that refuses is Throttled, and done later."""

    name: ClassVar[str] = "evict_pod"
    summary: ClassVar[str] = "Evict one pod, unless a PodDisruptionBudget forbids it now."
    params: ClassVar[type[Params]] = EvictPodParams
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.POD})
    action_class: ClassVar[str] = "evict"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "the uid: gone or terminating"
    undone_by: ClassVar[str] = "nothing: the pod is gone"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read pods and create their evictions."""
        return (*each((Kind.POD,), "get"), right("create", Kind.POD, "eviction"))

    def cost(self, params: Any, seen: Observation) -> int:
        """The pod."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Refuses a pod that nothing would replace."""
        pod = await fetch(ctx.cluster, seen.ref)
        refuse_unmanaged(pod, seen.ref, params.force)
        return {"uid": seen.ref.uid, "pods": siblings(seen)}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Evict it. Raises Throttled when a budget refuses, having changed nothing."""
        if await fetch_if_there(ctx.cluster, target) is None:
            return already(f"{target} is gone")
        try:
            await ctx.cluster.evict(target, dry_run=ctx.dry_run)
        except (NotFound, Conflict):
            if await fetch_if_there(ctx.cluster, target) is None:
                return already(f"{target} is gone")
            raise
        return applied(ctx, f"{target} is evicted")

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether that incarnation is gone or going."""
        return await gone_or_going(ctx, target)

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Nothing: the pod is gone."""
        return None
