"""Decides what happens to an episode before anything is done: playbook, target, plan, verdict."""

from dataclasses import dataclass, replace
from functools import partial

from healer.domain import ladder
from healer.domain.episode import Episode
from healer.domain.facts import Approval
from healer.domain.guard import decide, rooms
from healer.domain.outcome import Result
from healer.domain.plan import Plan
from healer.domain.playbook import Mode, Playbook
from healer.domain.run import Run
from healer.domain.selection import NotSelected, choose
from healer.domain.storm import Room
from healer.domain.target import Observation, TargetRef
from healer.domain.verdict import Allow, Effect, Reason
from healer.engine.resting import (
    BLOCKED_LOOK_MAX_SECONDS,
    ask,
    blocked,
    close,
    refused,
    settled,
    stranded,
)
from healer.engine.survey import Survey, survey
from healer.engine.world import World
from healer.errors import NotFound, PermanentError, TemporaryError, Unauthorized
from healer.planning import Unplannable, make_plan, owner_of, resolve_target
from healer.ports import Claim

_RANK = {Mode.OBSERVE: 0, Mode.APPROVE: 1, Mode.AUTO: 2}


@dataclass(frozen=True, slots=True)
class Go:
    """The guards allow the current rung of the run: the worker acts now."""

    claim: Claim
    run: Run
    allow: Allow
    seen: Observation
    began: float  #: when the look began that the guards judged by; monotonic seconds
    playbook: Playbook | None  #: known when the run has not begun yet
    approval: Approval | None = None  #: a person's yes that this run uses up
    rooms: tuple[Room, ...] = ()  #: where it takes a place, as counted for the guards


async def consider(world: World, claim: Claim) -> Claim | Go:
    """One look at an episode whose run is before a rung: either it waits, ends, or may act now."""
    episode = claim.episode
    run = claim.run
    begun = run is not None and run.begun
    if not episode.firing and not begun:
        return await close(world, claim, Result.SELF_RESOLVED, Reason.SELF_RESOLVED)
    try:
        if begun and run is not None:
            return await _next_rung(world, claim, run)
        return await _first_rung(world, claim)
    except TemporaryError as error:
        return await blocked(world, claim, run, Reason.TEMPORARY_FAILURE, str(error), None)
    except PermanentError as error:
        reason = Reason.PARAMETER_INVALID
        if isinstance(error, Unauthorized):
            reason = Reason.MISSING_RIGHT
        if begun and run is not None:
            return await stranded(world, claim, run, reason, str(error))
        return await settled(world, claim, run, reason, str(error))


async def _first_rung(world: World, claim: Claim) -> Claim | Go:
    episode = claim.episode
    selected = choose(world.playbooks(), episode)
    if isinstance(selected, NotSelected):
        return await settled(world, claim, None, Reason.NO_PLAYBOOK, selected.detail)
    playbook = selected.playbook
    if _RANK[world.options.ceiling] < _RANK[playbook.mode]:
        playbook = replace(playbook, mode=world.options.ceiling)
    decided = await _decide_first(world, claim, playbook, share=True)
    if decided is None:
        decided = await _decide_first(world, claim, playbook, share=False)
    if decided is None:
        raise ValueError(f"{episode.id}: a look of its own was taken for a shared one")
    return decided


async def _decide_first(
    world: World, claim: Claim, playbook: Playbook, *, share: bool
) -> Claim | Go | None:
    """What comes of it; None when others' looks at the target say anything but to wait."""
    episode = claim.episode
    found, shared = await _plan(world, playbook, episode, share=share)
    if isinstance(found, Unplannable):
        if shared:
            return None
        chosen = replace(claim, episode=replace(episode, playbook=playbook.name))
        return await settled(world, chosen, None, found.reason, found.detail)
    plan, seen = found
    ordinal = episode.runs + 1 if claim.run is None else episode.runs
    fresh = ladder.begin(plan, ordinal, world.clock.now())
    run = fresh if claim.run is None else replace(claim.run, plan=plan)
    named = replace(
        episode, playbook=playbook.name, target=str(plan.target), run_id=run.id, runs=ordinal
    )
    first = plan.steps[0]  # it may have a target of its own, which was seen but is not `seen`
    looked = await survey(
        world, named, plan, first, seen=seen if first.target == seen.ref else None
    )
    claim = replace(claim, episode=named)
    return await _judge(world, claim, run, looked, playbook, shared=shared)


async def _next_rung(world: World, claim: Claim, run: Run) -> Claim | Go:
    step = ladder.current(run)
    looked = await survey(world, claim.episode, run.plan, step, begun=True)
    now = looked.facts.now
    if looked.facts.firing is False:
        since = claim.episode.waiting_since
        if since is None or now - since < BLOCKED_LOOK_MAX_SECONDS:
            quiet = "the alert is silent between two rungs"
            return await blocked(world, claim, run, Reason.NOT_FIRING, quiet, None)
        ended = ladder.finish(run, Result.SELF_RESOLVED, Reason.SELF_RESOLVED, now)
        return await close(world, replace(claim, run=ended), Result.SELF_RESOLVED, ended.reason)
    decided = await _judge(world, claim, run, looked, None)
    if decided is None:
        raise ValueError(f"{claim.episode.id}: a look of its own was taken for a shared one")
    return decided


async def _judge(
    world: World,
    claim: Claim,
    run: Run,
    looked: Survey,
    playbook: Playbook | None,
    *,
    shared: bool = False,
) -> Claim | Go | None:
    """What the guards make of it; None when they saw what was `shared` and do not make it wait."""
    step = ladder.current(run)
    facts = replace(looked.facts, paid=ladder.paid(run), canary=run.canary)
    verdict, allow = decide(run.plan, step, facts)
    if shared and verdict.effect is not Effect.DEFER:
        return None
    if allow is not None and looked.seen is not None:
        used = looked.facts.approval if not run.begun else None
        taken = rooms(run.plan, step, facts)
        return Go(claim, run, allow, looked.seen, looked.began, playbook, used, taken)
    match verdict.effect:
        case Effect.NEED_APPROVAL:
            return await ask(world, claim, run, verdict, playbook)
        case Effect.DENY:
            return await refused(world, claim, run, verdict, playbook)
        case _:
            return await blocked(
                world, claim, run, verdict.reason, verdict.detail, verdict, looked, playbook
            )


async def _plan(
    world: World, playbook: Playbook, episode: Episode, *, share: bool
) -> tuple[tuple[Plan, Observation] | Unplannable, bool]:
    """The plan with what was seen, and whether any of it was another's look."""
    seen, shared = await _look(world, playbook, None, episode, share=share)
    if isinstance(seen, Unplannable):
        return seen, shared
    others: dict[int, Observation] = {}
    for index, rule in enumerate(playbook.steps):
        if rule.target is not None:
            other, too = await _look(world, playbook, index, episode, share=share)
            shared = shared or too
            if isinstance(other, Unplannable):
                return other, shared
            others[index] = other
    plan = make_plan(playbook, episode, seen, world.clock.now(), world.actions, others)
    return (plan if isinstance(plan, Unplannable) else (plan, seen)), shared


async def _look(
    world: World, playbook: Playbook, index: int | None, episode: Episode, *, share: bool
) -> tuple[Observation | Unplannable, bool]:
    rule = playbook.target if index is None else playbook.steps[index].target
    if rule is None:
        raise ValueError(f"step {index} of {playbook.name} names no target of its own")
    ref: TargetRef | Unplannable = resolve_target(rule, episode)
    if isinstance(ref, Unplannable):
        return ref, False
    observe = partial(world.glances.observe, world.cluster, world.clock, share=share)
    try:
        seen, shared = await observe(ref)
        if not rule.owner:
            return seen, shared
        owner = owner_of(rule, seen)
        if isinstance(owner, Unplannable):
            return owner, shared
        if owner == seen.ref:
            return seen, shared
        above, too = await observe(owner)
        return above, shared or too
    except NotFound as error:
        return Unplannable(Reason.TARGET_GONE, str(error)), share
