"""The guards: what they forbid, for which reason, and that nothing slips past them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healer.domain.budget import Bucket, spends
from healer.domain.episode import Episode, EpisodeState
from healer.domain.explain import awaited
from healer.domain.facts import Approval, ConditionAnswer, GuardFacts
from healer.domain.guard import decide
from healer.domain.pause import Pause
from healer.domain.playbook import ErrorBudget, Guards, Mode, Rate, Scope, Window
from healer.domain.storm import Flow
from healer.domain.target import DomainHealth, Kind, TargetRef
from healer.domain.verdict import Effect, Reason
from healer.domain.windows import in_window, window_end
from healer.testing.builders import a_plan, a_pod, a_step, an_observation, calm
from healer.testing.clock import START

UNOWNED = TargetRef(Kind.POD, "web-0", "shop", "another-uid")
PAUSE = Pause("p1", "release day", "ada", START)
FAILED = {"bad_outcomes": 3, "last_bad_at": START - 60}


def test_calm_facts_allow_exactly_the_step_that_was_asked_for() -> None:
    """Under calm facts the guard gives a right that names this plan and this step."""
    plan = a_plan()
    verdict, allow = decide(plan, plan.steps[0], calm())
    assert verdict.effect is Effect.ALLOW
    assert allow is not None
    assert (allow.plan_digest, allow.step) == (plan.digest, 0)


FORBIDDEN: list[tuple[str, dict[str, Any], Effect, Reason]] = [
    ("the target is gone", {"observation": None}, Effect.DENY, Reason.TARGET_GONE),
    ("another incarnation has its name", {"observation": an_observation(UNOWNED)},
     Effect.DENY, Reason.TARGET_CHANGED),
    ("nobody can say whether it fires", {"firing": None}, Effect.DEFER, Reason.BLIND),
    ("it no longer fires", {"firing": False}, Effect.DENY, Reason.NOT_FIRING),
    ("the target is protected", {"protected": "kube-system"}, Effect.DENY, Reason.TARGET_PROTECTED),
    ("a right is missing", {"missing_right": "delete pods"}, Effect.DENY, Reason.MISSING_RIGHT),
    ("somebody paused everything", {"pauses": (PAUSE,)}, Effect.DEFER, Reason.PAUSED),
    ("another episode holds the lock", {"locked_by": "ep-2"}, Effect.DEFER, Reason.TARGET_LOCKED),
    ("it ran a minute ago", {"last_run_ended_at": START - 60}, Effect.DEFER, Reason.COOLDOWN),
    ("three runs in a row failed", FAILED, Effect.DEFER, Reason.BREAKER_OPEN),
    ("the zone cannot be counted", {"zone": None}, Effect.DEFER, Reason.BLIND),
    ("two thirds of the zone are bad", {"zone": DomainHealth("a", 9, 6)},
     Effect.DEFER, Reason.ZONE_DEGRADED),
    ("most of the owner is bad", {"owner": DomainHealth("web", 5, 4)},
     Effect.DEFER, Reason.OWNER_DEGRADED),
    ("enough runs are under way in the zone", {"in_flight_zone": 4},
     Effect.DEFER, Reason.STORM_PACED),
    ("others of the zone go first", {"queue_place": 4}, Effect.DEFER, Reason.STORM_PACED),
    ("the ramp after a hold allows one at a time",
     {"flow": Flow(START - 600, 0), "in_flight_zone": 1}, Effect.DEFER, Reason.STORM_PACED),
    ("an unless condition holds", {"conditions": (ConditionAnswer("x", "backup", True),)},
     Effect.DEFER, Reason.UNLESS_CONDITION),
    ("an unless condition cannot be evaluated", {"conditions": (ConditionAnswer("x", "", None),)},
     Effect.DEFER, Reason.BLIND),
    ("a rollout is under way", {"observation": an_observation(rollout_in_progress=True)},
     Effect.DEFER, Reason.ROLLOUT_IN_PROGRESS),
    ("the episode is older than max_age", {"episode_opened_at": START - 7200},
     Effect.NEED_APPROVAL, Reason.TOO_OLD),
]  # fmt: skip


@pytest.mark.parametrize(("why", "changes", "effect", "reason"), FORBIDDEN)
def test_each_guard_forbids_for_its_reason(
    why: str, changes: dict[str, Any], effect: Effect, reason: Reason
) -> None:
    """Each fact alone forbids, and the verdict carries that guard's reason."""
    plan = a_plan()
    verdict, allow = decide(plan, plan.steps[0], calm(**changes))
    assert allow is None, why
    assert (verdict.effect, verdict.reason) == (effect, reason), why


@given(st.lists(st.sampled_from(FORBIDDEN), min_size=1, max_size=6))
def test_no_combination_of_forbidding_facts_ever_allows(
    chosen: list[tuple[str, dict[str, Any], Effect, Reason]],
) -> None:
    """However facts are combined, one that forbids is enough."""
    changes: dict[str, Any] = {}
    for _, change, _, _ in chosen:
        changes |= change
    plan = a_plan()
    assert decide(plan, plan.steps[0], calm(**changes))[1] is None


def test_deny_outranks_deferral_and_all_reasons_are_kept() -> None:
    """The strictest answer speaks, and the others stay visible."""
    plan = a_plan()
    facts = calm(pauses=(PAUSE,), protected="annotated")
    verdict, _ = decide(plan, plan.steps[0], facts)
    assert verdict.effect is Effect.DENY
    assert {b.reason for b in verdict.because} == {Reason.PAUSED, Reason.TARGET_PROTECTED}


def test_a_mode_that_only_observes_lacks_no_right() -> None:
    """With a right missing, mode observe still refuses as observe_only, which pages nobody."""
    plan = a_plan(mode=Mode.OBSERVE)
    verdict, allow = decide(plan, plan.steps[0], calm(missing_right="delete pods"))
    assert allow is None
    assert verdict.reason is Reason.OBSERVE_ONLY


def test_modes_observe_and_approve_never_act_by_themselves() -> None:
    """Only mode auto, or a person's yes to this very plan, lets a step through."""
    observe = a_plan(mode=Mode.OBSERVE)
    assert decide(observe, observe.steps[0], calm())[0].reason is Reason.OBSERVE_ONLY
    plan = a_plan(mode=Mode.APPROVE)
    asked, _ = decide(plan, plan.steps[0], calm())
    assert (asked.effect, asked.reason) == (Effect.NEED_APPROVAL, Reason.APPROVAL_NEEDED)
    yes = Approval(plan.digest, True, "ada", START, START + 600)
    assert decide(plan, plan.steps[0], calm(approval=yes))[1] is not None
    other = replace(yes, plan_digest="another plan")
    assert decide(plan, plan.steps[0], calm(approval=other))[1] is None
    no = replace(yes, approved=False)
    assert decide(plan, plan.steps[0], calm(approval=no))[0].reason is Reason.APPROVAL_REJECTED
    late = decide(plan, plan.steps[0], calm(approval=yes, now=START + 700))
    assert late[0].reason is Reason.APPROVAL_EXPIRED


def test_an_approval_does_not_lift_a_storm() -> None:
    """A person's yes answers for the mode, not for a zone that is on fire."""
    plan = a_plan(mode=Mode.APPROVE)
    yes = Approval(plan.digest, True, "ada", START, START + 600)
    verdict, allow = decide(plan, plan.steps[0], calm(approval=yes, zone=DomainHealth("a", 9, 6)))
    assert allow is None
    assert verdict.reason is Reason.ZONE_DEGRADED


def test_a_healthy_pod_is_not_taken_from_a_workload_at_its_minimum() -> None:
    """Deleting a ready pod needs the workload to stay above min_healthy afterwards."""
    pods = (a_pod(ready=True), a_pod("web-1", ready=True), a_pod("web-2"), a_pod("web-3"))
    seen = an_observation(pods=pods)
    plan = a_plan()
    facts = calm(observation=seen, owner=DomainHealth("web", 4, 2))
    assert decide(plan, plan.steps[0], facts)[0].reason is Reason.MIN_HEALTHY


def test_changing_a_field_that_gitops_or_an_autoscaler_owns_is_refused() -> None:
    """A scale would be reverted by Argo CD or fought by the HPA, so it is denied."""
    step = a_step(action="scale", action_class="scale", target=an_observation().ref)
    plan = a_plan(step)
    argo = calm(observation=an_observation(managers=("argocd",)))
    assert decide(plan, step, argo)[0].reason is Reason.GITOPS_MANAGED
    hpa = calm(observation=an_observation(hpa=TargetRef(Kind.HPA, "web", "shop")))
    assert decide(plan, step, hpa)[0].reason is Reason.HPA_MANAGED


def test_the_breaker_half_opens_by_time_and_by_a_person() -> None:
    """After its time, or once a person reset it, one run may try again."""
    plan = a_plan()
    waited = calm(**{**FAILED, "last_bad_at": START - plan.guards.breaker_seconds})
    assert decide(plan, plan.steps[0], waited)[1] is not None
    assert decide(plan, plan.steps[0], calm(**FAILED, breaker_reset_at=START))[1] is not None


def test_an_error_budget_that_is_spent_or_unknown_holds() -> None:
    """Too little error budget defers, and one that cannot be read is blind."""
    plan = a_plan(guards=Guards(error_budget=ErrorBudget("slo:left", 0.2)))
    spent = decide(plan, plan.steps[0], calm(error_budget=0.1))[0]
    assert spent.reason is Reason.ERROR_BUDGET_SPENT
    assert decide(plan, plan.steps[0], calm(error_budget=None))[0].reason is Reason.BLIND
    assert decide(plan, plan.steps[0], calm(error_budget=0.5))[1] is not None


def test_a_cost_above_the_whole_budget_is_denied_and_an_empty_one_deferred() -> None:
    """A budget that can never pay denies; one that will refill says until when."""
    plan = a_plan(a_step(cost=3), guards=Guards(budgets={Scope.TARGET: Rate(2, 3600.0)}))
    assert decide(plan, plan.steps[0], calm())[0].effect is Effect.DENY
    plan = a_plan()
    key = f"target/{plan.steps[0].target}"
    empty = calm(buckets={key: Bucket(0.0, START)})
    verdict, _ = decide(plan, plan.steps[0], empty)
    assert (verdict.effect, verdict.reason) == (Effect.DEFER, Reason.BUDGET_EXHAUSTED)
    assert verdict.until == pytest.approx(START + 1800.0)


@given(
    st.dictionaries(st.sampled_from(list(Scope)), st.integers(0, 3), max_size=7),
    st.integers(1, 5),
)
def test_the_guard_never_allows_past_any_budget(left: dict[Scope, int], cost: int) -> None:
    """Whatever is left in the buckets, an allowed step can pay for every one of them."""
    step = a_step(cost=cost)
    plan = a_plan(step)
    demands = spends(plan, step)
    buckets = {d.key: Bucket(float(left[d.scope]), START) for d in demands if d.scope in left}
    _, allow = decide(plan, step, calm(buckets=buckets))
    affordable = all(min(left.get(d.scope, 99), d.rate.count) >= cost for d in demands)
    assert (allow is not None) == affordable


def test_a_run_that_has_begun_is_not_stopped_by_its_own_traces() -> None:
    """The second rung passes its own rollout, cooldown and age, but never a pause or a storm."""
    plan = a_plan()
    traces: dict[str, Any] = {
        "observation": an_observation(rollout_in_progress=True),
        "last_run_ended_at": START - 1,
        "episode_opened_at": START - 7200,
        "breaks_hold": True,
    }
    assert decide(plan, plan.steps[0], calm(**traces))[1] is not None
    assert decide(plan, plan.steps[0], calm(**traces, pauses=(PAUSE,)))[1] is None


def test_a_pause_covers_only_its_scope_and_time() -> None:
    """A pause of another namespace or playbook, or one that ended, forbids nothing."""
    plan = a_plan()
    for pause in (
        replace(PAUSE, namespace="other"),
        replace(PAUSE, playbook="other"),
        replace(PAUSE, until=START - 1),
    ):
        assert decide(plan, plan.steps[0], calm(pauses=(pause,)))[1] is not None


MONDAY = START  # 2026-01-05T00:00:00Z
WINDOWS = [
    ("inside a window of the day", Window((0,), 60, 120), MONDAY + 90 * 60, True),
    ("at its end it is over", Window((0,), 60, 120), MONDAY + 120 * 60, False),
    ("past midnight, on the next day", Window((0,), 1380, 60), MONDAY + 86400 + 30 * 60, True),
    ("past midnight, the day before does not count", Window((0,), 1380, 60), MONDAY + 30 * 60,
     False),
    ("another day", Window((1,), 0, 1439), MONDAY + 60, False),
]  # fmt: skip


@pytest.mark.parametrize(("why", "window", "at", "inside"), WINDOWS)
def test_weekly_windows_are_read_in_utc(why: str, window: Window, at: float, inside: bool) -> None:
    """A window holds on its days from start to before end, also past midnight."""
    assert in_window(window, at) is inside, why
    if inside:
        assert not in_window(window, window_end(window, at))
        assert in_window(window, window_end(window, at) - 60)


def test_a_freeze_window_defers_until_its_end_and_maintenance_limits_to_itself() -> None:
    """A freeze says when it ends; with a maintenance window nothing happens outside of it."""
    freeze = a_plan(guards=Guards(windows=(Window((0,), 0, 60),)))
    verdict, _ = decide(freeze, freeze.steps[0], calm())
    assert (verdict.reason, verdict.until) == (Reason.FREEZE_WINDOW, MONDAY + 3600)
    later = a_plan(guards=Guards(windows=(Window((0,), 120, 180, freeze=False),)))
    assert decide(later, later.steps[0], calm())[0].reason is Reason.FREEZE_WINDOW


def test_facts_default_to_what_forbids() -> None:
    """Facts that nobody filled in never allow: the zone is unknown, and unknown holds."""
    plan = a_plan()
    facts = GuardFacts(now=START, observation=an_observation(), firing=None)
    assert decide(plan, plan.steps[0], facts)[1] is None


def test_what_the_guards_say_of_a_queue_tells_what_is_waited_for() -> None:
    """From the detail of a spent budget and of a lock it is read which bucket and which lock."""
    plan = a_plan()
    spent = {spend.key: Bucket(0.0, START) for spend in spends(plan, plan.steps[0])}
    for changes in ({"buckets": spent}, {"locked_by": "ep-2"}):
        verdict, _ = decide(plan, plan.steps[0], calm(**changes))
        held = Episode(
            "ep-1", "alertmanager", "a" * 16, 1, {}, START, START, START,
            state=EpisodeState.BLOCKED, reason=verdict.reason, detail=verdict.detail,
        )  # fmt: skip
        assert awaited(held) in {*spent, str(plan.lock)}, verdict.detail
