"""The ladder: how a run moves from rung to rung. Each transition is a pure function.

GUARD ──intent──▶ ACTING ──outcome──▶ VERIFYING ──recovered──▶ HOLDING ──stable──▶ DONE (healed)
  ▲                 │                     │ deadline               │ bad again
  │                 │ unknown             ▼                        ▼
  └──next rung──────┼──────────────── (undo?) ◀────────────────────┘
                    ▼
               ESCALATING ──told──▶ DONE (escalated; told, when nothing disruptive was tried)
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from healer.domain.outcome import Outcome, Recovery, Result
from healer.domain.plan import Plan, PlannedStep, idempotency_key, run_id
from healer.domain.playbook import OnUnknown, UndoRule
from healer.domain.run import Phase, Run, StepRecord
from healer.domain.verdict import Reason
from healer.kernel.ids import digest

#: Attempts at one rung whose failures were certainly without effect.
MAX_ATTEMPTS = 4
#: Wait before attempt n: base doubled n times, at most this long. Seconds.
RETRY_BASE_SECONDS = 2.0
RETRY_MAX_SECONDS = 60.0


def begin(plan: Plan, ordinal: int, now: float) -> Run:
    """The episode's n-th run, before its first rung."""
    return Run(
        id=run_id(plan.episode_id, ordinal),
        episode_id=plan.episode_id,
        plan=plan,
        phase=Phase.GUARD,
        rung=0,
        started_at=now,
    )


def current(run: Run) -> PlannedStep:
    """The step of the current rung."""
    return run.plan.steps[run.rung]


def record_of(run: Run, step: int | None = None, *, undo: bool = False) -> StepRecord | None:
    """The latest record of a rung (the current one unless named)."""
    wanted = run.rung if step is None else step
    fitting = [r for r in run.steps if r.step == wanted and r.undo is undo]
    return fitting[-1] if fitting else None


def intend(
    run: Run, precondition: Mapping[str, Any], now: float, *, undo: bool = False
) -> tuple[Run, StepRecord]:
    """The run with the intent of its current rung (or of undoing it), to be made durable first."""
    key = idempotency_key(run.id, run.rung, run.attempt) + ("-undo" if undo else "")
    record = StepRecord(run.rung, run.attempt, undo, key, now, dict(precondition))
    phase = Phase.UNDOING if undo else Phase.ACTING
    return replace(run, phase=phase, held_reason=None, steps=(*run.steps, record)), record


def settle(
    run: Run, outcome: Outcome, detail: str, now: float, evidence: Mapping[str, Any] | None = None
) -> tuple[Run, StepRecord]:
    """The run with its open intent settled; the phase is not moved yet."""
    open_step = run.open_step
    if open_step is None:
        raise ValueError(f"{run.id} has no open step")
    done = replace(
        open_step, outcome=outcome, outcome_at=now, detail=detail, evidence=dict(evidence or {})
    )
    steps = tuple(done if record is open_step else record for record in run.steps)
    return replace(run, steps=steps), done


def after_outcome(run: Run, outcome: Outcome, now: float, window_seconds: float) -> Run:
    """Where the run goes once its current rung's outcome is known.

    `window_seconds` is how long verification may take (given, or derived from the alerting rule).
    """
    step = current(run)
    match outcome:
        case Outcome.APPLIED | Outcome.ALREADY_DONE:
            if step.verify is None:
                return next_rung(run, Reason.NOT_RECOVERED, now)
            return replace(
                run,
                phase=Phase.VERIFYING,
                verify_until=now + window_seconds,
                stable_since=None,
                unknown_since=None,
            )
        case Outcome.SKIPPED | Outcome.FAILED:
            reason = Reason.ACTION_FAILED if outcome is Outcome.FAILED else Reason.CONDITION_FALSE
            return next_rung(run, reason, now)
        case Outcome.DRY_RUN:
            if run.rung + 1 < len(run.plan.steps):
                return replace(run, phase=Phase.GUARD, rung=run.rung + 1, attempt=0)
            return finish(run, Result.OBSERVED, Reason.DRY_RUN, now)
        case Outcome.UNKNOWN:
            if step.on_unknown is OnUnknown.RETRY and run.attempt + 1 < MAX_ATTEMPTS:
                return replace(run, phase=Phase.GUARD, attempt=run.attempt + 1)
            return replace(run, phase=Phase.ESCALATING, reason=Reason.UNKNOWN_OUTCOME)


def after_look(run: Run, recovery: Recovery, now: float) -> Run:
    """Where the run goes after one look at the world while VERIFYING or HOLDING.

    Recovered must hold for `stable_for` without a gap. What is still unknown at the deadline is
    escalated: unknown never counts as success, and never as failure that a stronger step may cure.
    """
    step = current(run)
    verify = step.verify
    if verify is None or run.verify_until is None:
        raise ValueError(f"{run.id} verifies a step that has no verification")
    if recovery is Recovery.RECOVERED:
        since = run.stable_since if run.stable_since is not None else now
        if now - since >= verify.stable_for_seconds:
            return finish(run, Result.HEALED, Reason.RECOVERED, now)
        return replace(run, phase=Phase.HOLDING, stable_since=since, unknown_since=None)
    if recovery is Recovery.UNKNOWN:
        held = replace(
            run,
            phase=Phase.VERIFYING,
            stable_since=None,
            unknown_since=run.unknown_since if run.unknown_since is not None else now,
        )
        if now < run.verify_until:
            return held
        return replace(held, phase=Phase.ESCALATING, reason=Reason.VERIFY_UNKNOWN)
    if now < run.verify_until:
        return replace(run, phase=Phase.VERIFYING, stable_since=None, unknown_since=None)
    return not_helped(run, now)


def not_helped(run: Run, now: float) -> Run:
    """The current rung did not help: undo it where the playbook says so, else go on."""
    record = record_of(run)
    if (
        current(run).undo is UndoRule.IF_NOT_RECOVERED
        and record is not None
        and record.outcome is Outcome.APPLIED
        and record_of(run, undo=True) is None
    ):
        return replace(run, phase=Phase.UNDOING, stable_since=None)
    return next_rung(run, Reason.NOT_RECOVERED, now)


def after_undo(run: Run, outcome: Outcome, now: float) -> Run:
    """Where the run goes once an undo is known to have worked, failed, or be unknown."""
    if outcome in {Outcome.APPLIED, Outcome.ALREADY_DONE, Outcome.SKIPPED, Outcome.DRY_RUN}:
        return next_rung(run, Reason.NOT_RECOVERED, now)
    return replace(run, phase=Phase.ESCALATING, reason=Reason.UNDO_FAILED)


def next_rung(run: Run, reason: Reason, now: float) -> Run:
    """The next rung, or escalation when the ladder ends."""
    if run.rung + 1 < len(run.plan.steps):
        return replace(
            run,
            phase=Phase.GUARD,
            rung=run.rung + 1,
            attempt=0,
            verify_until=None,
            stable_since=None,
            unknown_since=None,
        )
    return replace(run, phase=Phase.ESCALATING, reason=reason)


def retry_later(run: Run, now: float) -> tuple[Run, float] | None:
    """The run again before its rung, and when to try; None when attempts are used up.

    Each wait is twice the last, and up to half longer: by how much is each run's own, so that many
    that failed together do not come back together.
    """
    if run.attempt + 1 >= MAX_ATTEMPTS:
        return None
    wait = min(RETRY_BASE_SECONDS * 2**run.attempt, RETRY_MAX_SECONDS)
    spread = int(digest(run.id, str(run.rung), str(run.attempt))[:8], 16) / 0x1_0000_0000
    wait *= 1 + spread / 2
    return replace(run, phase=Phase.GUARD, attempt=run.attempt + 1), now + wait


def paid(run: Run) -> bool:
    """Whether the current rung was paid for by an attempt that certainly had no effect."""
    record = record_of(run)
    return record is not None and record.outcome is Outcome.FAILED


def escalated(run: Run, now: float) -> Run:
    """A person was told. That is a failed remedy only if one was tried; else it was the purpose."""
    reason = run.reason or Reason.ESCALATED
    if run.disrupted:
        return finish(run, Result.ESCALATED, reason, now)
    if reason in {Reason.NOT_RECOVERED, Reason.CONDITION_FALSE}:
        reason = Reason.ESCALATED
    return finish(run, Result.TOLD, reason, now)


def finish(run: Run, result: Result, reason: Reason, now: float) -> Run:
    """The run's end."""
    return replace(run, phase=Phase.DONE, result=result, reason=reason, finished_at=now)
