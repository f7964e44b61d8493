"""Reading an object for an action, and changing it only while it is as it was seen."""

from collections.abc import Callable, Mapping
from typing import Any

from healer.actions.contract import ActionContext
from healer.domain.manifests import controller_of, meta
from healer.domain.outcome import Applied, Outcome
from healer.domain.target import TargetRef
from healer.errors import Conflict, NotFound, Refused
from healer.ports import Cluster, JsonObject, PatchType

#: Marks what healer did: the value is the idempotency key of the step.
RUN = "healer.dev/run"
#: How often a change is tried again when only something else of the object changed meanwhile.
ATTEMPTS = 5


async def fetch(cluster: Cluster, target: TargetRef) -> JsonObject:
    """The object, of exactly the incarnation that was planned for.

    Raises NotFound when it is gone, Conflict when another one has its name and Refused when the
    target was never pinned to a uid.
    """
    if not target.uid:
        raise Refused(f"{target} has no uid: a target is observed before it is acted on")
    found = await cluster.get(target)
    uid = meta(found).get("uid")
    if uid != target.uid:
        raise Conflict(f"{target} is another one now: uid {uid}, planned for {target.uid}")
    return found


async def fetch_if_there(cluster: Cluster, target: TargetRef) -> JsonObject | None:
    """The object, or None when that incarnation is gone."""
    try:
        return await fetch(cluster, target)
    except (NotFound, Conflict):
        return None


async def patch_while(
    ctx: ActionContext,
    target: TargetRef,
    change: Callable[[JsonObject], Mapping[str, Any] | None],
    *,
    subresource: str = "",
) -> JsonObject | None:
    """Merge what `change` makes of a fresh look, with that look's resourceVersion.

    `change` answers None when nothing is left to do, and then nothing is sent; it raises Conflict
    when what was planned no longer fits. A refusal because something else of the object changed
    in between (its status, say) leads to another look; one because of what is planned never
    passes. Returns the changed object, None when there was nothing to do.
    """
    for _ in range(ATTEMPTS):
        found = await fetch(ctx.cluster, target)
        body = change(found)
        if body is None:
            return None
        version = meta(found).get("resourceVersion", "")
        metadata = {**body.get("metadata", {}), "resourceVersion": version}
        try:
            return await ctx.cluster.patch(
                target,
                {**body, "metadata": metadata},
                PatchType.MERGE,
                subresource=subresource,
                dry_run=ctx.dry_run,
            )
        except Conflict:
            continue
    raise Conflict(f"{target} changed {ATTEMPTS} times while it was being changed; try again later")


def changed_meanwhile(target: TargetRef, field: str, now: object, expected: object) -> Conflict:
    """The error for a field that somebody else set since it was looked at."""
    return Conflict(
        f"{field} of {target} is {now!r} and was {expected!r} when this was planned: somebody "
        "else changed it, so it is left alone"
    )


def applied(ctx: ActionContext, detail: str, evidence: Mapping[str, Any] | None = None) -> Applied:
    """Done, or accepted as a dry run."""
    outcome = Outcome.DRY_RUN if ctx.dry_run else Outcome.APPLIED
    return Applied(outcome, detail, evidence or {})


def already(detail: str) -> Applied:
    """It was in place before."""
    return Applied(Outcome.ALREADY_DONE, detail)


def spec(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its `spec`, empty when there is none."""
    found: Mapping[str, Any] = value.get("spec") or {}
    return found


def refuse_unmanaged(pod: Mapping[str, Any], target: TargetRef, force: bool) -> None:
    """Raises Refused for a pod that deleting would not replace."""
    if "kubernetes.io/config.mirror" in (meta(pod).get("annotations") or {}):
        raise Refused(f"{target} mirrors a static pod of its node: deleting it changes nothing")
    if controller_of(pod) is None and not force:
        raise Refused(
            f"{target} has no controller that would make it again; set `force: true` to lose it"
        )
