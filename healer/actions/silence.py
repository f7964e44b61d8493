"""silence: keep a known alert from paging people while a step works."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, StringConstraints

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import Seconds, Text
from healer.actions.objects import applied
from healer.domain.outcome import Applied, Outcome
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Refused
from healer.kernel.durations import format_duration
from healer.ports import Alerts, Permission

MatcherName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
MatcherValue = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class SilenceParams(Params):
    """Which alerts, by labels that must be equal, and for how long."""

    matchers: Annotated[dict[MatcherName, MatcherValue], Field(min_length=1, max_length=20)]
    seconds: Annotated[Seconds, Field(ge=60, le=86400, alias="for")]
    reason: Text = "a step is at work"

    model_config = ConfigDict(serialize_by_alias=True)


class Silence:
    """One silence whose comment carries the step's key; it ends by itself."""

    name: ClassVar[str] = "silence"
    summary: ClassVar[str] = "Silence alerts by exact labels for a while, in Alertmanager."
    params: ClassVar[type[Params]] = SilenceParams
    kinds: ClassVar[frozenset[Kind]] = frozenset()
    action_class: ClassVar[str] = "silence"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = False
    looked_up_by: ClassVar[str] = "nothing: it is repeated, and found by its comment"
    undone_by: ClassVar[str] = "expires the silence"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Nothing of the API server."""
        return ()

    def cost(self, params: Any, seen: Observation) -> int:
        """Nothing is disrupted."""
        return 0

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """The comment by which it is found again."""
        _client(ctx)
        return {"comment": f"healer {ctx.key}: {params.reason}"}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Create it, unless one with the comment is in force."""
        words = ", ".join(f"{name}={value}" for name, value in sorted(params.matchers.items()))
        if ctx.dry_run:
            return Applied(Outcome.DRY_RUN, f"{words} would be silenced")
        made = await _client(ctx).silence(
            params.matchers, params.seconds, before["comment"], ctx.at
        )
        text = f"{words} is silenced for {format_duration(params.seconds)}"
        return applied(ctx, text, {"silence": made})

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Unknown: Alertmanager is only asked while repeating."""
        return Presence.UNKNOWN

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Expire it; one that is gone is fine."""
        client = _client(ctx)
        if ctx.dry_run:
            return Applied(Outcome.DRY_RUN, "the silence would be expired")
        known = before.get("silence") or await client.silence(
            params.matchers, params.seconds, before["comment"], ctx.at
        )
        await client.expire(known)
        return applied(ctx, f"silence {known} is expired")


def _client(ctx: ActionContext) -> Alerts:
    if ctx.alerts is None:
        raise Refused("no Alertmanager is configured, so nothing can be silenced")
    return ctx.alerts
