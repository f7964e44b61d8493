"""Gathers what the guards look at: one round of concurrent reads, right before they are asked.

Whatever cannot be read arrives as "unknown" and makes the guards hold; nothing is guessed.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from healer.domain.budget import canary, spends
from healer.domain.episode import Episode
from healer.domain.facts import ConditionAnswer, GuardFacts
from healer.domain.guard import RECURRENCE
from healer.domain.plan import Plan, PlannedStep
from healer.domain.playbook import Condition, ConditionLanguage
from healer.domain.protection import protected_because, protected_namespace
from healer.domain.target import DomainHealth, Kind, Observation
from healer.engine.world import World
from healer.errors import Blind, HealerError, NotFound, Refused
from healer.expressions import Expression
from healer.planning import ConditionVariables, filled
from healer.ports import Ledger, LedgerQuery

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Survey:
    """One round of looking."""

    facts: GuardFacts
    seen: Observation | None
    ledger: Ledger
    began: float  #: monotonic seconds; what was seen may be as old as this


async def survey(
    world: World,
    episode: Episode,
    plan: Plan,
    step: PlannedStep,
    *,
    seen: Observation | None = None,
    begun: bool = False,
) -> Survey:
    """Look at everything the guards of `step` ask about.

    `seen` may be handed in when it was read a moment ago; `begun` says that this run has acted.
    Raises TemporaryError when the API server cannot be asked about the target: without a target
    there is nothing to decide.
    """
    now = world.clock.now()
    if seen is None:
        seen = await _observe(world, step)
    query = LedgerQuery(
        playbook=plan.playbook,
        target=str(plan.target),
        lock=str(plan.lock),
        zone=plan.zone,
        bucket_keys=tuple(spend.key for spend in (*spends(plan, step), canary(plan))),
        episode_id=episode.id,
        recent_seconds=RECURRENCE.per_seconds,
    )
    began = world.clock.monotonic()
    # Only what may have to wait for somebody is worth a task of its own.
    ledger, firing, missing, *others = await asyncio.gather(
        world.store.ledger(query, now),
        _firing(world, episode, now),
        _missing_right(world, step),
        *_seldom(world, episode, plan, seen),
    )
    zone, conditions, error_budget = others or (None, (), None)
    facts = GuardFacts(
        now=world.clock.now(),
        wall=world.wall(),
        observation=seen,
        firing=firing,
        episode_opened_at=episode.opened_at,
        pauses=(*ledger.pauses, *world.local_pauses()),
        last_run_ended_at=ledger.last_run_ended_at,
        buckets=ledger.buckets,
        locked_by=ledger.locked_by,
        owner=seen.owner_health if seen is not None else None,
        zone=zone,
        in_flight_owner=ledger.in_flight_owner,
        in_flight_zone=ledger.in_flight_zone,
        flow=ledger.flow,
        queue_place=ledger.queue_place,
        recent_runs=ledger.recent_runs,
        bad_outcomes=ledger.bad_outcomes,
        last_bad_at=ledger.last_bad_at,
        breaker_reset_at=ledger.breaker_reset_at,
        conditions=conditions,
        error_budget=error_budget,
        approval=ledger.approval,
        protected=_protected(world, step, seen),
        missing_right=missing,
        dry_run=world.options.dry_run,
        breaks_hold=begun,
    )
    return Survey(facts, seen, ledger, began)


def _seldom(
    world: World, episode: Episode, plan: Plan, seen: Observation | None
) -> tuple[Awaitable[Any], ...]:
    """Zone, conditions and error budget: nothing when the plan has none of them."""
    if not plan.zone and not plan.guards.unless and plan.guards.error_budget is None:
        return ()
    return (
        _zone(world, plan),
        _conditions(world, episode, plan, seen),
        _error_budget(world, plan),
    )


async def _observe(world: World, step: PlannedStep) -> Observation | None:
    try:
        return await world.cluster.observe(step.target)
    except NotFound:
        return None


async def _firing(world: World, episode: Episode, now: float) -> bool | None:
    if not episode.firing:
        return False
    source = world.level_of(episode)
    if source is not None:
        # However young the delivery: as a retry it may be minutes older than its arrival.
        return await source.is_firing(episode)
    return 0 <= now - episode.last_seen_at <= world.options.fresh_seconds or None


async def _zone(world: World, plan: Plan) -> DomainHealth | None:
    if not plan.zone:
        return None
    try:
        zones = await world.cluster.zones()
    except HealerError as error:
        _log.warning("zones cannot be counted", extra={"error": str(error)})
        return None
    return zones.get(plan.zone, DomainHealth(plan.zone, 0, 0))


async def _conditions(
    world: World, episode: Episode, plan: Plan, seen: Observation | None
) -> tuple[ConditionAnswer, ...]:
    if seen is None or not plan.guards.unless:
        return ()
    answers = [_condition(world, rule, episode, seen) for rule in plan.guards.unless]
    return tuple(await asyncio.gather(*answers))


async def _condition(
    world: World, rule: Condition, episode: Episode, seen: Observation
) -> ConditionAnswer:
    try:
        if rule.language is ConditionLanguage.CEL:
            variables = ConditionVariables(episode, seen, world.clock.now()).as_mapping()
            holds = Expression(rule.text).holds(variables)
        else:
            if world.metrics is None:
                raise Blind("no Prometheus is configured")
            # As in an alerting rule: any series returned means that the condition is true.
            where = filled(rule.where, episode, seen)
            found = await world.metrics.query(rule.text)
            holds = any(where.items() <= sample.labels.items() for sample in found)
    except (HealerError, ValueError) as error:
        return ConditionAnswer(rule.text, rule.because, None, str(error))
    return ConditionAnswer(rule.text, rule.because, holds)


async def _error_budget(world: World, plan: Plan) -> float | None:
    rule = plan.guards.error_budget
    if rule is None or world.metrics is None:
        return None
    try:
        samples = await world.metrics.query(rule.expr)
    except HealerError as error:
        _log.warning("the error budget is not known", extra={"error": str(error)})
        return None
    return samples[0].value if len(samples) == 1 else None


async def _missing_right(world: World, step: PlannedStep) -> str:
    action = world.actions.get(step.action)
    if action is None:
        raise Refused(f"{step.name}: this version of healer has no action {step.action!r}")
    try:
        params = action.params.model_validate(dict(step.params))
    except ValueError as error:
        raise Refused(f"{step.name}: {step.action} no longer takes these parameters") from error
    # Most actions work where their target is; a Job may be told its own namespace.
    namespace = getattr(params, "namespace", "") or step.target.namespace
    # Answers are kept, so they are asked one after the other and not in a task each.
    for permission in action.needs(params, step.target.kind):
        if answer := await world.cluster.missing_right(permission, namespace):
            return answer
    return ""


def _protected(world: World, step: PlannedStep, seen: Observation | None) -> str:
    protection = world.options.protection
    why = protected_because(seen, protection) if seen is not None else ""
    if not why and step.cost and step.target.kind is Kind.NAMESPACE:
        # To tell people about a protected namespace is no harm; to work on it is.
        why = protected_namespace(step.target.name, protection)
    # Most actions work where their target is; a Job may be told its own namespace.
    return why or protected_namespace(str(step.params.get("namespace") or ""), protection)
