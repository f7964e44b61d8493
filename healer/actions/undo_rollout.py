"""undo_rollout: back to the last revision that was healthy, which need not be the previous one."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import Seconds, Whole
from healer.actions.objects import (
    ATTEMPTS,
    RUN,
    already,
    applied,
    changed_meanwhile,
    fetch,
    fetch_if_there,
    spec,
)
from healer.actions.revisions import (
    Choice,
    Template,
    choose,
    cleaned,
    revisions_of,
    template_identity,
)
from healer.actions.rights import among, each
from healer.domain.manifests import meta, selector_text
from healer.domain.outcome import Applied
from healer.domain.target import WORKLOADS, Kind, Observation, TargetRef
from healer.errors import Conflict, Refused
from healer.ports import JsonObject, PatchType, Permission

#: On a workload: identities of the templates healer rolled away from, newest last.
ROLLED_AWAY = "healer.dev/rolled-away-from"
_KEPT = 5


class UndoRolloutParams(Params):
    """How a revision proves that it was healthy."""

    soak: Annotated[Seconds, Field(ge=0)] = 600.0
    """A revision of which nothing else is known counts as healthy after so long in charge."""
    revision: Annotated[Whole, Field(ge=1)] | None = None
    """Exactly this revision instead; none means the last healthy one."""


class UndoRollout:
    """Puts an earlier pod template back, and remembers which one was bad.

    What it left is never chosen again, so two bad releases are not swapped for ever.
    """

    name: ClassVar[str] = "undo_rollout"
    summary: ClassVar[str] = "Go back to the last revision of a workload that was healthy."
    params: ClassVar[type[Params]] = UndoRolloutParams
    kinds: ClassVar[frozenset[Kind]] = WORKLOADS
    action_class: ClassVar[str] = "rollout"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "the pod template"
    undone_by: ClassVar[str] = "puts back the template it left, if nobody changed it since"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read and patch the workload, read its history."""
        kinds = among(kind, self.kinds)
        history = {_history_kind(one) for one in kinds}
        return (*each(kinds, "get", "patch"), *each(sorted(history), "list"))

    def cost(self, params: Any, seen: Observation) -> int:
        """One: the workload's strategy takes down one batch at a time."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """The template now and the one to go back to. Refuses when no revision was healthy."""
        found = await fetch(ctx.cluster, seen.ref)
        if spec(found).get("paused"):
            raise Refused(f"{seen.ref} is paused, so nothing would roll back; resume_rollout first")
        now: Template = spec(found)["template"]
        choice = await self._choose(ctx, params, seen, found)
        marks = meta(found).get("annotations") or {}
        return {
            "uid": seen.ref.uid,
            "from": now,
            "to": choice.revision.template,
            "revision": choice.revision.number,
            "why": choice.why,
            "rolledAway": marks.get(ROLLED_AWAY, ""),
        }

    async def _choose(
        self, ctx: ActionContext, params: UndoRolloutParams, seen: Observation, found: JsonObject
    ) -> Choice:
        history = await ctx.cluster.list(
            _history_kind(seen.ref.kind),
            seen.ref.namespace,
            labels=selector_text(spec(found)["selector"]),
        )
        ready = Counter(pod.revision for pod in seen.pods if pod.ready and not pod.terminating)
        revisions = revisions_of(seen.ref.kind, found, history, ready)
        if params.revision is not None:
            for revision in revisions:
                if revision.number == params.revision:
                    return Choice(revision, f"revision {revision.number} was asked for")
            raise Refused(f"{seen.ref} has no revision {params.revision} any more")
        marks = meta(found).get("annotations") or {}
        left = frozenset(marks.get(ROLLED_AWAY, "").split(",")) - {""}
        return choose(revisions, spec(found)["template"], left, params.soak)

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Put it back, unless somebody else has changed the template."""
        bad = template_identity(before["from"])
        left = [one for one in str(before["rolledAway"]).split(",") if one and one != bad]
        marks = {ROLLED_AWAY: ",".join([*left, bad][-_KEPT:]), RUN: ctx.key}
        if not await _put(ctx, target, before["from"], before["to"], marks):
            return already(f"{target} has the template of revision {before['revision']} already")
        return applied(ctx, f"{target} goes back: {before['why']}", {
            "revision": before["revision"], "why": before["why"],
        })  # fmt: skip

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether the template is the one to go back to."""
        found = await fetch_if_there(ctx.cluster, target)
        done = found is not None and _same(spec(found)["template"], before["to"])
        return Presence.APPLIED if done else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """The template it left. Raises Conflict when somebody changed it since."""
        marks = {ROLLED_AWAY: before["rolledAway"] or None, RUN: ctx.key}
        if not await _put(ctx, target, before["to"], before["from"], marks):
            return already(f"{target} has the template from before already")
        return applied(ctx, f"{target} has the template from before again")


def _history_kind(kind: Kind) -> Kind:
    return Kind.REPLICA_SET if kind is Kind.DEPLOYMENT else Kind.CONTROLLER_REVISION


def _same(one: Template, other: Template) -> bool:
    return cleaned(one) == cleaned(other)


async def _put(
    ctx: ActionContext,
    target: TargetRef,
    old: Template,
    new: Template,
    marks: Mapping[str, str | None],
) -> bool:
    """Replace the whole template, as a merge could not remove what the other one has not."""
    for _ in range(ATTEMPTS):
        found = await fetch(ctx.cluster, target)
        now = spec(found)["template"]
        if _same(now, new):
            return False
        if not _same(now, old):
            raise changed_meanwhile(
                target, "the pod template", template_identity(now), template_identity(old)
            )
        annotations = {**(meta(found).get("annotations") or {}), **marks}
        kept = {name: value for name, value in annotations.items() if value is not None}
        version = meta(found).get("resourceVersion", "")
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": meta(found)["uid"]},
            # Not a test: a replaced resourceVersion is a precondition, and answers 409 when old.
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            {"op": "replace", "path": "/spec/template", "value": new},
            {"op": "add", "path": "/metadata/annotations", "value": kept},
        ]
        try:
            await ctx.cluster.patch(target, patch, PatchType.JSON, dry_run=ctx.dry_run)
        except Conflict:
            continue
        return True
    raise Conflict(f"{target} changed {ATTEMPTS} times while it was being changed; try again later")
