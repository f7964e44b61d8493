"""Looks whether a step helped, with all of its probes at once; the ladder decides what follows."""

import asyncio
import logging
from dataclasses import replace

from healer.domain import ladder
from healer.domain.episode import Episode, EpisodeState
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Finding, Recovery, Result, Verification
from healer.domain.plan import PlannedStep
from healer.domain.playbook import ProbeRule
from healer.domain.run import Phase, Run
from healer.domain.storm import Flow
from healer.engine.resting import close
from healer.engine.world import World
from healer.errors import HealerError
from healer.ports import Change, Claim, LedgerQuery
from healer.probes.contract import ProbeContext

_log = logging.getLogger(__name__)

#: One probe's look may take this long; then its answer is unknown. Seconds.
LOOK_SECONDS = 10.0
#: How long a run whose alert is silent, but whose target is not well, watches on. Seconds.
QUIET_SECONDS = 1800.0


async def look(world: World, claim: Claim, run: Run) -> Claim:
    """One look at the world, its fact, and the run's next place."""
    step = ladder.current(run)
    if step.verify is None:
        raise ValueError(f"{run.id}: rung {run.rung} has no verification")
    verification = await verify(world, claim.episode, run, step)
    recovery = verification.recovery
    moved = ladder.after_look(run, recovery, verification.at)
    if moved.phase is Phase.DONE:
        return await _healed(world, claim, run, moved, verification)
    if _quiet(claim.episode, run, moved, verification.at):
        moved = replace(run, phase=Phase.VERIFYING, stable_since=None)
    changed = moved.phase is not run.phase or _last_word(run, recovery)
    facts = (_fact(claim.episode, run, moved, verification),) if changed else ()
    waits = moved.phase in {Phase.VERIFYING, Phase.HOLDING}
    at = verification.at + step.verify.every_seconds
    if moved.phase is Phase.HOLDING and moved.stable_since is not None:
        at = min(at, max(moved.stable_since + step.verify.stable_for_seconds, verification.at))
    episode = replace(
        claim.episode,
        state=EpisodeState.RUNNING,
        detail="; ".join(f"{f.probe}: {f.detail}" for f in verification.findings)[:1000],
        updated_at=verification.at,
        next_at=at if waits else verification.at,
    )
    return await world.commit(claim, Change(episode, run=moved, facts=facts, release=waits))


def _quiet(episode: Episode, run: Run, moved: Run, now: float) -> bool:
    """Whether the step did not help although the alert is silent: then nothing more is done yet.

    A step may silence its alert without curing anything. Acting on what does not fire is wrong, and
    so is forgetting it: the run watches on until it recovers, fires again, or patience ends.
    """
    record = ladder.record_of(run)
    began = record.intent_at if record is not None else run.started_at
    leaves = moved.phase not in {Phase.VERIFYING, Phase.HOLDING}
    return leaves and not episode.firing and now < began + QUIET_SECONDS


async def verify(world: World, episode: Episode, run: Run, step: PlannedStep) -> Verification:
    """Ask every probe of the step at once."""
    if step.verify is None:
        return Verification(world.clock.now(), ())
    record = ladder.record_of(run)
    acted_at = record.outcome_at or record.intent_at if record is not None else run.started_at
    context = ProbeContext(
        cluster=world.cluster,
        metrics=world.metrics,
        alerts=world.alerts,
        http=world.http,
        target=step.target,
        lock=run.plan.lock,
        labels=run.plan.labels,
        fingerprint=episode.fingerprint,
        episode_firing=episode.firing,
        acted_at=acted_at,
        now=world.clock.now(),
        before=record.precondition if record is not None else {},
    )
    findings = await asyncio.gather(*(_ask(world, rule, context) for rule in step.verify.probes))
    return Verification(world.clock.now(), tuple(findings))


async def _ask(world: World, rule: ProbeRule, context: ProbeContext) -> Finding:
    probe = world.probes.get(rule.probe)
    if probe is None:
        missing = f"this version of healer has no probe {rule.probe!r}"
        return Finding(rule.probe, Recovery.UNKNOWN, missing)
    try:
        params = probe.params.model_validate(dict(rule.params))
        async with asyncio.timeout(LOOK_SECONDS):
            return await probe.look(context, params)
    except TimeoutError:
        return Finding(rule.probe, Recovery.UNKNOWN, f"no answer within {LOOK_SECONDS:g}s")
    except (HealerError, ValueError) as error:
        return Finding(rule.probe, Recovery.UNKNOWN, str(error))


def _last_word(run: Run, recovery: Recovery) -> bool:
    """Whether the answer differs from what the run already shows."""
    if recovery is Recovery.UNKNOWN:
        return run.unknown_since is None
    return recovery is Recovery.NOT_RECOVERED and run.unknown_since is not None


def _fact(episode: Episode, run: Run, moved: Run, verification: Verification) -> Fact:
    return Fact(
        FactKind.VERIFIED, verification.at, episode.id, run.id, None,
        f"{verification.recovery} after {ladder.current(run).name}: now {moved.phase}",
        {
            "recovery": str(verification.recovery), "phase": str(moved.phase), "rung": run.rung,
            "playbook": run.plan.playbook, "target": str(run.plan.target),
            "findings": [
                {"probe": f.probe, "recovery": str(f.recovery), "detail": f.detail}
                for f in verification.findings
            ],
        },
    )  # fmt: skip


async def _healed(
    world: World, claim: Claim, before: Run, run: Run, verification: Verification
) -> Claim:
    """Recovery held: close the episode, or settle it while its alert is still on the way out."""
    now = verification.at
    flow = await _ramp(world, run, now)
    fact = _fact(claim.episode, before, run, verification)
    if not claim.episode.firing:
        done = replace(claim, run=run)
        return await close(world, done, Result.HEALED, run.reason, facts=(fact,), flow=flow)
    episode = replace(
        claim.episode,
        state=EpisodeState.SETTLED,
        result=Result.HEALED,
        reason=run.reason,
        detail="recovered; the alert itself has not resolved yet",
        next_at=now + run.plan.guards.cooldown_seconds,
        updated_at=now,
    )
    change = Change(episode, run=run, facts=(fact,), unlock=True, flow=flow, release=True)
    return await world.commit(claim, change)


async def _ramp(world: World, run: Run, now: float) -> tuple[str, Flow] | None:
    """A recovery lets the zone's pace double, until the storm is forgotten."""
    if not run.plan.zone:
        return None
    query = LedgerQuery(
        run.plan.playbook, str(run.plan.target), str(run.plan.lock), run.plan.zone, (),
        run.episode_id,
    )  # fmt: skip
    flow = (await world.store.ledger(query, now)).flow
    if flow.held_at is None:
        return None
    recovered = flow.recovered + 1
    if 2**recovered > 2 * run.plan.guards.max_in_flight:
        return run.plan.zone, Flow()
    return run.plan.zone, Flow(flow.held_at, recovered)
