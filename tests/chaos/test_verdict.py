"""Verdicts on recorded journals: as they were, and bent into everything that can go wrong."""

from __future__ import annotations

import pytest

from chaos.course import read
from tests.chaos.recorded import (
    actions,
    again,
    journal,
    make,
    output,
    states,
    unasked,
    verdict,
)


def test_a_pod_that_only_healer_heals_is_healers_credit() -> None:
    """The recorded crash-loop passes: it deviated, returned after one action, and not without."""
    found = verdict("crash-loop", journal("crash-loop"), journal("crash-loop", "control"))
    assert (found.status, found.outcome, found.credit) == ("passed", "healed", "healer")
    assert found.problems == ()
    assert len(found.actions) == 1
    times = found.times
    assert times.deviated is not None
    assert times.alert is not None
    assert times.action is not None
    assert times.returned is not None
    assert times.deviated < times.alert < times.action < times.returned
    assert found.control is not None
    assert found.control.deviated is not None
    assert found.control.returned is None


def test_the_toolkits_own_deviated_does_not_show_it() -> None:
    """The toolkit says "not deviated" of a run whose looks show the deviation and the return."""
    it = journal("crash-loop")
    assert it["deviated"] is False
    course = read(it)
    assert course.deviated_at is not None
    assert course.returned_at is not None


def test_killed_pods_are_kubernetes_credit() -> None:
    """The recorded kill-pods passes because healer did nothing, and both runs got well."""
    found = verdict("kill-pods", journal("kill-pods"), journal("kill-pods", "control"))
    assert (found.status, found.credit, found.actions) == ("passed", "kubernetes", ())


def test_a_needless_action_fails_where_nothing_was_due() -> None:
    """One deletion by healer in an experiment that Kubernetes heals is a problem."""
    it = journal("kill-pods")
    extra = again(output(journal("crash-loop"), "watch")["episodes"][0])
    output(it, "watch")["episodes"].append(extra)
    found = verdict("kill-pods", it, journal("kill-pods", "control"))
    assert found.status == "failed"
    assert any("needless action" in problem for problem in found.problems)


def test_what_kubernetes_does_not_heal_alone_belies_that_claim() -> None:
    """If the control run of kill-pods does not get well, its claim fails."""
    control = journal("kill-pods", "control")
    for state in states(control)[1:]:
        make(state, well=False)
    found = verdict("kill-pods", journal("kill-pods"), control)
    assert found.status == "failed"
    assert found.credit == "nobody"


def test_without_a_deviation_it_is_void() -> None:
    """A fault after which the steady state always held shows nothing, and nobody is credited."""
    it = journal("crash-loop")
    for state in states(it):
        make(state, well=True)
    found = verdict("crash-loop", it, journal("crash-loop", "control"))
    assert (found.status, found.outcome, found.credit) == ("void", "void", "not examined")
    assert "never seen to deviate" in found.problems[0]


def test_a_look_that_could_not_be_made_is_no_deviation() -> None:
    """Looks that failed leave the experiment void, although the toolkit calls them not met."""
    it = journal("crash-loop")
    for state in states(it):
        if not state["steady_state_met"]:
            unasked(state)
    assert verdict("crash-loop", it, journal("crash-loop", "control")).status == "void"


def test_a_steady_state_that_did_not_hold_before_makes_it_void() -> None:
    """Without a true hypothesis before the fault nothing is judged."""
    it = journal("crash-loop")
    make(it["steady_states"]["before"], well=False)
    found = verdict("crash-loop", it, journal("crash-loop", "control"))
    assert found.status == "void"
    assert "did not hold before" in found.problems[0]


def test_a_fault_that_failed_makes_it_void_and_says_why() -> None:
    """What the fault said when it failed stands in the verdict."""
    it = journal("crash-loop")
    it["run"][0].update({"status": "failed", "output": None, "exception": ["x", "Refused: no\n"]})
    found = verdict("crash-loop", it, journal("crash-loop", "control"))
    assert found.status == "void"
    assert "fault: Refused: no" in found.problems[0]


def test_what_the_control_run_heals_is_not_healers_credit() -> None:
    """A control run that returns in time turns a healed experiment into a failed one."""
    control = journal("crash-loop")
    output(control, "watch")["episodes"] = []
    found = verdict("crash-loop", journal("crash-loop"), control)
    assert (found.status, found.credit) == ("failed", "kubernetes")
    assert any("credit is Kubernetes'" in problem for problem in found.problems)


def test_a_control_run_in_which_healer_acted_shows_nothing() -> None:
    """An action in the control run makes the comparison void."""
    found = verdict("crash-loop", journal("crash-loop"), journal("crash-loop"))
    assert found.status == "void"
    assert "although it was switched off" in found.problems[0]


def test_without_a_control_run_nobody_is_credited() -> None:
    """A run alone can pass, and its credit is not examined."""
    found = verdict("crash-loop", journal("crash-loop"), None)
    assert (found.status, found.credit, found.control) == ("passed", "not examined", None)


def test_two_actions_on_one_target_fail_twice() -> None:
    """A second deletion is not "exactly one", and it is over the budget."""
    it = journal("crash-loop")
    actions(it).append(again(actions(it)[0]))
    found = verdict("crash-loop", it, journal("crash-loop", "control"))
    assert found.status == "failed"
    assert any("2 times delete_pod" in problem for problem in found.problems)
    assert any("the budget is 1" in problem for problem in found.problems)


def test_an_attempt_without_effect_is_no_action() -> None:
    """An attempt that failed, and one found done already, do not count beside the real one."""
    it = journal("crash-loop")
    real = actions(it)[0]
    for outcome in ("failed", "already_done"):
        actions(it).append({**again(real), "outcome": outcome, "attempt": 1})
    assert verdict("crash-loop", it, journal("crash-loop", "control")).status == "passed"


def test_an_action_found_done_already_counts_when_it_is_the_only_trace() -> None:
    """After an interruption the lookup is the only word of the action, and it counts once."""
    it = journal("crash-loop")
    actions(it)[0]["outcome"] = "already_done"
    found = verdict("crash-loop", it, journal("crash-loop", "control"))
    assert (found.status, len(found.actions)) == ("passed", 1)


@pytest.mark.parametrize(
    ("field", "value"), [("name", "another-pod"), ("action", "evict_pod"), ("undo", True)]
)
def test_an_action_that_does_not_match_fails(field: str, value: object) -> None:
    """The wrong target, the wrong verb and an undo are each told, and the due one is missing."""
    it = journal("crash-loop")
    actions(it)[0][field] = value
    found = verdict("crash-loop", it, journal("crash-loop", "control"))
    assert found.status == "failed"
    assert any("does not match" in problem for problem in found.problems)
    assert any("0 times delete_pod" in problem for problem in found.problems)


def test_what_the_api_server_saw_beside_the_journal_fails() -> None:
    """A second removal in the audit log fails, whatever healer's own journal says."""
    it = journal("crash-loop")
    audit = output(it, "watch")["audit"]
    audit.append(again(audit[0]))
    found = verdict("crash-loop", it, journal("crash-loop", "control"))
    assert any("saw 2 removals" in problem for problem in found.problems)


def test_a_removal_that_healer_does_not_own_up_to_fails() -> None:
    """A pod that healer removed according to the audit log alone fails the experiment."""
    it = journal("crash-loop")
    audit = output(it, "watch")["audit"]
    audit.append({**again(audit[0]), "name": "crash-loop-bd83-other"})
    found = verdict("crash-loop", it, journal("crash-loop", "control"))
    assert any("crash-loop-bd83-other" in problem for problem in found.problems)


def test_no_return_is_not_healed() -> None:
    """A steady state that never comes back is told as not healed, and nobody is credited."""
    it = journal("crash-loop")
    bad = False
    for state in states(it):
        bad = bad or not state["steady_state_met"]
        if bad:
            make(state, well=False)
    found = verdict("crash-loop", it, journal("crash-loop", "control"))
    assert (found.status, found.outcome, found.credit) == ("failed", "not healed", "nobody")
    assert "did not come back within 45 s" in found.problems[0]


def test_a_return_that_does_not_last_is_not_healed() -> None:
    """A relapse in the last second leaves too little time to call it stable."""
    it = journal("crash-loop")
    make(states(it)[-2], well=False)
    found = verdict("crash-loop", it, journal("crash-loop", "control"))
    assert found.outcome == "not healed"
    assert "was not seen to stay so" in found.problems[0]


def test_a_late_alert_fails() -> None:
    """An alert later than the claim allows is a problem, though all else is well."""
    it = journal("crash-loop")
    watch = output(it, "watch")
    watch["alert_at"] += 60
    watch["episodes"][0]["starts_at"] += 60
    found = verdict("crash-loop", it, journal("crash-loop", "control"))
    assert any("30 s are the limit" in problem for problem in found.problems)


def test_no_alert_fails() -> None:
    """An alert that never fired is a problem."""
    it = journal("crash-loop")
    watch = output(it, "watch")
    watch["alert_at"] = None
    watch["episodes"][0]["labels"]["alertname"] = "Other"
    found = verdict("crash-loop", it, journal("crash-loop", "control"))
    assert any("never fired" in problem for problem in found.problems)


def test_blindness_held_and_then_healed_passes() -> None:
    """The recorded blindness passes: nothing while blind, then one deletion for each of two."""
    blind = journal("prometheus-blind")
    found = verdict("prometheus-blind", blind, journal("prometheus-blind", "control"))
    assert (found.status, found.credit, len(found.actions)) == ("passed", "healer", 2)
    assert found.times.released is not None
    assert found.times.action is not None
    assert found.times.released <= found.times.action


def test_an_action_while_blind_fails() -> None:
    """An intent before sight returned means that healer did not hold."""
    it = journal("prometheus-blind")
    actions(it)[0]["intent_at"] = output(it, "release")["at"] - 1.0
    found = verdict("prometheus-blind", it, journal("prometheus-blind", "control"))
    assert any(problem.startswith("it did not hold") for problem in found.problems)


def test_silence_about_the_hold_fails() -> None:
    """A healer that does nothing but never says why has not shown that it holds."""
    it = journal("prometheus-blind")
    for episode in output(it, "watch")["episodes"]:
        episode["held"] = []
    found = verdict("prometheus-blind", it, journal("prometheus-blind", "control"))
    assert sum("never said that it holds back" in problem for problem in found.problems) == 2


def test_a_storm_is_judged_by_its_pages_and_its_pace() -> None:
    """The recorded zone outage passes; two pages, or two actions at once, would not."""
    control = journal("zone-outage", "control")
    assert verdict("zone-outage", journal("zone-outage"), control).status == "passed"
    twice = journal("zone-outage")
    output(twice, "watch")["pages"] *= 2
    assert "2 pages, 1 were due" in verdict("zone-outage", twice, control).problems
    hasty = journal("zone-outage")
    acted = [one for e in output(hasty, "watch")["episodes"] for one in e["actions"]]
    acted[1]["intent_at"] = acted[0]["intent_at"] + 0.1
    found = verdict("zone-outage", hasty, control)
    assert any("2 actions under way at once" in problem for problem in found.problems)


def test_pages_that_cannot_be_seen_are_remarked_and_not_counted() -> None:
    """A site without a list of pages gets a remark instead of a made-up judgement."""
    it = journal("zone-outage")
    output(it, "watch")["pages"] = None
    found = verdict("zone-outage", it, journal("zone-outage", "control"))
    assert found.status == "passed"
    assert any("pages cannot be seen" in remark for remark in found.remarks)


def test_a_death_before_or_after_the_action_is_void() -> None:
    """Only a death between an intent and its outcome shows what the experiment is about."""
    control = journal("healer-killed", "control")
    assert verdict("healer-killed", journal("healer-killed"), control).status == "passed"
    late = journal("healer-killed")
    for one in actions(late):
        one["outcome_at"] = one["intent_at"] = output(late, "kill")["killed_at"] - 1.0
    found = verdict("healer-killed", late, control)
    assert found.status == "void"
    assert "did not die between" in found.problems[0]
