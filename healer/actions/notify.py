"""notify: tell people, as a step of the ladder."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import Label, Text
from healer.actions.objects import applied
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.ports import Permission


class NotifyParams(Params):
    """What is said, to whom and how loudly."""

    message: Text
    to: Annotated[tuple[Label, ...], Field(max_length=20)] = ()
    """Names of configured notifiers; none means all."""
    severity: Literal["critical", "error", "warning", "info"] = "info"


class Notify:
    """Sends nothing itself: the evidence is what the engine queues, together with the outcome."""

    name: ClassVar[str] = "notify"
    summary: ClassVar[str] = "Tell people, without asking them anything."
    params: ClassVar[type[Params]] = NotifyParams
    kinds: ClassVar[frozenset[Kind]] = frozenset()
    action_class: ClassVar[str] = "notify"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = False
    looked_up_by: ClassVar[str] = "nothing: the message is queued once, by the step's key"
    undone_by: ClassVar[str] = "nothing: what was said was said"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Nothing of the API server."""
        return ()

    def cost(self, params: Any, seen: Observation) -> int:
        """Nothing is disrupted."""
        return 0

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Nothing to remember but the key."""
        return {"key": ctx.key}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """What is to be queued, as evidence `notify`."""
        body = {
            "id": before["key"],
            "channels": list(params.to),
            "severity": params.severity,
            "summary": params.message,
            "target": str(target),
        }
        return applied(ctx, params.message, {"notify": body})

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Unknown: only the queue knows."""
        return Presence.UNKNOWN

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Nothing."""
        return None
