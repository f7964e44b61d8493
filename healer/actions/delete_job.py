"""delete_job: take away a Job that has ended, or one that is stuck."""

from collections.abc import Mapping
from typing import Any, ClassVar

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.delete_pod import gone_or_going
from healer.actions.leaves import Seconds
from healer.actions.objects import already, applied, fetch, fetch_if_there
from healer.actions.rights import each
from healer.domain.manifests import condition, seconds
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Conflict, NotFound, Refused
from healer.kernel.durations import format_duration
from healer.ports import JsonObject, Permission


class DeleteJobParams(Params):
    """Which Jobs may go."""

    stuck_after: Seconds | None = None
    """Also a Job that has not ended, once it has run for so long; none means never."""


class DeleteJob:
    """Deletes one Job by uid; its pods go with it."""

    name: ClassVar[str] = "delete_job"
    summary: ClassVar[str] = "Delete a Job that has ended, or one that has been stuck for too long."
    params: ClassVar[type[Params]] = DeleteJobParams
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.JOB})
    action_class: ClassVar[str] = "job"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "the uid: gone or terminating"
    undone_by: ClassVar[str] = "nothing: the Job is gone"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and delete Jobs."""
        return each((Kind.JOB,), "get", "delete")

    def cost(self, params: Any, seen: Observation) -> int:
        """One."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Refuses a Job that is at work."""
        found = await fetch(ctx.cluster, seen.ref)
        ended = ending_of(found)
        if not ended:
            started = seconds((found.get("status") or {}).get("startTime")) or seconds(
                found["metadata"].get("creationTimestamp")
            )
            age = ctx.at - started
            if params.stuck_after is None or age < params.stuck_after:
                raise Refused(
                    f"{seen.ref} is at work since {format_duration(round(max(age, 0)))}; "
                    "`stuck_after` says when that is too long"
                )
        return {"uid": seen.ref.uid, "ended": ended}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Delete it; that it is gone already is fine."""
        if await fetch_if_there(ctx.cluster, target) is None:
            return already(f"{target} is gone")
        try:
            await ctx.cluster.delete(target, dry_run=ctx.dry_run)
        except (NotFound, Conflict):
            if await fetch_if_there(ctx.cluster, target) is None:
                return already(f"{target} is gone")
            raise
        return applied(ctx, f"{target} ({before['ended'] or 'stuck'}) is deleted")

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether that incarnation is gone or going."""
        return await gone_or_going(ctx, target)

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Nothing: the Job is gone."""
        return None


def ending_of(job: JsonObject) -> str:
    """`Complete` or `Failed`, empty for a Job that has not ended."""
    for name in ("Complete", "Failed"):
        if condition(job, name).get("status") == "True":
            return name
    return ""
