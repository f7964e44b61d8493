"""The ladder: where a run goes after each outcome and each look."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from healer.domain import ladder
from healer.domain.outcome import Outcome, Recovery, Result
from healer.domain.playbook import OnUnknown, ProbeRule, UndoRule, VerifyRule
from healer.domain.run import Phase, Run
from healer.domain.verdict import Reason
from healer.testing.builders import a_plan, a_step
from healer.testing.clock import START

VERIFY = VerifyRule((ProbeRule("workload_ready", {}),), 60.0, 5.0, 10.0)
TWO = (a_step(0, verify=VERIFY), a_step(1, verify=VERIFY))


def _applied(run: Run, now: float = START) -> Run:
    run, _ = ladder.intend(run, {"seen": 1}, now)
    run, _ = ladder.settle(run, Outcome.APPLIED, "done", now)
    return ladder.after_outcome(run, Outcome.APPLIED, now, 60.0)


def test_recovery_must_hold_for_stable_for_before_a_run_is_healed() -> None:
    """One good look is not recovery; good looks for stable_for without a gap are."""
    run = _applied(ladder.begin(a_plan(*TWO), 1, START))
    run = ladder.after_look(run, Recovery.RECOVERED, START + 5)
    assert run.phase is Phase.HOLDING
    run = ladder.after_look(run, Recovery.NOT_RECOVERED, START + 10)
    assert run.phase is Phase.VERIFYING
    run = ladder.after_look(run, Recovery.RECOVERED, START + 15)
    run = ladder.after_look(run, Recovery.RECOVERED, START + 24)
    assert run.phase is Phase.HOLDING
    run = ladder.after_look(run, Recovery.RECOVERED, START + 25)
    assert (run.phase, run.result) == (Phase.DONE, Result.HEALED)


def test_a_step_that_did_not_help_leads_to_the_next_rung_and_then_to_a_person() -> None:
    """At its deadline a rung gives way to the next; the last one to escalation."""
    run = _applied(ladder.begin(a_plan(*TWO), 1, START))
    run = ladder.after_look(run, Recovery.NOT_RECOVERED, START + 30)
    assert run.phase is Phase.VERIFYING
    run = ladder.after_look(run, Recovery.NOT_RECOVERED, START + 60)
    assert (run.phase, run.rung) == (Phase.GUARD, 1)
    run = ladder.after_look(_applied(run, START + 60), Recovery.NOT_RECOVERED, START + 121)
    assert (run.phase, run.reason) == (Phase.ESCALATING, Reason.NOT_RECOVERED)
    assert ladder.escalated(run, START + 122).result is Result.ESCALATED


def test_what_is_still_unknown_at_the_deadline_is_escalated_and_never_climbs() -> None:
    """Unknown is neither success nor a reason for a stronger step."""
    run = _applied(ladder.begin(a_plan(*TWO), 1, START))
    run = ladder.after_look(run, Recovery.UNKNOWN, START + 30)
    assert run.phase is Phase.VERIFYING
    run = ladder.after_look(run, Recovery.UNKNOWN, START + 60)
    assert (run.phase, run.reason, run.rung) == (Phase.ESCALATING, Reason.VERIFY_UNKNOWN, 0)


def test_undo_comes_before_the_next_rung_and_only_once() -> None:
    """A rung with undo is put back first; an undo that failed goes to a person."""
    plan = a_plan(a_step(0, verify=VERIFY, undo=UndoRule.IF_NOT_RECOVERED), TWO[1])
    run = _applied(ladder.begin(plan, 1, START))
    run = ladder.after_look(run, Recovery.NOT_RECOVERED, START + 61)
    assert run.phase is Phase.UNDOING
    undone, record = ladder.intend(run, {}, START + 61, undo=True)
    assert record.key.endswith("-undo")
    undone, _ = ladder.settle(undone, Outcome.APPLIED, "back", START + 62)
    assert ladder.after_undo(undone, Outcome.APPLIED, START + 62).rung == 1
    failed = ladder.after_undo(undone, Outcome.FAILED, START + 62)
    assert (failed.phase, failed.reason) == (Phase.ESCALATING, Reason.UNDO_FAILED)


def test_an_unknown_outcome_goes_to_a_person_unless_the_playbook_says_retry() -> None:
    """Nobody repeats what may have happened, except where the playbook allows it."""
    run = ladder.begin(a_plan(*TWO), 1, START)
    asked = ladder.after_outcome(run, Outcome.UNKNOWN, START, 60.0)
    assert (asked.phase, asked.reason) == (Phase.ESCALATING, Reason.UNKNOWN_OUTCOME)
    retrying = ladder.begin(a_plan(replace(TWO[0], on_unknown=OnUnknown.RETRY)), 1, START)
    again = ladder.after_outcome(retrying, Outcome.UNKNOWN, START, 60.0)
    assert (again.phase, again.attempt) == (Phase.GUARD, 1)


def test_a_new_attempt_has_a_new_identity() -> None:
    """An attempt after a failure without effect never shares the key of the failed one."""
    run, first = ladder.intend(ladder.begin(a_plan(*TWO), 1, START), {}, START)
    run, _ = ladder.settle(run, Outcome.FAILED, "refused", START)
    later = ladder.retry_later(run, START)
    assert later is not None
    _, second = ladder.intend(later[0], {}, START + 2)
    assert first.key != second.key


def test_runs_that_failed_together_do_not_come_back_together() -> None:
    """Waits double, each is up to half longer by a share of the run's own, and none is shorter."""
    waits = []
    for number in range(50):
        run = replace(ladder.begin(a_plan(*TWO), 1, START), id=f"run-{number}")
        for attempt in range(ladder.MAX_ATTEMPTS - 1):
            later = ladder.retry_later(run, 0.0)
            assert later is not None
            run = later[0]
            base = ladder.RETRY_BASE_SECONDS * 2**attempt
            assert base <= later[1] <= 1.5 * base
            waits.append(later[1] / base)
    assert len(set(waits)) == len(waits)
    assert max(waits) - min(waits) > 0.45


@given(st.lists(st.sampled_from([*Recovery, *Outcome, "fail"]), max_size=60))
def test_every_run_ends_whatever_happens(events: list[Recovery | Outcome | str]) -> None:
    """No sequence of outcomes and looks does more than MAX_ATTEMPTS effects at one rung."""
    run = ladder.begin(a_plan(*TWO), 1, START)
    now = START
    for event in events:
        now += 20.0
        if run.phase is Phase.GUARD:
            run, _ = ladder.intend(run, {}, now)
            outcome = event if isinstance(event, Outcome) else Outcome.APPLIED
            run, _ = ladder.settle(run, outcome, "", now)
            if event == "fail":
                later = ladder.retry_later(run, now)
                run = later[0] if later else ladder.next_rung(run, Reason.ACTION_FAILED, now)
            else:
                run = ladder.after_outcome(run, outcome, now, 60.0)
        elif run.phase in {Phase.VERIFYING, Phase.HOLDING}:
            look = event if isinstance(event, Recovery) else Recovery.NOT_RECOVERED
            run = ladder.after_look(run, look, now)
        else:
            break
    per_rung = [sum(1 for r in run.steps if r.step == rung) for rung in (0, 1)]
    assert max(per_rung) <= ladder.MAX_ATTEMPTS
    assert len({r.key for r in run.steps}) == len(run.steps)
    assert run.open_step is None
