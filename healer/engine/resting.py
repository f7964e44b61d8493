"""Where an episode comes to rest: blocked, asked about, settled or closed, each with its reason.

What is written here is what a person reads in `healer explain`; nothing here touches the cluster.
"""

from dataclasses import replace

from healer.domain import ladder
from healer.domain.episode import Episode, EpisodeState
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Result
from healer.domain.plan import run_id
from healer.domain.playbook import Playbook
from healer.domain.run import Phase, Run
from healer.domain.storm import Flow
from healer.domain.verdict import Effect, Reason, Verdict
from healer.engine import telling
from healer.engine.survey import Survey
from healer.engine.world import World
from healer.ports import Change, Claim, Message

#: When nothing more will be done by itself, but the alert still fires: look again this much later.
SETTLED_LOOK_SECONDS = 600.0
#: A deferred plan is looked at again at least this often, whatever it waits for.
BLOCKED_LOOK_MAX_SECONDS = 300.0
#: A zone that is held this long after its hold began is told of again. Seconds.
STORM_SECONDS = 3600.0
#: Deferrals that mean trouble bigger than one target: a person is told when they last.
_WORTH_A_PAGE = frozenset({
    Reason.ZONE_DEGRADED, Reason.OWNER_DEGRADED, Reason.BREAKER_OPEN, Reason.BLIND,
    Reason.BUDGET_EXHAUSTED, Reason.TEMPORARY_FAILURE, Reason.UNLESS_CONDITION,
})  # fmt: skip


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


async def settled(
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


async def refused(
    world: World, claim: Claim, run: Run, verdict: Verdict, playbook: Playbook | None
) -> Claim:
    """A guard denied it: settled when nothing was done yet, else a person is told."""
    result = Result.OBSERVED if verdict.reason is Reason.OBSERVE_ONLY else Result.REFUSED
    if run.begun:
        return await stranded(world, claim, run, verdict.reason, verdict.detail, verdict)
    return await settled(
        world, claim, run, verdict.reason, verdict.detail, result=result,
        facts=(
            *planned_facts(claim.episode, run, world.clock.now()),
            verdict_fact(claim.episode, run, verdict, world.clock.now()),
        ),
        text=text_of(playbook),
    )  # fmt: skip


async def stranded(
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


async def ask(
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
        return await settled(
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
