"""Acts: intent on disk, then the effect, then its outcome on disk. Never the other way round."""

import asyncio
from dataclasses import replace
from typing import Any

from healer.domain import ladder
from healer.domain.budget import canary, spends
from healer.domain.episode import Episode, EpisodeState
from healer.domain.guard import QUEUE_LOOK_SECONDS
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Outcome
from healer.domain.plan import PlannedStep
from healer.domain.run import Run
from healer.domain.target import Observation
from healer.domain.verdict import Allow, Reason
from healer.engine.crowd import Crowded
from healer.engine.deciding import Go
from healer.engine.effects import action_of, context_of, effect, intent_fact, no_effect
from healer.engine.evidence import capture
from healer.engine.lease import Lease, cover
from healer.engine.resting import planned_facts, text_of
from healer.engine.world import World
from healer.errors import HealerError, Refused
from healer.expressions import Expression
from healer.planning import ConditionVariables
from healer.ports import BudgetShort, Change, Claim, LockTaken


async def act(world: World, go: Go, look: int) -> Claim:
    """Do the current rung, which the guard has just allowed; `look` numbers its look (`Crowd`)."""
    run, allow, claim = go.run, go.allow, go.claim
    step = ladder.current(run)
    _bound(allow, run, step)
    try:
        action, params = action_of(world, step)
    except Refused as error:
        return await no_effect(world, claim, run, step, error)
    if step.condition:
        try:
            holds = _condition_holds(world, step, claim.episode, go.seen)
        except ValueError as error:  # blind: neither this rung nor a stronger one
            return await _stand_back(world, claim, run, Reason.BLIND, str(error), None)
        if not holds:
            return await _skipped(world, go, step)
    context = context_of(world, run, step, world.clock.now())
    try:
        async with asyncio.timeout(step.timeout_seconds):
            before = await action.prepare(context, params, go.seen)
    except (HealerError, TimeoutError) as error:
        return await no_effect(world, claim, run, step, error)
    lease = cover(world, step, go.began)
    if lapsed := lease.lapsed(world.clock):
        # Nothing was tried, so no attempt is used up: look again at once.
        return await _stand_back(world, claim, run, Reason.BLIND, lapsed, world.clock.now())
    try:
        with world.crowd.place(go.rooms if not world.options.dry_run else (), look):
            claim, run = await _intend(world, go, step, before, lease)
    except Crowded as crowded:
        until = world.clock.now() + QUEUE_LOOK_SECONDS
        return await _stand_back(world, claim, run, Reason.STORM_PACED, str(crowded), until)
    except LockTaken as taken:
        return await _stand_back(world, claim, run, Reason.TARGET_LOCKED, str(taken), None)
    except BudgetShort as short:
        if short.key == canary(run.plan).key:
            tried = f"another run of {run.plan.playbook} is on trial whether it helps"
            return await _stand_back(world, claim, run, Reason.BREAKER_OPEN, tried, None)
        reason = Reason.BUDGET_EXHAUSTED
        return await _stand_back(world, claim, run, reason, str(short), short.until)
    record = run.open_step
    if record is None:
        raise ValueError(f"{run.id} was given no intent")
    return await effect(world, claim, run, step, action, params, record, lease)


def _bound(allow: Allow, run: Run, step: PlannedStep) -> None:
    """An Allow is good for exactly one step of exactly one plan."""
    if allow.plan_digest != run.plan.digest or allow.step != step.index:
        raise Refused(f"{run.id}: the guard allowed another plan or step; nothing was done")


def _condition_holds(world: World, step: PlannedStep, episode: Episode, seen: Observation) -> bool:
    """Raises ValueError when it cannot be evaluated."""
    variables = ConditionVariables(episode, seen, world.clock.now()).as_mapping()
    return Expression(step.condition).holds(variables)


async def _intend(
    world: World, go: Go, step: PlannedStep, before: dict[str, Any], lease: Lease
) -> tuple[Claim, Run]:
    """Make the intent durable together with its lock, its lease and what it costs."""
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
    facts = (*facts, intent_fact(episode, run, step, record))
    real = not world.options.dry_run
    costs = spends(run.plan, step) if real and not ladder.paid(go.run) else ()
    if real and go.allow.canary:
        costs = (*costs, canary(run.plan))
        run = replace(run, canary=True)
    change = Change(
        episode, run=run, step=record, facts=facts,
        lock=run.plan.lock if real else None,
        spends=costs,
        approval=go.approval if first else None,
        playbook_text=text_of(go.playbook),
        lease_seconds=lease.length,
    )  # fmt: skip
    return await world.commit(go.claim, change), run


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
