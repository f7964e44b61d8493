"""Looks up a step whose intent is on disk and whose outcome is not: after a crash, or a cut line.

It is repeated only when it is certainly not there or the identical request is harmless, and every
guard still allows it. Otherwise its outcome is unknown, and a person decides.

That it is not there yet does not mean that it never comes: what was sent may wait in a server that
was frozen, or on a slow way. So what is idempotent is first repeated unchanged, under its old key:
whichever of the two arrives second changes nothing.
"""

import asyncio
import logging
from dataclasses import replace

from healer.actions.contract import Presence
from healer.domain.guard import decide
from healer.domain.outcome import Applied, Outcome
from healer.domain.run import Run, StepRecord
from healer.domain.verdict import Effect, Reason
from healer.engine.effects import action_of, context_of, effect, no_effect, settle, still_open
from healer.engine.lease import hold
from healer.engine.resting import blocked
from healer.engine.survey import survey
from healer.engine.undoing import undo
from healer.engine.world import World
from healer.errors import Conflict, HealerError, NotFound, Refused, TemporaryError
from healer.ports import Change, Claim

_log = logging.getLogger(__name__)

#: How long a lookup of an open intent is tried before its outcome is called unknown. Seconds.
LOOKUP_SECONDS = 300.0
#: An identical request is repeated at most this long after its intent. Seconds.
REPEAT_SECONDS = 120.0
#: What these do can be done again at any time: they touch nothing outside.
_TOUCHES_NOTHING = frozenset({"wait", "notify"})


async def look_up(world: World, claim: Claim, run: Run) -> Claim:
    """Settle a step whose intent is on disk and whose outcome is not."""
    record = run.open_step
    if record is None:
        raise ValueError(f"{run.id} has no open step to look up")
    step = run.plan.steps[record.step]
    try:
        action, params = action_of(world, step)
    except Refused as error:
        return await settle(world, claim, run, step, Applied(Outcome.UNKNOWN, str(error)))
    presence = Presence.UNKNOWN
    if step.probeable and not record.undo:
        context = replace(context_of(world, run, step, record.intent_at), key=record.key)
        try:
            async with asyncio.timeout(step.timeout_seconds):
                presence = await action.probe(context, params, step.target, record.precondition)
        except (TemporaryError, TimeoutError) as error:
            age = world.clock.now() - record.intent_at
            if age < LOOKUP_SECONDS:
                episode = replace(
                    claim.episode,
                    next_at=world.clock.now() + min(30.0, max(2.0, age)),
                    detail=f"cannot look up {record.key} yet: {error}",
                )
                return await world.commit(claim, Change(episode, run=run, release=True))
        except HealerError as error:
            _log.warning("lookup refused", extra={"run": run.id, "error": str(error)})
    return await _found(world, claim, run, record, presence)


async def _found(
    world: World, claim: Claim, run: Run, record: StepRecord, presence: Presence
) -> Claim:
    """What is done about the open step after the lookup has said `presence`."""
    step = run.plan.steps[record.step]
    if presence is Presence.APPLIED:
        done = Applied(Outcome.APPLIED, f"{step.action}: found in place by looking it up")
        return await settle(world, claim, run, step, done)
    harmless = step.idempotent or presence is Presence.REPEATABLE
    if harmless and not record.undo:
        repeated = await _repeat(world, claim, run, record)
        if repeated is not None:
            return repeated
    if presence is Presence.NOT_APPLIED:
        never = TemporaryError(f"{record.key} was looked up and never happened")
        return await no_effect(world, claim, run, step, never)
    if record.undo and step.idempotent:
        return await undo(world, claim, run)
    lost = Applied(Outcome.UNKNOWN, f"{step.action}: nobody can tell whether it happened")
    return await settle(world, claim, run, step, lost)


async def _repeat(world: World, claim: Claim, run: Run, record: StepRecord) -> Claim | None:
    """Send the identical request again, if every guard still allows it; None when it may not be.

    What may be the first effect of this step is guarded like a first effect. While a guard defers
    it the intent stays open, at most for `REPEAT_SECONDS`.
    """
    step = run.plan.steps[record.step]
    action, params = action_of(world, step)
    if step.action_class not in _TOUCHES_NOTHING:
        if world.clock.now() - record.intent_at >= REPEAT_SECONDS:
            return None
        try:
            looked = await survey(world, claim.episode, run.plan, step, begun=True)
        except TemporaryError as error:
            return await blocked(world, claim, run, Reason.TEMPORARY_FAILURE, str(error), None)
        verdict, allow = decide(run.plan, step, replace(looked.facts, paid=True, canary=True))
        if allow is None and verdict.effect is Effect.DEFER:
            return await blocked(world, claim, run, verdict.reason, verdict.detail, verdict)
        if allow is None:
            return None
    lease = await hold(world, claim, step)
    try:
        return await effect(world, claim, run, step, action, params, record, lease, again=True)
    except (Conflict, NotFound) as error:
        return await _overtaken(world, claim, run, record, error)


async def _overtaken(
    world: World, claim: Claim, run: Run, record: StepRecord, error: HealerError
) -> Claim:
    """The object is another one by now, so what was sent before cannot arrive any more either.

    One more look says whether it had.
    """
    step = run.plan.steps[record.step]
    action, params = action_of(world, step)
    context = replace(context_of(world, run, step, record.intent_at), key=record.key)
    presence = Presence.UNKNOWN
    if step.probeable:
        try:
            async with asyncio.timeout(step.timeout_seconds):
                presence = await action.probe(context, params, step.target, record.precondition)
        except (HealerError, TimeoutError) as again:
            _log.warning("lookup failed", extra={"run": run.id, "error": str(again)})
    if presence is Presence.NOT_APPLIED:
        return await no_effect(world, claim, run, step, error)
    return await still_open(world, claim, run, step, error)
