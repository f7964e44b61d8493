"""drain: cordon a node and evict its pods, as fast as their disruption budgets let it."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.cordon import cordon_before, lift_own, set_cordon
from healer.actions.leaves import Whole
from healer.actions.objects import applied, fetch, fetch_if_there, spec
from healer.actions.rights import each, right
from healer.domain.manifests import controller_of, is_leftover, meta, ref_of
from healer.domain.outcome import Applied
from healer.domain.protection import PROTECT_ANNOTATION, is_annotated
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Conflict, NotFound, Refused, Throttled, TimedOut
from healer.ports import JsonObject, Permission

#: Pause between two rounds while disruption budgets refuse.
ROUND_SECONDS = 5.0
#: Share of the step's timeout that rounds may use; the rest is for the answer.
SHARE = 0.8


class DrainParams(Params):
    """What may be evicted, and how many."""

    max_pods: Annotated[Whole, Field(ge=1, le=500)] = 50
    """A node with more pods to evict than this is refused."""
    force: bool = False
    """Also pods that no controller would make again."""


class Drain:
    """Cordons, then evicts every pod that is neither of a DaemonSet nor static.

    It can be resumed: what is gone stays gone, and a second call evicts only what is left.
    """

    name: ClassVar[str] = "drain"
    summary: ClassVar[str] = "Cordon a node and evict its pods, respecting disruption budgets."
    params: ClassVar[type[Params]] = DrainParams
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.NODE})
    action_class: ClassVar[str] = "node"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "cordoned, and every pod that can be evicted is gone or going"
    undone_by: ClassVar[str] = "uncordons, if the cordon is still this step's own; pods stay away"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch nodes, find, read and evict pods."""
        return (
            *each((Kind.NODE,), "get", "patch"),
            *each((Kind.POD,), "get", "list"),
            right("create", Kind.POD, "eviction"),
        )

    def cost(self, params: Any, seen: Observation) -> int:
        """The node: its pods are paced by their own budgets."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Refuses a node with too many pods, or with pods that nothing would replace."""
        before = await cordon_before(ctx, seen.ref)
        pods = await _to_evict(ctx, seen.ref)
        if len(pods) > params.max_pods:
            raise Refused(
                f"{seen.ref} has {len(pods)} pods to evict and `max_pods` is {params.max_pods}"
            )
        kept = [str(ref_of(pod, Kind.POD)) for pod in pods if _kept(pod)]
        if kept:
            raise Refused(
                f"{', '.join(kept[:5])} on {seen.ref} is annotated {PROTECT_ANNOTATION}=true: a "
                "person moves it first"
            )
        bare = [str(ref_of(pod, Kind.POD)) for pod in pods if controller_of(pod) is None]
        if bare and not params.force:
            raise Refused(
                f"{', '.join(bare[:5])} on {seen.ref} have no controller that would make them "
                "again; set `force: true` to lose them"
            )
        return {**before, "pods": [str(ref_of(pod, Kind.POD)) for pod in pods]}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Cordon and evict, round by round.

        Raises Throttled when budgets refused every pod and nothing was evicted, and TimedOut when
        only some are gone: then a lookup finds it not done, and the rest is evicted later.
        """
        await fetch(ctx.cluster, target)
        await set_cordon(ctx, target, True, str(before["key"]))
        if ctx.dry_run:
            blocked = await self._round(ctx, target, params)
            return applied(ctx, f"{target} would be drained, {len(blocked)} pods have to wait")
        end = ctx.clock.monotonic() + ctx.timeout_seconds * SHARE
        at_first = len(await _to_evict(ctx, target))
        while blocked := await self._round(ctx, target, params):
            if ctx.clock.monotonic() + ROUND_SECONDS > end:
                text = f"{len(blocked)} of {at_first} pods of {target} wait: {blocked[0]}"
                if len(blocked) == at_first:
                    raise Throttled(text)
                raise TimedOut(text)
            await ctx.clock.sleep(ROUND_SECONDS)
        return applied(ctx, f"{target} is drained of {len(before['pods'])} pods")

    async def _round(self, ctx: ActionContext, target: TargetRef, params: DrainParams) -> list[str]:
        """One try at every pod; what each refusal said."""
        blocked = []
        for pod in await _to_evict(ctx, target):
            ref = ref_of(pod, Kind.POD)
            if _kept(pod) or (controller_of(pod) is None and not params.force):
                continue  # came after the look that refused such pods; it is not ours to lose
            try:
                await ctx.cluster.evict(ref, dry_run=ctx.dry_run)
            except (NotFound, Conflict):
                continue  # that incarnation is gone, which is what was wanted
            except Throttled as error:
                blocked.append(f"{ref}: {error}")
        return blocked

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether it is cordoned and nothing is left to evict."""
        found = await fetch_if_there(ctx.cluster, target)
        if found is None or not spec(found).get("unschedulable"):
            return Presence.NOT_APPLIED
        left = [
            pod
            for pod in await _to_evict(ctx, target)
            if not _kept(pod) and (controller_of(pod) or params.force)
        ]
        return Presence.NOT_APPLIED if left else Presence.APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Uncordon; the pods stay where they went."""
        return await lift_own(ctx, target, before)


def _kept(pod: JsonObject) -> bool:
    return is_annotated(meta(pod).get("annotations") or {})


async def _to_evict(ctx: ActionContext, node: TargetRef) -> list[JsonObject]:
    """The node's pods that an eviction would move: not terminating, ended, static or a DaemonSet's.

    The node's name is checked again on each pod: a selector that selects too much moves nothing.
    """
    pods = await ctx.cluster.list(Kind.POD, fields=f"spec.nodeName={node.name}")
    return [
        pod
        for pod in pods
        if spec(pod).get("nodeName") == node.name
        and not meta(pod).get("deletionTimestamp")
        and not is_leftover(pod)
        and "kubernetes.io/config.mirror" not in (meta(pod).get("annotations") or {})
        and (controller_of(pod) or {}).get("kind") != Kind.DAEMON_SET
    ]
