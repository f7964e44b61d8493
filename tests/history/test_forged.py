"""The checker finds every planted fault, names it rightly, and finds nothing in a good history."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healer.domain.alert import AlertStatus
from healer.domain.episode import EpisodeState
from healer.domain.journal import FactKind
from healer.domain.outcome import Outcome
from healer.domain.playbook import Rate
from healer.domain.run import Phase
from healer.testing.history import Effect, History, Sent, ViolationKind, check
from tests.history.forge import APART, Forge, plain, resealed, retried, with_run

COUNT = 4
GOOD = Forge(COUNT).history()
which = st.integers(0, COUNT - 1)


def kinds(history: History) -> set[ViolationKind]:
    """What the checker says is wrong."""
    return {found.kind for found in check(history).violations}


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_a_good_history_has_no_fault(attempts: int) -> None:
    """Nothing is wrong with runs that did each step once, whatever attempts had no effect."""
    report = check(Forge(COUNT, attempts).history())
    assert report.violations == ()
    assert (report.effects, report.effects_per_step, report.accepted) == (2 * COUNT, 1, 2 * COUNT)


@given(which, st.integers(0, 1))
def test_an_accepted_alert_that_is_not_kept(number: int, second: int) -> None:
    """An event that was answered with 2xx and is not in the journal is found, whichever it is."""
    gone = GOOD.sent[2 * number + second]
    report = check(replace(GOOD, kept=(GOOD.kept or frozenset()) - {gone.event_id}))
    assert [found.kind for found in report.violations] == [ViolationKind.LOST_ALERT]
    assert gone.fingerprint in report.violations[0].where


def test_an_accepted_alert_without_an_episode() -> None:
    """Where the journal cannot list its events, an alert that opened no episode is found."""
    more = Sent(GOOD.at, "alertmanager", "f" * 16, GOOD.at, AlertStatus.FIRING, True)
    history = replace(GOOD, kept=None, sent=(*GOOD.sent, more))
    assert kinds(history) == {ViolationKind.LOST_ALERT}
    assert kinds(replace(history, calm=False)) == set()


def test_what_was_refused_may_be_missing() -> None:
    """An alert that was never answered with 2xx is nobody's promise."""
    more = Sent(GOOD.at, "alertmanager", "f" * 16, GOOD.at, AlertStatus.FIRING, False)
    assert kinds(replace(GOOD, sent=(*GOOD.sent, more))) == set()


@given(which)
def test_a_second_effect(number: int) -> None:
    """A second effect of an at-most-once step is found, also when it came late."""
    first = GOOD.effects[2 * number + 1]
    report = check(replace(GOOD, effects=(*GOOD.effects, replace(first, at=first.at + 3))))
    assert [found.kind for found in report.violations] == [ViolationKind.REPEATED_EFFECT]
    assert report.violations[0].where == GOOD.runs[number].id
    assert report.effects_per_step == 2


@given(which)
def test_a_second_effect_under_another_attempt(number: int) -> None:
    """Two attempts with an effect each are two effects of one step, unless it says `retry`."""
    history = Forge(COUNT, attempts=2).history()
    run = history.runs[number]
    early = run.steps[1]
    assert early.outcome is Outcome.FAILED
    second = Effect(early.intent_at + 0.1, "post", "/mend", "", "x", 200, key=early.key)
    forged = replace(history, effects=(*history.effects, second))
    assert kinds(forged) == {ViolationKind.REPEATED_EFFECT}
    assert kinds(retried(forged)) == set()


@given(which)
def test_a_harmless_repetition(number: int) -> None:
    """An idempotent step may be asked for twice, and a refused request is no effect."""
    first = GOOD.effects[2 * number]
    again = replace(first, at=first.at + 1)
    refused = replace(GOOD.effects[2 * number + 1], status=503)
    assert kinds(replace(GOOD, effects=(*GOOD.effects, again, refused))) == set()


@given(which, st.integers(0, 1))
def test_an_effect_before_its_intent(number: int, second: int) -> None:
    """An effect that came before the intent was on disk is found."""
    effects = list(GOOD.effects)
    early = effects[2 * number + second]
    effects[2 * number + second] = replace(early, at=GOOD.runs[number].started_at - 0.5)
    history = replace(GOOD, effects=tuple(effects), firing=None)
    assert kinds(history) == {ViolationKind.EFFECT_WITHOUT_INTENT}


@pytest.mark.parametrize(
    "who", [{"run_id": "ep-0000000000000000-1"}, {"key": "nobody-s0"}, {"run_id": ""}]
)
def test_an_effect_of_nobody(who: dict[str, str]) -> None:
    """An effect of a run or step that the journal does not know, or of no run at all, is found."""
    effect = Effect(GOOD.at, "delete", "pods", "shop", "web-0", 200, **who)
    assert kinds(replace(GOOD, effects=(*GOOD.effects, effect))) == {
        ViolationKind.EFFECT_WITHOUT_INTENT
    }


@given(which)
def test_an_intent_that_no_fact_tells_of(number: int) -> None:
    """A step of a run without the fact of its intent is found, and so is its lone outcome."""
    mine = [
        index
        for index, fact in enumerate(plain(GOOD))
        if fact.kind is FactKind.INTENT and fact.run_id == GOOD.runs[number].id
    ]
    facts = plain(GOOD)
    del facts[mine[0]]
    assert kinds(resealed(GOOD, facts)) == {
        ViolationKind.STEP_WITHOUT_INTENT, ViolationKind.OUTCOME_WITHOUT_INTENT,
    }  # fmt: skip


@given(which)
def test_an_outcome_that_no_fact_tells_of(number: int) -> None:
    """A step that has ended in the run and not in the facts is found."""
    facts = plain(GOOD)
    mine = [
        index
        for index, fact in enumerate(facts)
        if fact.kind is FactKind.OUTCOME and fact.run_id == GOOD.runs[number].id
    ]
    del facts[mine[-1]]
    assert kinds(resealed(GOOD, facts)) == {ViolationKind.OUTCOME_WITHOUT_INTENT}


@given(which)
def test_a_second_outcome(number: int) -> None:
    """An intent that ended twice is found."""
    facts = plain(GOOD)
    again = next(
        fact
        for fact in facts
        if fact.kind is FactKind.OUTCOME and fact.run_id == GOOD.runs[number].id
    )
    assert ViolationKind.REPEATED_OUTCOME in kinds(resealed(GOOD, [*facts, again]))


@given(which)
def test_an_outcome_under_an_old_epoch(number: int) -> None:
    """An outcome written by whoever had lost the claim is found, also when it is another's."""
    facts = plain(GOOD)
    mine = [
        index
        for index, fact in enumerate(facts)
        if fact.kind is FactKind.OUTCOME and fact.run_id == GOOD.runs[number].id
    ]
    fact = facts[mine[-1]]
    stale = {**fact.data, "epoch": fact.data["epoch"] - 1}
    facts[mine[-1]] = replace(fact, data=stale)
    assert kinds(resealed(GOOD, facts)) == {ViolationKind.STALE_EPOCH}
    facts[mine[-1]] = replace(fact, data={**fact.data, "owner": "somebody-else"})
    assert kinds(resealed(GOOD, facts)) == {ViolationKind.STALE_EPOCH}


@given(st.integers(1, 7))
def test_an_overdrawn_budget(count: int) -> None:
    """As many disruptions as the budget grants are fine; with one less granted it is overdrawn."""
    history = Forge(8).history()
    grants = 2 * 8
    for granted, expected in ((grants, set()), (grants - count, {ViolationKind.BUDGET_EXCEEDED})):
        rate = Rate(granted, 1e9)
        assert kinds(Forge(8, rate=rate).history()) == expected
    assert kinds(history) == set()


def test_a_budget_that_refills() -> None:
    """What comes no faster than a bucket refills does not overdraw it."""
    assert kinds(Forge(8, rate=Rate(3, 1.5 * APART)).history()) == set()
    assert kinds(Forge(8, rate=Rate(3, 6 * APART)).history()) == {ViolationKind.BUDGET_EXCEEDED}


@given(st.integers(1, COUNT - 1))
def test_two_runs_on_one_lock(number: int) -> None:
    """Two runs that act under the same lock at the same time are found."""
    before, run = GOOD.runs[number - 1], GOOD.runs[number]
    history = with_run(GOOD, number, plan=replace(run.plan, lock=before.plan.lock))
    assert kinds(history) == set()
    late = with_run(history, number - 1, finished_at=run.steps[0].intent_at + 5)
    assert kinds(late) == {ViolationKind.OVERLAP}


@given(which)
def test_an_action_on_what_does_not_fire(number: int) -> None:
    """An effect long after its alert ended, or of one that never fired, is found."""
    assert GOOD.firing is not None
    firing = list(GOOD.firing)
    began = firing[number].since
    firing[number] = replace(firing[number], since=began - 100, until=began - 50)
    assert kinds(replace(GOOD, firing=tuple(firing))) == {ViolationKind.NOT_FIRING}
    del firing[number]
    assert kinds(replace(GOOD, firing=tuple(firing))) == {ViolationKind.NOT_FIRING}


def _due(history: History, number: int) -> History:
    episodes = list(history.episodes)
    episodes[number] = replace(
        episodes[number], state=EpisodeState.RUNNING, firing=True, next_at=history.at - 100
    )
    return replace(history, episodes=tuple(episodes), calm=False)


def _open(history: History, number: int) -> History:
    episodes = list(history.episodes)
    state = EpisodeState.BLOCKED
    episodes[number] = replace(episodes[number], state=state, next_at=history.at + 100)
    return replace(history, episodes=tuple(episodes))


def _abandoned(history: History, number: int) -> History:
    return with_run(history, number, phase=Phase.VERIFYING, finished_at=None)


@pytest.mark.parametrize("plant", [_due, _open, _abandoned])
@given(number=which)
def test_a_run_that_is_stuck(plant: Callable[[History, int], History], number: int) -> None:
    """What is due for long, stays open in the calm, or outlives its episode is found."""
    assert kinds(plant(GOOD, number)) == {ViolationKind.STUCK}


@given(st.data())
def test_a_changed_fact(data: st.DataObject) -> None:
    """A fact that was changed, taken out or put elsewhere breaks the chain."""
    facts = list(GOOD.facts)
    index = data.draw(st.integers(0, len(facts) - 2))
    how = data.draw(st.sampled_from(["change", "remove", "swap"]))
    if how == "change":
        facts[index] = replace(facts[index], fact=replace(facts[index].fact, detail="forged"))
    elif how == "remove":
        del facts[index]
    else:
        facts[index], facts[index + 1] = facts[index + 1], facts[index]
    assert ViolationKind.BROKEN_CHAIN in kinds(replace(GOOD, facts=tuple(facts)))
