"""Guards: may this step of this plan be done now? One pure function answers, always with a reason.

`decide` asks every guard and returns the strictest answer with all of them, so a person sees the
whole picture and not the first obstacle. What cannot be known forbids: an unreachable Prometheus,
an unknown firing state or an unevaluable condition is `blind`, and blind means still.
"""

from collections.abc import Callable

from healer.domain.budget import Short, canary, spends, take
from healer.domain.facts import GuardFacts
from healer.domain.plan import Plan, PlannedStep
from healer.domain.playbook import Mode, Rate
from healer.domain.storm import Room, allowance, capacity, is_storm
from healer.domain.target import CLUSTER_SCOPED, WORKLOADS, DomainHealth, Kind
from healer.domain.verdict import Allow, Because, Effect, Reason, Verdict
from healer.domain.windows import in_window, window_end
from healer.kernel.durations import format_duration

#: How long a deferred plan waits before it is looked at again, when nothing tells better.
LOOK_AGAIN_SECONDS = 15.0
#: The first in a storm's queue looks again after this; each further place waits once more.
QUEUE_LOOK_SECONDS = 5.0
#: What comes back this often within this time is not cured by doing the same again.
RECURRENCE = Rate(5, 6 * 3600.0)
#: The clock of another machine may be this much off before times are distrusted.
SKEW_SECONDS = 5.0


def decide(plan: Plan, step: PlannedStep, facts: GuardFacts) -> tuple[Verdict, Allow | None]:
    """The verdict on doing `step` of `plan` now, and the right to do it if every guard allows.

    The strictest answer wins: deny, then need of approval, then deferral. Among equals the first
    guard in the list speaks; a deferral lasts until the latest of them.
    """
    because = tuple(answer for guard in _GUARDS if (answer := guard(plan, step, facts)) is not None)
    for effect in (Effect.DENY, Effect.DEFER, Effect.NEED_APPROVAL):
        answers = [answer for answer in because if answer.effect is effect]
        if answers:
            waits = [answer.until for answer in answers if answer.until is not None]
            return (
                Verdict(
                    effect,
                    answers[0].reason,
                    answers[0].detail,
                    plan.digest,
                    max(waits) if waits else facts.now + LOOK_AGAIN_SECONDS,
                    because,
                ),
                None,
            )
    verdict = Verdict(Effect.ALLOW, Reason.ALLOWED, "every guard allows", plan.digest)
    trial = half_open(plan, step, facts) and not facts.canary
    return verdict, Allow(plan.digest, step.index, facts.now, canary=trial)


_Guard = Callable[[Plan, PlannedStep, GuardFacts], Because | None]


def _deny(reason: Reason, detail: str) -> Because:
    return Because(Effect.DENY, reason, detail)


def _defer(reason: Reason, detail: str, until: float | None = None) -> Because:
    return Because(Effect.DEFER, reason, detail, until)


def _still_there(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    seen = facts.observation
    if seen is None:
        return _deny(Reason.TARGET_GONE, f"{step.target} no longer exists")
    if step.target.uid and seen.ref.uid != step.target.uid:
        return _deny(
            Reason.TARGET_CHANGED,
            f"{step.target} is another incarnation now: planned {step.target.uid}, "
            f"found {seen.ref.uid}",
        )
    return None


def _still_firing(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    if facts.firing is None:
        return _defer(Reason.BLIND, "whether the alert still fires could not be asked")
    if not facts.firing:
        return _deny(Reason.NOT_FIRING, "a fresh look says the alert no longer fires")
    return None


def _not_too_old(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    age = facts.now - facts.episode_opened_at
    if facts.breaks_hold or age <= plan.guards.max_age_seconds or _approved(plan, facts):
        return None
    return Because(
        Effect.NEED_APPROVAL,
        Reason.TOO_OLD,
        f"open for {format_duration(round(age))}, longer than "
        f"{format_duration(plan.guards.max_age_seconds)}: a person decides",
    )


def _not_protected(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    if facts.protected:
        return _deny(Reason.TARGET_PROTECTED, facts.protected)
    return None


def _has_rights(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    # Mode observe does nothing, so it lacks nothing: a read-only install must not page for it.
    if facts.missing_right and plan.mode is not Mode.OBSERVE:
        return _deny(Reason.MISSING_RIGHT, facts.missing_right)
    return None


def _not_paused(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    for pause in facts.pauses:
        if pause.covers(plan.namespace, plan.playbook, facts.now):
            return _defer(
                Reason.PAUSED,
                f"{pause.scope} is paused by {pause.by}: {pause.reason}",
                pause.until,
            )
    return None


def _windows(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    if step.cost == 0:
        return None
    # A calendar is kept by the true time; when to look again is said in ours.
    wall = facts.now if facts.wall is None else facts.wall
    allowed = [window for window in plan.guards.windows if not window.freeze]
    for window in plan.guards.windows:
        if window.freeze and in_window(window, wall):
            why = window.because or "freeze window"
            return _defer(Reason.FREEZE_WINDOW, why, window_end(window, wall) + (facts.now - wall))
    if allowed and not any(in_window(window, wall) for window in allowed):
        return _defer(Reason.FREEZE_WINDOW, "outside every maintenance window")
    return None


def _unless(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    for answer in facts.conditions:
        why = answer.because or answer.text
        if answer.holds is None:
            return _defer(Reason.BLIND, f"cannot evaluate unless ({why}): {answer.detail}")
        if answer.holds:
            return _defer(Reason.UNLESS_CONDITION, why)
    return None


def _error_budget(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    rule = plan.guards.error_budget
    if rule is None or step.cost == 0:
        return None
    if facts.error_budget is None:
        return _defer(Reason.BLIND, f"the error budget is not known: {rule.expr}")
    if facts.error_budget < rule.minimum:
        return _defer(
            Reason.ERROR_BUDGET_SPENT,
            f"{facts.error_budget:.1%} of the error budget is left, {rule.minimum:.1%} is needed",
        )
    return None


def _managed(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    seen = facts.observation
    if seen is None or step.cost == 0:
        return None
    if (
        seen.managers
        and step.action_class in FIELD_CLASSES
        and not plan.guards.allow_gitops_managed
    ):
        return _deny(
            Reason.GITOPS_MANAGED,
            f"{seen.ref} is owned by {', '.join(seen.managers)}, which would revert the change",
        )
    if seen.hpa is not None and step.action_class == "scale" and not plan.guards.allow_hpa_managed:
        return _deny(Reason.HPA_MANAGED, f"spec.replicas of {seen.ref} belongs to {seen.hpa}")
    return None


#: Action classes that change fields a GitOps tool or an autoscaler may own.
FIELD_CLASSES = frozenset({"scale", "rollout", "patch", "traffic", "storage"})


def _rollout(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    seen = facts.observation
    if seen is None or step.cost == 0 or plan.guards.allow_during_rollout or facts.breaks_hold:
        return None
    if seen.rollout_in_progress:
        return _defer(Reason.ROLLOUT_IN_PROGRESS, f"{seen.lock_ref} is rolling out")
    return None


def _not_locked(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    if facts.locked_by is not None and facts.locked_by != plan.episode_id:
        return _defer(Reason.TARGET_LOCKED, f"{plan.lock} is being worked on by {facts.locked_by}")
    return None


def _cooldown(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    if facts.last_run_ended_at is None or facts.breaks_hold:
        return None
    until = facts.last_run_ended_at + plan.guards.cooldown_seconds
    if facts.now < until:
        return _defer(
            Reason.COOLDOWN,
            f"{plan.playbook} ran on {plan.target} "
            f"{format_duration(round(facts.now - facts.last_run_ended_at))} ago",
            until,
        )
    return None


def half_open(plan: Plan, step: PlannedStep, facts: GuardFacts) -> bool:
    """Whether bad outcomes opened the breaker, its time is over, and nothing has proved it yet."""
    return _tripped(plan, step, facts) and facts.now >= _open_until(plan, facts)


def _tripped(plan: Plan, step: PlannedStep, facts: GuardFacts) -> bool:
    if step.cost == 0 or facts.last_bad_at is None:
        return False
    vouched = facts.breaker_reset_at is not None and facts.breaker_reset_at > facts.last_bad_at
    return facts.bad_outcomes >= plan.guards.breaker_failures and not vouched


def _open_until(plan: Plan, facts: GuardFacts) -> float:
    return (facts.last_bad_at or 0.0) + plan.guards.breaker_seconds


def _breaker(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    if not _tripped(plan, step, facts):
        return None
    failed = f"{facts.bad_outcomes} runs of {plan.playbook} in a row did not help"
    if facts.now < _open_until(plan, facts):
        return _defer(Reason.BREAKER_OPEN, failed, _open_until(plan, facts))
    # Half open: one canary run may prove it, and its outcome decides for the others.
    spend = canary(plan)
    if facts.canary or not isinstance(take(facts.buckets.get(spend.key), spend, facts.now), Short):
        return None
    return _defer(Reason.BREAKER_OPEN, f"{failed}, and one is on trial whether the next one does")


def _min_healthy(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    seen = facts.observation
    if seen is None or facts.owner is None or step.cost == 0 or step.target.kind is not Kind.POD:
        return None
    pod = next((pod for pod in seen.pods if pod.ref.uid == seen.ref.uid), None)
    if pod is None or not pod.ready:
        return None  # replacing a pod that serves nothing takes no health away
    healthy = facts.owner.total - facts.owner.bad - facts.in_flight_owner - 1
    if healthy < plan.guards.min_healthy_ratio * facts.owner.total:
        return _defer(
            Reason.MIN_HEALTHY,
            f"{max(healthy, 0)} of {facts.owner.total} pods of {plan.lock} would stay healthy, "
            f"{plan.guards.min_healthy_ratio:.0%} are needed",
        )
    return None


def rooms(plan: Plan, step: PlannedStep, facts: GuardFacts) -> tuple[Room, ...]:
    """The zone and the workload in which `step` takes a place, with how many places there are."""
    found = []
    if step.cost and plan.zone and facts.zone is not None:
        most = capacity(facts.zone, plan.guards, facts.flow)
        found.append(Room(f"zone/{plan.zone}", most, facts.in_flight_zone))
    if _crowds_owner(step) and facts.owner is not None:
        most = capacity(facts.owner, plan.guards, facts.flow)
        found.append(Room(str(plan.lock), most, facts.in_flight_owner))
    return tuple(found)


def _crowds_owner(step: PlannedStep) -> bool:
    # An action on the whole workload (undo, scale) is the cure for a sick workload, not a storm.
    return bool(step.cost) and step.target.kind not in {*WORKLOADS, *CLUSTER_SCOPED}


def _zone_storm(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    if step.cost == 0 or not plan.zone:
        return None
    if facts.zone is None:
        return _defer(Reason.BLIND, f"the pods of zone {plan.zone} could not be counted")
    return _paced(plan, facts, facts.zone, facts.in_flight_zone, Reason.ZONE_DEGRADED)


def _owner_storm(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    if not _crowds_owner(step) or facts.owner is None:
        return None
    return _paced(plan, facts, facts.owner, facts.in_flight_owner, Reason.OWNER_DEGRADED)


def _paced(
    plan: Plan, facts: GuardFacts, domain: DomainHealth, in_flight: int, degraded: Reason
) -> Because | None:
    if is_storm(domain, plan.guards):
        return _defer(
            degraded,
            f"{domain.bad} of {domain.total} pods of {domain.name} are bad at once: this is not "
            "one pod's trouble, so nothing is restarted",
        )
    allowed = allowance(domain, in_flight, plan.guards, facts.flow)
    if in_flight >= allowed or facts.queue_place >= allowed - in_flight:
        return _defer(
            Reason.STORM_PACED,
            f"{in_flight} of {allowed} allowed at once in {domain.name} are under way, "
            f"place {facts.queue_place + 1} in the queue",
            facts.now + QUEUE_LOOK_SECONDS * (1 + facts.queue_place // max(allowed, 1)),
        )
    return None


def _recurred(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    if step.cost == 0:
        return None
    limit = RECURRENCE.count
    if step.target.kind is Kind.POD and facts.owner is not None:
        limit = max(limit, facts.owner.total)  # one pod each of a large workload is no recurrence
    if facts.recent_runs < limit:
        return None
    window = format_duration(RECURRENCE.per_seconds)
    return _deny(
        Reason.RECURRED,
        f"{plan.playbook} acted on {plan.lock} {facts.recent_runs} times in {window}, and it comes "
        "back: it cures the symptom, so a person looks for the cause",
    )


def _budgets(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    if facts.paid:
        return None
    short = [
        result
        for spend in spends(plan, step)
        if isinstance(result := take(facts.buckets.get(spend.key), spend, facts.now), Short)
    ]
    if not short:
        return None
    worst = max(short, key=lambda result: result.until)
    rate = worst.spend.rate
    detail = (
        f"{worst.spend.key}: {rate.count} per {format_duration(rate.per_seconds)} is spent, "
        f"this step costs {worst.spend.cost}"
    )
    if worst.until == float("inf"):
        return _deny(Reason.BUDGET_EXHAUSTED, detail + ", more than the whole budget")
    return _defer(Reason.BUDGET_EXHAUSTED, detail, worst.until)


def _approved(plan: Plan, facts: GuardFacts) -> bool:
    answer = facts.approval
    return answer is not None and answer.approved and answer.plan_digest == plan.digest


def _person(plan: Plan, step: PlannedStep, facts: GuardFacts) -> Because | None:
    if plan.mode is Mode.OBSERVE:
        return _deny(Reason.OBSERVE_ONLY, f"{plan.playbook} is in mode observe")
    if plan.mode is Mode.AUTO or facts.breaks_hold:
        return None
    answer = facts.approval
    if answer is None or answer.plan_digest != plan.digest:
        return Because(
            Effect.NEED_APPROVAL,
            Reason.APPROVAL_NEEDED,
            f"{plan.playbook} is in mode approve",
            facts.now + plan.guards.approval_ttl_seconds,
        )
    if not answer.approved:
        return _deny(Reason.APPROVAL_REJECTED, f"{answer.by} said no")
    if facts.now > answer.expires_at + SKEW_SECONDS:
        return _deny(Reason.APPROVAL_EXPIRED, f"{answer.by} approved too long ago")
    return None


#: In the order in which their reasons speak for a verdict.
_GUARDS: tuple[_Guard, ...] = (
    _still_there,
    _still_firing,
    _not_protected,
    _has_rights,
    _recurred,
    _not_paused,
    _managed,
    _zone_storm,
    _owner_storm,
    _not_locked,
    _cooldown,
    _breaker,
    _windows,
    _unless,
    _error_budget,
    _rollout,
    _min_healthy,
    _budgets,
    _not_too_old,
    _person,
)
