"""restart_rollout: new pods for a workload, one batch after the other, as its own strategy says."""

from collections.abc import Mapping
from typing import Any, ClassVar

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.objects import RUN, applied, fetch, fetch_if_there, spec
from healer.actions.rights import among, each
from healer.domain.outcome import Applied
from healer.domain.target import WORKLOADS, Kind, Observation, TargetRef
from healer.errors import Refused
from healer.kernel.clock import rfc3339
from healer.ports import PatchType, Permission

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


class RestartRolloutParams(Params):
    """None: the workload's own update strategy paces it."""


class RestartRollout:
    """Annotates the pod template with the journaled time and the step's key.

    The same patch twice leaves the generation as it is, so it never rolls twice.
    """

    name: ClassVar[str] = "restart_rollout"
    summary: ClassVar[str] = "Restart all pods of a workload as its own update strategy paces it."
    params: ClassVar[type[Params]] = RestartRolloutParams
    kinds: ClassVar[frozenset[Kind]] = WORKLOADS
    action_class: ClassVar[str] = "restart"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "annotation `healer.dev/run` of the pod template"
    undone_by: ClassVar[str] = "nothing: the old pods are gone"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch the workload."""
        return each(among(kind, self.kinds), "get", "patch")

    def cost(self, params: Any, seen: Observation) -> int:
        """One: the workload's strategy takes down one batch at a time."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Refuses a workload that a new template would not roll."""
        found = await fetch(ctx.cluster, seen.ref)
        if spec(found).get("paused"):
            raise Refused(f"{seen.ref} is paused, so nothing would restart; resume_rollout first")
        if (spec(found).get("updateStrategy") or {}).get("type") == "OnDelete":
            raise Refused(f"{seen.ref} updates OnDelete, so nothing would restart; delete its pods")
        return {
            "uid": seen.ref.uid,
            "restartedAt": _marks(found).get(RESTARTED_AT, ""),
        }

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Set both annotations."""
        marks = {RESTARTED_AT: rfc3339(ctx.at), RUN: ctx.key}
        body = {"spec": {"template": {"metadata": {"annotations": marks}}}}
        found = await ctx.cluster.patch(target, body, PatchType.MERGE, dry_run=ctx.dry_run)
        generation = found["metadata"].get("generation", 0)
        return applied(ctx, f"{target} restarts as generation {generation}", {
            "generation": generation,
        })  # fmt: skip

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether the template carries this step's key."""
        found = await fetch_if_there(ctx.cluster, target)
        done = found is not None and _marks(found).get(RUN) == ctx.key
        return Presence.APPLIED if done else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Nothing: a restart has no way back."""
        return None


def _marks(found: Mapping[str, Any]) -> Mapping[str, str]:
    template = spec(found).get("template") or {}
    marks: Mapping[str, str] = (template.get("metadata") or {}).get("annotations") or {}
    return marks
