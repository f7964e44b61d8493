"""Decides what happens to an episode before anything is done: playbook, target, plan, verdict."""

from dataclasses import dataclass, replace

from healer.domain import ladder
from healer.domain.episode import Episode, EpisodeState
from healer.domain.facts import Approval
from healer.domain.guard import decide
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Result
from healer.domain.plan import Plan, run_id
from healer.domain.playbook import Mode, Playbook
from healer.domain.run import Phase, Run
from healer.domain.selection import NotSelected, choose
from healer.domain.storm import Flow
from healer.domain.target import Observation, TargetRef
from healer.domain.verdict import Allow, Effect, Reason, Verdict
from healer.engine import telling
from healer.engine.survey import Survey, survey
from healer.engine.world import World
from healer.errors import NotFound, PermanentError, TemporaryError, Unauthorized
from healer.planning import Unplannable, make_plan, owner_of, resolve_target
from healer.ports import Change, Claim, Message

#: When nothing more will be done by itself, but the alert still fires: look again this much later.
SETTLED_LOOK_SECONDS = 600.0
#: A deferred plan is looked at again at least this often, whatever it waits for.
BLOCKED_LOOK_MAX_SECONDS = 300.0
#: A zone that is held this long after its hold began is told of again. Seconds.
STORM_SECONDS = 3600.0
_RANK = {Mode.OBSERVE: 0, Mode.APPROVE: 1, Mode.AUTO: 2}
#: Deferrals that mean trouble bigger than one target: a person is told when they last.
_WORTH_A_PAGE = frozenset({
    Reason.ZONE_DEGRADED, Reason.OWNER_DEGRADED, Reason.BREAKER_OPEN, Reason.BLIND,
    Reason.BUDGET_EXHAUSTED, Reason.TEMPORARY_FAILURE, Reason.UNLESS_CONDITION,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Go:
    """The guards allow the current rung of the run: the worker acts now."""

    claim: Claim
    run: Run
    allow: Allow
    seen: Observation
    playbook: Playbook | None  #: known when the run has not begun yet
    approval: Approval | None = None  #: a person's yes that this run uses up


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
            return await _stranded(world, claim, run, reason, str(error))
        return await _settled(world, claim, run, reason, str(error))


async def _first_rung(world: World, claim: Claim) -> Claim | Go:
    episode = claim.episode
    selected = choose(world.playbooks(), episode)
    if isinstance(selected, NotSelected):
        return await _settled(world, claim, None, Reason.NO_PLAYBOOK, selected.detail)
    playbook = selected.playbook
    if _RANK[world.options.ceiling] < _RANK[playbook.mode]:
        playbook = replace(playbook, mode=world.options.ceiling)
    found = await _plan(world, playbook, episode)
    if isinstance(found, Unplannable):
        chosen = replace(claim, episode=replace(episode, playbook=playbook.name))
        return await _settled(world, chosen, None, found.reason, found.detail)
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
    return await _judge(world, claim, run, looked, playbook)


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
    return await _judge(world, claim, run, looked, None)


async def _judge(
    world: World, claim: Claim, run: Run, looked: Survey, playbook: Playbook | None
) -> Claim | Go:
    step = ladder.current(run)
    facts = replace(looked.facts, paid=ladder.paid(run))
    verdict, allow = decide(run.plan, step, facts)
    if allow is not None and looked.seen is not None:
        used = looked.facts.approval if not run.begun else None
        return Go(claim, run, allow, looked.seen, playbook, used)
    match verdict.effect:
        case Effect.NEED_APPROVAL:
            return await _ask(world, claim, run, verdict, playbook)
        case Effect.DENY:
            return await _refused(world, claim, run, verdict, playbook)
        case _:
            return await blocked(
                world, claim, run, verdict.reason, verdict.detail, verdict, looked, playbook
            )


async def _plan(
    world: World, playbook: Playbook, episode: Episode
) -> tuple[Plan, Observation] | Unplannable:
    seen = await _look(world, playbook, None, episode)
    if isinstance(seen, Unplannable):
        return seen
    others: dict[int, Observation] = {}
    for index, rule in enumerate(playbook.steps):
        if rule.target is not None:
            other = await _look(world, playbook, index, episode)
            if isinstance(other, Unplannable):
                return other
            others[index] = other
    plan = make_plan(playbook, episode, seen, world.clock.now(), world.actions, others)
    return plan if isinstance(plan, Unplannable) else (plan, seen)


async def _look(
    world: World, playbook: Playbook, index: int | None, episode: Episode
) -> Observation | Unplannable:
    rule = playbook.target if index is None else playbook.steps[index].target
    if rule is None:
        raise ValueError(f"step {index} of {playbook.name} names no target of its own")
    ref: TargetRef | Unplannable = resolve_target(rule, episode)
    if isinstance(ref, Unplannable):
        return ref
    try:
        seen = await world.cluster.observe(ref)
        if not rule.owner:
            return seen
        owner = owner_of(rule, seen)
        if isinstance(owner, Unplannable):
            return owner
        return seen if owner == seen.ref else await world.cluster.observe(owner)
    except NotFound as error:
        return Unplannable(Reason.TARGET_GONE, str(error))


async def close(
    world: World,
    claim: Claim,
    result: Result,
    reason: Reason | None,
    detail: str = "",
    *,
    facts: tuple[Fact, ...] = (),
    flow: tuple[str, Flow] | None = None,
) -> Claim:
    """Close the episode: it is over, and whoever was told of it is told so too."""
    now = world.clock.now()
    run = claim.run
    if run is not None and run.phase is not Phase.DONE:
        run = ladder.finish(run, result, reason or Reason.SELF_RESOLVED, now)
    episode = replace(
        claim.episode,
        state=EpisodeState.CLOSED,
        result=claim.episode.result or result,
        reason=reason,
        detail=detail,
        closed_at=now,
        updated_at=now,
    )
    fact = Fact(FactKind.CLOSED, now, episode.id, episode.run_id, reason, detail or str(result))
    held = await _told_held(world, claim.episode)
    messages = telling.all_clear(world, episode, run, now, held)
    change = Change(
        episode, run=run, facts=(*facts, fact), unlock=True, messages=messages, flow=flow,
        release=True,
    )  # fmt: skip
    return await world.commit(claim, change)


async def _told_held(world: World, episode: Episode) -> frozenset[Reason]:
    """The reasons for which a person was told that this very episode is held back."""
    if not episode.hold_paged:
        return frozenset()
    facts = await world.store.facts(episode.id)
    return frozenset(
        each.fact.reason
        for each in facts
        if each.fact.kind is FactKind.HELD and each.fact.reason is not None
    ) - {Reason.ZONE_DEGRADED, Reason.OWNER_DEGRADED}  # told once for many episodes


async def put_aside(world: World, claim: Claim, problem: str) -> Claim:
    """What failed in a way nobody foresaw waits, and a person is told when it keeps failing."""
    if claim.episode.state is EpisodeState.ESCALATED:
        later = replace(claim.episode, next_at=world.clock.now() + BLOCKED_LOOK_MAX_SECONDS)
        return await world.commit(claim, Change(later, release=True))
    return await blocked(world, claim, claim.run, Reason.TEMPORARY_FAILURE, problem, None)


async def _settled(
    world: World,
    claim: Claim,
    run: Run | None,
    reason: Reason,
    detail: str,
    *,
    result: Result = Result.REFUSED,
    facts: tuple[Fact, ...] = (),
    text: tuple[str, str] | None = None,
) -> Claim:
    """Nothing will be done by itself; a person is told unless the reason says that none need be."""
    now = world.clock.now()
    episode = claim.episode
    repeated = episode.state is EpisodeState.SETTLED and episode.reason is reason
    if reason is Reason.NO_PLAYBOOK:
        result = Result.UNMATCHED
    if reason is Reason.NOT_FIRING:
        result = episode.result or Result.SELF_RESOLVED
    if run is not None:
        run = ladder.finish(run, result, reason, now)
    episode = replace(
        episode,
        state=EpisodeState.SETTLED,
        result=result,
        reason=reason,
        detail=detail,
        next_at=now + SETTLED_LOOK_SECONDS,
        updated_at=now,
        waiting_since=None,
    )
    messages: tuple[Message, ...] = ()
    if (
        repeated and run is not None and claim.run is None
    ):  # the same look with the same end leaves no new trace
        run, facts = None, ()
        before = claim.episode.runs - 1
        episode = replace(episode, runs=before, run_id=run_id(episode.id, before) if before else "")
    if not repeated:
        facts = (*facts, Fact(FactKind.DECIDED, now, episode.id, episode.run_id, reason, detail))
        if reason not in telling.SILENT and episode.firing:
            messages = telling.refused(world, episode, run, reason, detail, now)
    change = Change(
        episode, run=run, facts=facts, unlock=True, messages=messages, playbook_text=text,
        release=True,
    )  # fmt: skip
    return await world.commit(claim, change)


async def _refused(
    world: World, claim: Claim, run: Run, verdict: Verdict, playbook: Playbook | None
) -> Claim:
    result = Result.OBSERVED if verdict.reason is Reason.OBSERVE_ONLY else Result.REFUSED
    if run.begun:
        return await _stranded(world, claim, run, verdict.reason, verdict.detail, verdict)
    return await _settled(
        world, claim, run, verdict.reason, verdict.detail, result=result,
        facts=(
            *planned_facts(claim.episode, run, world.clock.now()),
            verdict_fact(claim.episode, run, verdict, world.clock.now()),
        ),
        text=text_of(playbook),
    )  # fmt: skip


async def _stranded(
    world: World,
    claim: Claim,
    run: Run,
    reason: Reason,
    detail: str,
    verdict: Verdict | None = None,
) -> Claim:
    """A ladder that has begun and may not go on must not end in silence: a person is told."""
    now = world.clock.now()
    failed = replace(run, phase=Phase.ESCALATING, reason=reason)
    said = verdict or Verdict(Effect.DENY, reason, detail, run.plan.digest)
    fact = verdict_fact(claim.episode, run, said, now)
    episode = replace(claim.episode, detail=detail, updated_at=now)
    return await world.commit(claim, Change(episode, run=failed, facts=(fact,)))


async def blocked(
    world: World,
    claim: Claim,
    run: Run | None,
    reason: Reason,
    detail: str,
    verdict: Verdict | None,
    looked: Survey | None = None,
    playbook: Playbook | None = None,
) -> Claim:
    """A guard holds it back: said once for each reason, looked at again, paged when it lasts."""
    now = world.clock.now()
    before = claim.episode
    begun = run is not None and run.begun
    since = before.waiting_since if before.waiting_since is not None else now
    until = verdict.until if verdict is not None else None
    wait = min(max((until or now + 15.0) - now, 1.0), BLOCKED_LOOK_MAX_SECONDS)
    page_at = since + world.options.hold_page_seconds
    worth = reason in _WORTH_A_PAGE and not before.hold_paged
    if worth and page_at > now:
        wait = min(wait, page_at - now)
    paged = worth and now >= page_at
    flow = _held_flow(reason, run, looked, now)
    episode = replace(
        before,
        state=EpisodeState.RUNNING if begun else EpisodeState.BLOCKED,
        reason=reason,
        detail=detail,
        next_at=now + wait,
        updated_at=now,
        waiting_since=since,
        hold_paged=before.hold_paged or paged,
    )
    facts: tuple[Fact, ...] = ()
    if before.reason is not reason or before.state is EpisodeState.OPEN:
        planned = planned_facts(episode, run, now) if run is not None and not begun else ()
        said = verdict or Verdict(Effect.DEFER, reason, detail, "")
        facts = (*planned, verdict_fact(episode, run, said, now))
    messages: tuple[Message, ...] = ()
    if paged:
        messages = telling.held(world, episode, run, flow[1] if flow else None, now)
        facts = (*facts, Fact(FactKind.HELD, now, episode.id, episode.run_id, reason, detail))
    kept = replace(run, held_reason=reason) if run is not None else None
    change = Change(
        episode, run=kept, facts=facts, messages=messages, flow=flow,
        playbook_text=text_of(playbook), release=True,
    )  # fmt: skip
    return await world.commit(claim, change)


def _held_flow(
    reason: Reason, run: Run | None, looked: Survey | None, now: float
) -> tuple[str, Flow] | None:
    """The zone's ramp starts again from one when a storm holds it."""
    if reason is not Reason.ZONE_DEGRADED or run is None or looked is None:
        return None
    flow = looked.facts.flow
    if flow.held_at is None or flow.recovered > 0 or now - flow.held_at > STORM_SECONDS:
        flow = Flow(held_at=now)
    return run.plan.zone, flow


async def _ask(
    world: World, claim: Claim, run: Run, verdict: Verdict, playbook: Playbook | None
) -> Claim:
    """A person must say yes to this very plan, within its time to live."""
    now = world.clock.now()
    before = claim.episode
    known = claim.run.plan.digest if claim.run is not None else ""
    # Another plan (the target is another incarnation by now) is another question.
    asked = before.state is EpisodeState.AWAITING_APPROVAL and known == run.plan.digest
    since = before.waiting_since if asked and before.waiting_since is not None else now
    until = since + run.plan.guards.approval_ttl_seconds
    if asked and now >= until:
        return await _settled(
            world, claim, run, Reason.APPROVAL_EXPIRED, f"nobody answered: {verdict.detail}"
        )
    episode = replace(
        before,
        state=EpisodeState.AWAITING_APPROVAL,
        reason=verdict.reason,
        detail=verdict.detail,
        next_at=until,
        updated_at=now,
        waiting_since=since,
    )
    facts: tuple[Fact, ...] = ()
    messages: tuple[Message, ...] = ()
    if not asked:
        facts = (
            *planned_facts(episode, run, now),
            verdict_fact(episode, run, verdict, now),
            Fact(
                FactKind.APPROVAL_ASKED, now, episode.id, run.id, verdict.reason, verdict.detail,
                {"plan": run.plan.digest, "until": until},
            ),
        )  # fmt: skip
        messages = telling.approval_wanted(world, episode, run, until, now)
    change = Change(
        episode, run=replace(run, held_reason=verdict.reason), facts=facts, messages=messages,
        ask=run.plan.digest, playbook_text=text_of(playbook), release=True,
    )  # fmt: skip
    return await world.commit(claim, change)


def planned_facts(episode: Episode, run: Run, now: float) -> tuple[Fact, ...]:
    """What was chosen and what would be done, said once for each run."""
    plan = run.plan
    return (
        Fact(
            FactKind.PLANNED, now, episode.id, run.id, None,
            f"{plan.playbook} on {plan.target}",
            {
                "playbook": plan.playbook, "sha256": plan.playbook_sha256, "plan": plan.digest,
                "target": str(plan.target), "uid": plan.target.uid, "zone": plan.zone,
                "lock": str(plan.lock), "mode": str(plan.mode),
                "steps": [
                    {"name": s.name, "action": s.action, "target": str(s.target), "cost": s.cost}
                    for s in plan.steps
                ],
            },
        ),
    )  # fmt: skip


def verdict_fact(episode: Episode, run: Run | None, verdict: Verdict, now: float) -> Fact:
    """The verdict with every guard's answer."""
    return Fact(
        FactKind.VERDICT, now, episode.id, run.id if run else "", verdict.reason, verdict.detail,
        {
            "effect": str(verdict.effect), "until": verdict.until,
            "rung": run.rung if run else 0,
            "playbook": run.plan.playbook if run else "",
            "target": str(run.plan.target) if run else "",
            "because": [
                {"reason": str(b.reason), "effect": str(b.effect), "detail": b.detail}
                for b in verdict.because
            ],
        },
    )  # fmt: skip


def text_of(playbook: Playbook | None) -> tuple[str, str] | None:
    """The playbook's text, to be kept with the runs that began with it."""
    return (playbook.sha256, playbook.text) if playbook is not None else None
