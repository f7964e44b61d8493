"""Puts back what a step changed that did not help."""

import asyncio
from dataclasses import replace

from healer.domain import ladder
from healer.domain.outcome import Applied, Outcome
from healer.domain.run import Run
from healer.domain.verdict import Reason
from healer.engine.effects import action_of, context_of, intent_fact, settle
from healer.engine.lease import hold
from healer.engine.resting import blocked
from healer.engine.world import World
from healer.errors import HealerError, TemporaryError
from healer.kernel.running import acting_for
from healer.ports import Change, Claim


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
        if not lease.lasts(world.clock):
            raise TemporaryError("the lease on the episode was too short; nothing was undone")
        async with asyncio.timeout(step.timeout_seconds):
            with acting_for(run.id):
                undone = await action.undo(context, params, step.target, evidence)
    except (HealerError, TimeoutError) as error:
        problem = Applied(Outcome.FAILED, f"undo of {step.action}: {error}")
        return await settle(world, claim, run, step, problem)
    nothing = Applied(Outcome.SKIPPED, f"{step.action} leaves nothing to undo")
    return await settle(world, claim, run, step, undone or nothing)
