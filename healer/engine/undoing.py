"""Puts back what a step changed that did not help."""

import asyncio
from dataclasses import replace

from healer.domain import ladder
from healer.domain.outcome import Applied, Outcome
from healer.domain.plan import PlannedStep
from healer.domain.run import Run, StepRecord
from healer.domain.verdict import Reason
from healer.engine.effects import action_of, context_of, intent_fact, settle
from healer.engine.lease import hold
from healer.engine.resting import blocked
from healer.engine.world import World
from healer.errors import HealerError, TemporaryError, TimedOut
from healer.kernel.running import acting_for
from healer.ports import Change, Claim

#: For so long an undo whose identical repetition is harmless is tried again. Seconds.
UNDO_SECONDS = 300.0


async def undo(world: World, claim: Claim, run: Run) -> Claim:
    """Put back what the current rung changed, with an intent and an outcome of its own.

    A pause holds it back as it holds everything back.
    """
    step = ladder.current(run)
    now = world.clock.now()
    for pause in (*await world.store.pauses(), *world.local_pauses()):
        if pause.covers(run.plan.namespace, run.plan.playbook, now):
            detail = f"undo waits: {pause.scope} is paused by {pause.by}: {pause.reason}"
            return await blocked(world, claim, run, Reason.PAUSED, detail, None)
    done = ladder.record_of(run)
    if done is None:
        raise ValueError(f"{run.id} has nothing to undo")
    lease = await hold(world, claim, step)
    record = run.open_step
    first = record is None
    if record is None:
        run, record = ladder.intend(run, done.precondition, now, undo=True)
        fact = intent_fact(claim.episode, run, step, record)
        claim = await world.commit(
            claim, Change(claim.episode, run=run, step=record, facts=(fact,))
        )
    context = replace(context_of(world, run, step, record.intent_at), key=record.key)
    evidence = {**done.precondition, **done.evidence}
    try:
        action, params = action_of(world, step)
        if lapsed := lease.lapsed(world.clock):
            raise TemporaryError(lapsed)
        async with asyncio.timeout(step.timeout_seconds):
            with acting_for(run.id):
                undone = await action.undo(context, params, step.target, evidence)
    except (HealerError, TimeoutError) as error:
        problem = TimedOut(str(error)) if isinstance(error, TimeoutError) else error
        return await _not_undone(world, claim, run, step, record, problem, first=first)
    nothing = Applied(Outcome.SKIPPED, f"{step.action} leaves nothing to undo")
    return await settle(world, claim, run, step, undone or nothing)


async def _not_undone(
    world: World,
    claim: Claim,
    run: Run,
    step: PlannedStep,
    record: StepRecord,
    problem: HealerError,
    *,
    first: bool,
) -> Claim:
    """Leave the intent open and try again, where that is harmless; else a person decides.

    Only the first attempt can be known to be without effect: an earlier one may have had it.
    """
    now = world.clock.now()
    age = now - record.intent_at
    detail = f"undo of {step.action}: {problem}"
    if step.idempotent and isinstance(problem, TemporaryError) and 0 <= age < UNDO_SECONDS:
        episode = replace(
            claim.episode,
            next_at=now + max(problem.retry_after or 0.0, min(30.0, max(2.0, age))),
            detail=f"{detail}; it is tried again",
        )
        return await world.commit(claim, Change(episode, run=run, release=True))
    certainly = first and not problem.may_have_happened
    outcome = Outcome.FAILED if certainly else Outcome.UNKNOWN
    return await settle(world, claim, run, step, Applied(outcome, detail))
