"""delete_pod: take one exact pod away, so that its controller makes a fresh one."""

from collections.abc import Mapping
from math import ceil
from typing import Any, ClassVar

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import Seconds
from healer.actions.objects import already, applied, fetch, fetch_if_there, refuse_unmanaged
from healer.actions.rights import each
from healer.domain.manifests import meta
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Conflict, NotFound
from healer.ports import Permission

#: A journal entry is no place for thousands of uids.
MAX_SIBLINGS = 200


class DeletePodParams(Params):
    """How it may end."""

    grace: Seconds | None = None
    """None means the pod's own. `0s` deletes by force: only for a node that is gone."""
    force: bool = False
    """Also a pod that no controller would make again."""


class DeletePod:
    """Deletes with the uid as a precondition: never the successor that has the same name."""

    name: ClassVar[str] = "delete_pod"
    summary: ClassVar[str] = "Delete one pod, so that its controller makes a fresh one."
    params: ClassVar[type[Params]] = DeletePodParams
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.POD})
    action_class: ClassVar[str] = "restart"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "the uid: gone or terminating"
    undone_by: ClassVar[str] = "nothing: the pod is gone"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and delete pods."""
        return each((Kind.POD,), "get", "delete")

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
        """Delete it; that it is gone already, or another one has its name, is fine."""
        if await fetch_if_there(ctx.cluster, target) is None:
            return already(f"{target} is gone")
        grace = None if params.grace is None else ceil(params.grace)
        try:
            await ctx.cluster.delete(target, grace_seconds=grace, dry_run=ctx.dry_run)
        except (NotFound, Conflict):
            if await fetch_if_there(ctx.cluster, target) is None:
                return already(f"{target} is gone")
            raise
        return applied(ctx, f"{target} is deleted")

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


def siblings(seen: Observation) -> list[str]:
    """Uids of the workload's pods, to tell its successor from them; empty for very many."""
    uids = [pod.ref.uid for pod in seen.pods]
    return uids if len(uids) <= MAX_SIBLINGS else []


async def gone_or_going(ctx: ActionContext, target: TargetRef) -> Presence:
    """APPLIED when the object of that uid is gone or terminating."""
    found = await fetch_if_there(ctx.cluster, target)
    there = found is not None and not meta(found).get("deletionTimestamp")
    return Presence.NOT_APPLIED if there else Presence.APPLIED
