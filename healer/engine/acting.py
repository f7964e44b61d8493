"""Acts: intent on disk, then the effect, then its outcome on disk. Never the other way round.

A step whose intent has no outcome (a crash, a cut connection) is looked up in the cluster; it is
repeated only when it is certainly not there or the identical request is harmless, and the alert
still fires. Otherwise its outcome is unknown, and a person decides.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from healer.actions.contract import Action, ActionContext, Presence
from healer.domain import ladder
from healer.domain.budget import spends
from healer.domain.decay import verification_window
from healer.domain.episode import Episode, EpisodeState
from healer.domain.guard import decide
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Applied, Outcome
from healer.domain.plan import PlannedStep, idempotency_key
from healer.domain.run import Phase, Run, StepRecord
from healer.domain.target import Observation
from healer.domain.verdict import Allow, Effect, Reason
from healer.engine import telling
from healer.engine.deciding import Go, blocked, planned_facts, text_of
from healer.engine.evidence import capture
from healer.engine.lease import Lease, hold
from healer.engine.survey import survey
from healer.engine.world import World
from healer.errors import Conflict, HealerError, Refused, TemporaryError, TimedOut
from healer.expressions import Expression
from healer.kernel.running import acting_for
from healer.planning import ConditionVariables
from healer.ports import BudgetShort, Change, Claim, LockTaken

_log = logging.getLogger(__name__)

#: How long a lookup of an open intent is tried before its outcome is called unknown. Seconds.
LOOKUP_SECONDS = 300.0
#: An identical request is repeated at most this long after its intent. Seconds.
REPEAT_SECONDS = 120.0
#: What these do can be done again at any time: they touch nothing outside.
_TOUCHES_NOTHING = frozenset({"wait", "notify"})


async def act(world: World, go: Go) -> Claim:
    """Do the current rung, which the guard has just allowed."""
    run, allow, claim = go.run, go.allow, go.claim
    step = ladder.current(run)
    _bound(allow, run, step)
    try:
        action, params = _action(world, step)
    except Refused as error:
        return await _no_effect(world, claim, run, step, error)
    if step.condition:
        try:
            holds = _condition_holds(world, step, claim.episode, go.seen)
        except ValueError as error:  # blind: neither this rung nor a stronger one
            return await _stand_back(world, claim, run, Reason.BLIND, str(error), None)
        if not holds:
            return await _skipped(world, go, step)
    context = _context(world, run, step, world.clock.now())
    try:
        async with asyncio.timeout(step.timeout_seconds):
            before = await action.prepare(context, params, go.seen)
    except (HealerError, TimeoutError) as error:
        return await _no_effect(world, claim, run, step, error)
    lease = await hold(world, claim, step)
    try:
        claim, run = await _intend(world, go, step, before)
    except LockTaken as taken:
        return await _stand_back(world, claim, run, Reason.TARGET_LOCKED, str(taken), None)
    except BudgetShort as short:
        reason = Reason.BUDGET_EXHAUSTED
        return await _stand_back(world, claim, run, reason, str(short), short.until)
    record = run.open_step
    if record is None:
        raise ValueError(f"{run.id} was given no intent")
    return await _effect(world, claim, run, step, action, params, record, lease)


def _action(world: World, step: PlannedStep) -> tuple[Action, Any]:
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


def _bound(allow: Allow, run: Run, step: PlannedStep) -> None:
    """An Allow is good for exactly one step of exactly one plan."""
    if allow.plan_digest != run.plan.digest or allow.step != step.index:
        raise Refused(f"{run.id}: the guard allowed another plan or step; nothing was done")


def _condition_holds(world: World, step: PlannedStep, episode: Episode, seen: Observation) -> bool:
    """Raises ValueError when it cannot be evaluated."""
    variables = ConditionVariables(episode, seen, world.clock.now()).as_mapping()
    return Expression(step.condition).holds(variables)


def _context(world: World, run: Run, step: PlannedStep, at: float) -> ActionContext:
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


async def _intend(
    world: World, go: Go, step: PlannedStep, before: dict[str, Any]
) -> tuple[Claim, Run]:
    """Make the intent durable together with its lock and what it costs."""
    now = world.clock.now()
    first = not go.run.steps
    run, record = ladder.intend(go.run, before, now)
    episode = replace(
        go.claim.episode,
        state=EpisodeState.RUNNING,
        reason=Reason.ALLOWED,
        detail=f"{step.name}: {step.action} on {step.target}",
        updated_at=now,
        next_at=now,
        waiting_since=None,
    )
    facts: tuple[Fact, ...] = ()
    if first:
        planned = planned_facts(episode, run, now) if go.run.held_reason is None else ()
        facts = (
            *planned,
            Fact(
                FactKind.EVIDENCE, now, episode.id, run.id, None, "before the first action",
                capture(go.seen),
            ),
        )  # fmt: skip
    facts = (*facts, _intent_fact(episode, run, step, record))
    real = not world.options.dry_run
    change = Change(
        episode, run=run, step=record, facts=facts,
        lock=run.plan.lock if real else None,
        spends=spends(run.plan, step) if real and not ladder.paid(go.run) else (),
        approval=go.approval if first else None,
        playbook_text=text_of(go.playbook),
    )  # fmt: skip
    return await world.commit(go.claim, change), run


def _intent_fact(episode: Episode, run: Run, step: PlannedStep, record: StepRecord) -> Fact:
    return Fact(
        FactKind.INTENT, record.intent_at, episode.id, run.id, Reason.ALLOWED,
        f"{step.name}: {step.action} on {step.target}",
        {
            "step": record.step, "attempt": record.attempt, "undo": record.undo,
            "action": step.action, "action_class": step.action_class, "key": record.key,
            "target": str(step.target), "uid": step.target.uid, "playbook": run.plan.playbook,
        },
    )  # fmt: skip


async def _effect(
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
    """The effect itself. Failed without effect is settled; what may have happened stays open."""
    if not lease.lasts(world.clock):
        late = TemporaryError("the lease on the episode was too short by then; nothing was done")
        if again:
            raise late
        return await _no_effect(world, claim, run, step, late)
    context = replace(_context(world, run, step, record.intent_at), key=record.key)
    world.crash.reach("before:effect")
    try:
        async with asyncio.timeout(step.timeout_seconds):
            with acting_for(run.id):
                applied = await action.apply(context, params, step.target, record.precondition)
    except (HealerError, TimeoutError) as error:
        world.crash.reach("after:effect")
        problem = TimedOut(str(error)) if isinstance(error, TimeoutError) else error
        if problem.may_have_happened:
            # The intent stays open: the next look goes through the same lookup as after a crash.
            episode = replace(
                claim.episode,
                next_at=world.clock.now() + ladder.RETRY_BASE_SECONDS,
                detail=f"{step.action}: {problem}; looking whether it happened",
            )
            return await world.commit(claim, Change(episode, run=run, release=True))
        return await _no_effect(world, claim, run, step, problem)
    world.crash.reach("after:effect")
    if world.options.dry_run and applied.outcome is Outcome.APPLIED:
        applied = replace(applied, outcome=Outcome.DRY_RUN)
    return await settle(world, claim, run, step, applied)


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
    fact = _outcome_fact(claim.episode, run, step, record)
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


def _outcome_fact(episode: Episode, run: Run, step: PlannedStep, record: StepRecord) -> Fact:
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


async def _skipped(world: World, go: Go, step: PlannedStep) -> Claim:
    now = world.clock.now()
    run = ladder.after_outcome(go.run, Outcome.SKIPPED, now, 0.0)
    fact = Fact(
        FactKind.OUTCOME, now, go.claim.episode.id, run.id, Reason.CONDITION_FALSE,
        f"{step.name}: {step.condition} is false",
        {"step": step.index, "action": step.action, "outcome": str(Outcome.SKIPPED)},
    )  # fmt: skip
    facts = (fact,) if go.run.begun else (*planned_facts(go.claim.episode, go.run, now), fact)
    change = Change(
        go.claim.episode, run=run, facts=facts, approval=go.approval,
        playbook_text=text_of(go.playbook),
    )  # fmt: skip
    return await world.commit(go.claim, change)


async def _no_effect(
    world: World, claim: Claim, run: Run, step: PlannedStep, error: Exception
) -> Claim:
    """The rung certainly had no effect: try it again after a while, or go on to the next."""
    now = world.clock.now()
    record = run.open_step
    outcome = Applied(Outcome.FAILED, f"{step.action}: {str(error) or type(error).__name__}")
    if record is not None:
        run, record = ladder.settle(run, outcome.outcome, outcome.detail, now)
        fact = _outcome_fact(claim.episode, run, step, record)
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
    told = getattr(error, "retry_after", None)
    episode = replace(
        claim.episode, state=EpisodeState.RUNNING, detail=outcome.detail, updated_at=now,
        next_at=max(at, now + told) if told else at,
    )  # fmt: skip
    change = Change(episode, run=run, step=record, facts=(fact,), release=True)
    return await world.commit(claim, change)


async def _stand_back(
    world: World, claim: Claim, run: Run, reason: Reason, detail: str, until: float | None
) -> Claim:
    """Another worker was faster inside the transaction: wait as if the guard had said so."""
    now = world.clock.now()
    episode = replace(
        claim.episode,
        state=EpisodeState.RUNNING if run.begun else EpisodeState.BLOCKED,
        reason=reason,
        detail=detail,
        next_at=min(max(until or now + 15.0, now + 1.0), now + 300.0),
        updated_at=now,
        waiting_since=claim.episode.waiting_since or now,
    )
    fact = Fact(
        FactKind.VERDICT, now, episode.id, run.id, reason, detail,
        {"effect": "defer", "until": until, "playbook": run.plan.playbook, "rung": run.rung},
    )  # fmt: skip
    change = Change(episode, run=replace(run, held_reason=reason), facts=(fact,), release=True)
    return await world.commit(claim, change)


async def look_up(world: World, claim: Claim, run: Run) -> Claim:
    """Settle a step whose intent is on disk and whose outcome is not."""
    record = run.open_step
    if record is None:
        raise ValueError(f"{run.id} has no open step to look up")
    step = run.plan.steps[record.step]
    try:
        action, params = _action(world, step)
    except Refused as error:
        return await settle(world, claim, run, step, Applied(Outcome.UNKNOWN, str(error)))
    context = replace(_context(world, run, step, record.intent_at), key=record.key)
    age = world.clock.now() - record.intent_at
    presence = Presence.UNKNOWN
    if step.probeable and not record.undo:
        try:
            async with asyncio.timeout(step.timeout_seconds):
                presence = await action.probe(context, params, step.target, record.precondition)
        except (TemporaryError, TimeoutError) as error:
            if age < LOOKUP_SECONDS:
                episode = replace(
                    claim.episode,
                    next_at=world.clock.now() + min(30.0, max(2.0, age)),
                    detail=f"cannot look up {record.key} yet: {error}",
                )
                return await world.commit(claim, Change(episode, run=run, release=True))
        except HealerError as error:
            _log.warning("lookup refused", extra={"run": run.id, "error": str(error)})
    if presence is Presence.APPLIED:
        done = Applied(Outcome.APPLIED, f"{step.action}: found in place by looking it up")
        return await settle(world, claim, run, step, done)
    if presence is Presence.NOT_APPLIED:
        never = TemporaryError(f"{record.key} was looked up and never happened")
        return await _no_effect(world, claim, run, step, never)
    if record.undo and step.idempotent:
        return await undo(world, claim, run)
    if step.idempotent and not record.undo:
        repeated = await _repeat(world, claim, run, record)
        if repeated is not None:
            return repeated
    lost = Applied(Outcome.UNKNOWN, f"{step.action}: nobody can tell whether it happened")
    return await settle(world, claim, run, step, lost)


async def _repeat(world: World, claim: Claim, run: Run, record: StepRecord) -> Claim | None:
    """Send the identical request again, if every guard still allows it; None when it may not be.

    What may be the first effect of this step is guarded like a first effect. While a guard defers
    it the intent stays open, at most for `REPEAT_SECONDS`.
    """
    step = run.plan.steps[record.step]
    action, params = _action(world, step)
    if step.action_class not in _TOUCHES_NOTHING:
        if world.clock.now() - record.intent_at >= REPEAT_SECONDS:
            return None
        try:
            looked = await survey(world, claim.episode, run.plan, step, begun=True)
        except TemporaryError as error:
            return await blocked(world, claim, run, Reason.TEMPORARY_FAILURE, str(error), None)
        verdict, allow = decide(run.plan, step, replace(looked.facts, paid=True))
        if allow is None and verdict.effect is Effect.DEFER:
            return await blocked(world, claim, run, verdict.reason, verdict.detail, verdict)
        if allow is None:
            return None
    lease = await hold(world, claim, step)
    return await _effect(world, claim, run, step, action, params, record, lease, again=True)


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
        fact = _intent_fact(claim.episode, run, step, record)
        claim = await world.commit(
            claim, Change(claim.episode, run=run, step=record, facts=(fact,))
        )
    context = replace(_context(world, run, step, record.intent_at), key=record.key)
    evidence = {**done.precondition, **done.evidence}
    try:
        action, params = _action(world, step)
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
