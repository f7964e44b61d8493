"""wait: give it time before the next rung."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import Seconds
from healer.actions.objects import applied
from healer.domain.outcome import Applied, Outcome
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Refused
from healer.kernel.durations import format_duration
from healer.ports import Permission


class WaitParams(Params):
    """How long."""

    seconds: Annotated[Seconds, Field(gt=0, le=3600, alias="for")]

    model_config = ConfigDict(serialize_by_alias=True)


class Wait:
    """Waits on the context's clock; after a crash it waits again from the start."""

    name: ClassVar[str] = "wait"
    summary: ClassVar[str] = "Wait, and change nothing."
    params: ClassVar[type[Params]] = WaitParams
    kinds: ClassVar[frozenset[Kind]] = frozenset()
    action_class: ClassVar[str] = "wait"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = False
    looked_up_by: ClassVar[str] = "nothing: it waits again"
    undone_by: ClassVar[str] = "nothing"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Nothing of the API server."""
        return ()

    def cost(self, params: Any, seen: Observation) -> int:
        """Nothing is disrupted."""
        return 0

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Refuses to begin what the step's own timeout would cut off."""
        if params.seconds >= ctx.timeout_seconds:
            raise Refused(
                f"waiting {format_duration(params.seconds)} does not fit into the step's timeout "
                f"of {format_duration(ctx.timeout_seconds)}; give the step a longer `timeout`"
            )
        return {}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Wait."""
        length = format_duration(params.seconds)
        if ctx.dry_run:
            return Applied(Outcome.DRY_RUN, f"would wait {length}")
        await ctx.clock.sleep(params.seconds)
        return applied(ctx, f"waited {length}")

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Unknown: nothing shows how long anybody waited."""
        return Presence.UNKNOWN

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Nothing."""
        return None
