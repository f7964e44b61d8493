"""One effect and what came of it: applied, certainly not, or not known yet; then the ladder."""

import asyncio
import logging
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from healer.actions.contract import Action, ActionContext
from healer.domain import ladder
from healer.domain.decay import verification_window
from healer.domain.episode import Episode, EpisodeState
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Applied, Outcome
from healer.domain.plan import PlannedStep, idempotency_key
from healer.domain.run import Phase, Run, StepRecord
from healer.domain.verdict import Reason
from healer.engine import telling
from healer.engine.first_write import FirstWrite
from healer.engine.lease import Lease
from healer.engine.world import World
from healer.errors import Conflict, HealerError, NotFound, Refused, TemporaryError, TimedOut
from healer.kernel.running import acting_for
from healer.ports import Change, Claim

_log = logging.getLogger(__name__)

#: An open intent is looked up again at least this often. Seconds.
LOOK_MAX_SECONDS = 30.0
#: What a server asks us to wait is kept to, up to this: nobody puts healer off for a day. Seconds.
TOLD_MAX_SECONDS = 300.0


def action_of(world: World, step: PlannedStep) -> tuple[Action, Any]:
    """The step's action with its parameters. Raises Refused for what this version cannot do."""
    action = world.actions.get(step.action)
    if action is None:
        raise Refused(f"{step.name}: this version of healer has no action {step.action!r}")
    try:
        return action, action.params.model_validate(dict(step.params))
    except ValidationError as error:
        raise Refused(
            f"{step.name}: this version of {step.action} does not take the parameters of the plan: "
            f"{error.errors()[0]['msg']}"
        ) from error


def context_of(world: World, run: Run, step: PlannedStep, at: float) -> ActionContext:
    """The world this step may touch, under the identity of its present attempt."""
    return ActionContext(
        cluster=world.cluster,
        alerts=world.alerts,
        http=world.http,
        key=idempotency_key(run.id, run.rung, run.attempt),
        run_id=run.id,
        at=at,
        timeout_seconds=step.timeout_seconds,
        dry_run=world.options.dry_run,
        clock=world.clock,
    )


def intent_fact(episode: Episode, run: Run, step: PlannedStep, record: StepRecord) -> Fact:
    """What is about to be done, to be durable before it is."""
    return Fact(
        FactKind.INTENT, record.intent_at, episode.id, run.id, Reason.ALLOWED,
        f"{step.name}: {step.action} on {step.target}",
        {
            "step": record.step, "attempt": record.attempt, "undo": record.undo,
            "action": step.action, "action_class": step.action_class, "key": record.key,
            "target": str(step.target), "uid": step.target.uid, "playbook": run.plan.playbook,
        },
    )  # fmt: skip


async def effect(
    world: World,
    claim: Claim,
    run: Run,
    step: PlannedStep,
    action: Action,
    params: Any,
    record: StepRecord,
    lease: Lease,
    *,
    again: bool = False,
) -> Claim:
    """The effect itself. Failed without effect is settled; what may have happened stays open.

    Raises Conflict or NotFound for a repetition (`again`) that met another object.
    """
    if lapsed := lease.lapsed(world.clock):
        late = TemporaryError(lapsed)
        if again:
            raise late
        return await no_effect(world, claim, run, step, late)
    context = replace(
        context_of(world, run, step, record.intent_at),
        key=record.key,
        cluster=FirstWrite(world.cluster, lease, world.clock),
    )
    world.crash.reach("before:effect")
    try:
        async with asyncio.timeout(step.timeout_seconds):
            with acting_for(run.id):
                applied = await action.apply(context, params, step.target, record.precondition)
    except (HealerError, TimeoutError) as error:
        world.crash.reach("after:effect")
        problem = TimedOut(str(error)) if isinstance(error, TimeoutError) else error
        if again and isinstance(problem, Conflict | NotFound):
            raise
        if problem.may_have_happened or again:
            # A repetition that had no effect says nothing about the request that it repeated.
            return await still_open(world, claim, run, step, problem)
        return await no_effect(world, claim, run, step, problem)
    world.crash.reach("after:effect")
    if world.options.dry_run and applied.outcome is Outcome.APPLIED:
        applied = replace(applied, outcome=Outcome.DRY_RUN)
    return await settle(world, claim, run, step, applied)


async def still_open(
    world: World, claim: Claim, run: Run, step: PlannedStep, problem: Exception
) -> Claim:
    """The intent stays open: the next look goes through the same lookup as after a crash.

    The older the intent, the longer until then.
    """
    now = world.clock.now()
    record = run.open_step
    age = now - record.intent_at if record is not None else 0.0
    wait = min(max(age, ladder.RETRY_BASE_SECONDS), LOOK_MAX_SECONDS)
    told = getattr(problem, "retry_after", None) or 0.0
    episode = replace(
        claim.episode,
        next_at=now + max(wait, min(told, LOOK_MAX_SECONDS)),
        detail=f"{step.action}: {problem}; looking whether it happened",
    )
    return await world.commit(claim, Change(episode, run=run, release=True))


async def settle(
    world: World, claim: Claim, run: Run, step: PlannedStep, applied: Applied
) -> Claim:
    """Write the outcome and move on along the ladder."""
    now = world.clock.now()
    undo = run.phase is Phase.UNDOING
    run, record = ladder.settle(run, applied.outcome, applied.detail, now, applied.evidence)
    if undo:
        run = ladder.after_undo(run, applied.outcome, now)
    else:
        run = ladder.after_outcome(run, applied.outcome, now, await window(world, run, step))
    fact = outcome_fact(claim.episode, run, step, record)
    episode = replace(claim.episode, detail=applied.detail, updated_at=now, next_at=now)
    messages = telling.said(world, episode, run, applied.evidence, now)
    over = run.phase is Phase.DONE
    if over:  # a dry run came to the end of its ladder
        episode = replace(
            episode,
            state=EpisodeState.SETTLED,
            result=run.result,
            reason=run.reason,
            next_at=now + run.plan.guards.cooldown_seconds,
        )
    change = Change(
        episode, run=run, step=record, facts=(fact,), messages=messages, unlock=over, release=over
    )
    return await world.commit(claim, change)


def outcome_fact(episode: Episode, run: Run, step: PlannedStep, record: StepRecord) -> Fact:
    """What came of it."""
    return Fact(
        FactKind.OUTCOME, record.outcome_at or 0.0, episode.id, run.id, None, record.detail,
        {
            "step": record.step, "attempt": record.attempt, "undo": record.undo,
            "action": step.action, "outcome": str(record.outcome), "target": str(step.target),
            "playbook": run.plan.playbook, "seconds": (record.outcome_at or 0.0) - record.intent_at,
        },
    )  # fmt: skip


async def window(world: World, run: Run, step: PlannedStep) -> float:
    """How long verification may take: as given, or as slowly as the alerting rule itself decays."""
    if step.verify is None:
        return 0.0
    if step.verify.within_seconds is not None:
        return step.verify.within_seconds
    name = run.plan.labels.get("alertname", "")
    if world.metrics is not None and name:
        try:
            rules = [rule for rule in await world.metrics.rules() if rule.name == name]
        except HealerError as error:
            _log.warning("alerting rules cannot be read", extra={"error": str(error)})
        else:
            if rules:
                return max(
                    verification_window(
                        rule.expr,
                        rule.keep_firing_for_seconds,
                        rule.interval_seconds,
                        for_seconds=rule.for_seconds,
                    ).seconds
                    for rule in rules
                )
    return world.options.verify_default_seconds


async def no_effect(
    world: World, claim: Claim, run: Run, step: PlannedStep, error: Exception
) -> Claim:
    """The rung certainly had no effect: try it again after a while, or go on to the next."""
    now = world.clock.now()
    record = run.open_step
    outcome = Applied(Outcome.FAILED, f"{step.action}: {str(error) or type(error).__name__}")
    if record is not None:
        run, record = ladder.settle(run, outcome.outcome, outcome.detail, now)
        fact = outcome_fact(claim.episode, run, step, record)
    else:
        fact = Fact(
            FactKind.OUTCOME, now, claim.episode.id, run.id, Reason.ACTION_FAILED, outcome.detail,
            {"step": step.index, "action": step.action, "outcome": str(Outcome.FAILED)},
        )  # fmt: skip
    fact = replace(fact, reason=Reason.ACTION_FAILED)
    again = isinstance(error, TemporaryError | Conflict | TimeoutError)
    later = ladder.retry_later(run, now) if again else None
    if later is None:
        run = ladder.after_outcome(run, Outcome.FAILED, now, 0.0)
        episode = replace(claim.episode, detail=outcome.detail, updated_at=now, next_at=now)
        return await world.commit(claim, Change(episode, run=run, step=record, facts=(fact,)))
    run, at = later
    told = min(getattr(error, "retry_after", None) or 0.0, TOLD_MAX_SECONDS)
    episode = replace(
        claim.episode, state=EpisodeState.RUNNING, detail=outcome.detail, updated_at=now,
        next_at=max(at, now + told),
    )  # fmt: skip
    change = Change(episode, run=run, step=record, facts=(fact,), release=True)
    return await world.commit(claim, change)
