"""Explanations: one episode in words, for every state."""

from dataclasses import replace

import pytest

from healer.domain import ladder
from healer.domain.episode import Episode, EpisodeState
from healer.domain.explain import describe, explain
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Outcome, Result
from healer.domain.plan import Plan, PlannedStep
from healer.domain.playbook import Guards, Mode, VerifyRule
from healer.domain.run import Phase
from healer.domain.target import Kind, TargetRef
from healer.domain.verdict import Reason
from healer.testing.clock import START

POD = TargetRef(Kind.POD, "api-1", "shop", "uid-1")
STEPS = tuple(
    PlannedStep(n, name, name, "restart", POD, {}, 1, True, True, VerifyRule(()))
    for n, name in enumerate(("delete_pod", "restart_rollout"))
)
PLAN = Plan("ep-1", "fix", "f" * 64, Mode.AUTO, POD, POD, "shop", "z", STEPS, Guards(), START)
EPISODE = Episode(
    "ep-1", "alertmanager", "a" * 16, 1, {"alertname": "Down"}, START, START, START,
    playbook="fix", target=str(POD), next_at=START + 60,
)  # fmt: skip


def _held(*because: tuple[str, str, str]) -> Fact:
    told = [{"effect": e, "reason": r, "detail": d} for e, r, d in because]
    return Fact(
        FactKind.VERDICT, START, "ep-1", "ep-1-1", Reason(because[0][1]), because[0][2],
        {"effect": "defer", "because": told},
    )  # fmt: skip


def test_what_is_held_back_says_by_what_and_until_when() -> None:
    """A blocked episode names every guard that holds it, the speaking one first, and when next."""
    fact = _held(("defer", "cooldown", "ran 2m ago"), ("defer", "paused", "game day"))
    episode = replace(
        EPISODE, state=EpisodeState.BLOCKED, reason=Reason.COOLDOWN, detail="ran 2m ago"
    )
    told = explain(episode, ladder.begin(PLAN, 1, START), [fact], START + 1)
    assert "is held back: ran 2m ago" in told.headline
    assert [(wait.reason, wait.until) for wait in told.waits] == [
        ("cooldown", START + 60),
        ("paused", START + 60),
    ]
    assert told.remedy.startswith("Wait")
    assert [rung.standing for rung in told.rungs] == ["to do", "to do"]


def test_the_place_in_the_queue_is_told() -> None:
    """A paced episode tells its place in the queue as a number."""
    detail = "2 of 2 allowed at once in zone/z are under way, place 7 in the queue"
    episode = replace(EPISODE, state=EpisodeState.BLOCKED, reason=Reason.STORM_PACED, detail=detail)
    told = explain(episode, None, [_held(("defer", "storm_paced", detail))], START)
    assert told.queue_place == 7


SPENT = "zone/z: 6 per 1h is spent, this step costs 2"


def test_who_waits_for_a_budget_is_told_its_place_and_its_time() -> None:
    """Of those that wait for the same bucket the severe and the older ones are paid for first."""
    mine = replace(
        EPISODE, state=EpisodeState.BLOCKED, reason=Reason.BUDGET_EXHAUSTED, detail=SPENT,
    )  # fmt: skip
    others = [
        mine,
        replace(mine, id="older", opened_at=mine.opened_at - 1),
        replace(mine, id="severe", opened_at=mine.opened_at + 1, severity_rank=9),
        replace(mine, id="younger", opened_at=mine.opened_at + 1),
        replace(mine, id="elsewhere", opened_at=0.0, detail=SPENT.replace("zone/z", "zone/y")),
    ]
    fact = _held(("defer", "budget_exhausted", SPENT), ("defer", "paused", "game day"))
    told = explain(mine, None, [fact], START, others)
    assert told.queue_place == 3
    assert told.waits[0].until == mine.next_at + 2 * 2 * 600
    assert told.waits[1].until == mine.next_at


def test_who_waits_for_a_lock_is_told_its_place() -> None:
    """Of those that wait for the same target the older goes first; when, nobody knows."""
    detail = "shop/Deployment/web is being worked on by ep-0"
    mine = replace(EPISODE, state=EpisodeState.BLOCKED, reason=Reason.TARGET_LOCKED, detail=detail)
    before = replace(mine, id="older", opened_at=mine.opened_at - 1)
    told = explain(mine, None, [_held(("defer", "target_locked", detail))], START, [mine, before])
    assert told.queue_place == 2
    assert told.waits[0].until == mine.next_at


def test_an_older_verdict_does_not_speak() -> None:
    """When the episode's reason is not the last verdict's, only the episode's own is told."""
    episode = replace(
        EPISODE, state=EpisodeState.BLOCKED, reason=Reason.TEMPORARY_FAILURE, detail="no answer"
    )
    told = explain(episode, None, [_held(("defer", "paused", "game day"))], START)
    assert [(wait.reason, wait.detail) for wait in told.waits] == [
        ("temporary_failure", "no answer")
    ]


def test_a_run_tells_its_step_and_its_deadline() -> None:
    """While verifying it is told which step was done and until when recovery is awaited."""
    run, _ = ladder.intend(ladder.begin(PLAN, 1, START), {}, START + 1)
    acting = explain(replace(EPISODE, state=EpisodeState.RUNNING), run, [], START + 2)
    assert "acting (step 1 of 2, delete_pod)" in acting.headline
    assert acting.rungs[0].standing.startswith("under way")
    run, _ = ladder.settle(run, Outcome.APPLIED, "deleted", START + 2)
    run = replace(run, phase=Phase.VERIFYING, verify_until=START + 300)
    told = explain(replace(EPISODE, state=EpisodeState.RUNNING), run, [], START + 3)
    assert [(wait.reason, wait.until) for wait in told.waits] == [("verification", START + 300)]
    assert [rung.standing for rung in told.rungs] == ["done (deleted)", "to do"]
    held = replace(run, phase=Phase.HOLDING, stable_since=START + 10)
    told = explain(replace(EPISODE, state=EpisodeState.RUNNING), held, [], START + 11)
    assert [(wait.reason, wait.until) for wait in told.waits] == [("stability", START + 40)]


def test_only_a_waiting_plan_is_answerable() -> None:
    """An answer is asked for exactly while the episode awaits approval, with the plan's digest."""
    run = ladder.begin(PLAN, 1, START)
    for state in EpisodeState:
        told = explain(replace(EPISODE, state=state), run, [], START)
        assert told.answerable is (state is EpisodeState.AWAITING_APPROVAL)
        assert told.plan_digest == PLAN.digest


def test_healed_with_its_alert_on_the_way_out_is_told_as_healed() -> None:
    """A settled episode that recovered is called healed, any other is said to be left alone."""
    healed = replace(EPISODE, state=EpisodeState.SETTLED, result=Result.HEALED)
    assert "is healed; the alert itself" in explain(healed, None, [], START).headline
    left = replace(EPISODE, state=EpisodeState.SETTLED, result=Result.REFUSED)
    assert "nothing more is done by itself" in explain(left, None, [], START).headline


def test_the_two_looks_of_a_recovery_are_told_apart() -> None:
    """The look that begins the watch and the one that ends it are different lines."""
    lines = [
        describe(Fact(FactKind.VERIFIED, START, data={"recovery": "recovered", "phase": phase}))
        for phase in ("holding", "done")
    ]
    assert lines == [
        "verified: recovered, watched whether it stays so",
        "verified: recovered, and it stayed so",
    ]


@pytest.mark.parametrize("result", [*Result, None])
def test_every_end_has_words(result: Result | None) -> None:
    """A closed episode says how it ended and waits for nothing."""
    episode = replace(EPISODE, state=EpisodeState.CLOSED, result=result)
    told = explain(episode, None, [], START)
    assert "is over: " in told.headline
    assert (told.waits, told.next_look_at) == ((), None)


@pytest.mark.parametrize("kind", list(FactKind))
def test_every_fact_has_one_line(kind: FactKind) -> None:
    """Each kind of fact is one line of text, even without any data."""
    line = describe(Fact(kind, START, reason=Reason.PAUSED, detail="because"))
    assert line
    assert "\n" not in line
