"""pause_rollout and resume_rollout: stop a bad release half way, and let it go on."""

from collections.abc import Mapping
from typing import Any, ClassVar

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.objects import already, applied, fetch, fetch_if_there, patch_while, spec
from healer.actions.rights import each
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.ports import JsonObject, Permission


class PauseRolloutParams(Params):
    """None."""


class PauseRollout:
    """Sets `spec.paused` of a Deployment."""

    name: ClassVar[str] = "pause_rollout"
    summary: ClassVar[str] = "Pause the rollout of a Deployment where it stands."
    params: ClassVar[type[Params]] = PauseRolloutParams
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.DEPLOYMENT})
    action_class: ClassVar[str] = "rollout"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "`spec.paused`"
    undone_by: ClassVar[str] = "puts back what it was"
    paused: ClassVar[bool] = True

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch Deployments."""
        return each((Kind.DEPLOYMENT,), "get", "patch")

    def cost(self, params: Any, seen: Observation) -> int:
        """One, so that it is budgeted."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """What it is now."""
        found = await fetch(ctx.cluster, seen.ref)
        return {"uid": seen.ref.uid, "paused": bool(spec(found).get("paused"))}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Set it."""
        return await _set(ctx, target, self.paused)

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether it is set."""
        found = await fetch_if_there(ctx.cluster, target)
        done = found is not None and bool(spec(found).get("paused")) is self.paused
        return Presence.APPLIED if done else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """What it was, if it was otherwise."""
        if bool(before["paused"]) is self.paused:
            return None
        return await _set(ctx, target, bool(before["paused"]))


class ResumeRollout(PauseRollout):
    """Clears `spec.paused` of a Deployment."""

    name: ClassVar[str] = "resume_rollout"
    summary: ClassVar[str] = "Let a paused rollout of a Deployment go on."
    paused: ClassVar[bool] = False


async def _set(ctx: ActionContext, target: TargetRef, paused: bool) -> Applied:
    word = "paused" if paused else "resumed"

    def change(found: JsonObject) -> dict[str, Any] | None:
        same = bool(spec(found).get("paused")) is paused
        return None if same else {"spec": {"paused": paused or None}}

    if await patch_while(ctx, target, change) is None:
        return already(f"{target} is {word} already")
    return applied(ctx, f"{target} is {word}")
