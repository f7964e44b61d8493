"""A case's `given` as the domain's own values: the episode, what is seen, what the guards know."""

from dataclasses import replace

from healer.cases.shape import FactsGiven, Given, SeenGiven
from healer.domain.alert import Alert, AlertStatus
from healer.domain.budget import Bucket, spends
from healer.domain.episode import Episode, fold
from healer.domain.facts import Approval, ConditionAnswer, GuardFacts
from healer.domain.pause import Pause
from healer.domain.plan import Plan, PlannedStep
from healer.domain.playbook import Condition, ConditionLanguage, Playbook, TriggerKind
from healer.domain.protection import Protection, protected_because
from healer.domain.selection import CONDITION_SOURCE, QUERY_SOURCE
from healer.domain.target import DomainHealth, Kind, Observation, PodState, TargetRef
from healer.expressions import Expression
from healer.kernel.ids import digest, label_fingerprint
from healer.planning import ConditionVariables

WEBHOOK = "webhook/test"


def episode_of(given: Given, playbook: Playbook) -> Episode:
    """The episode that the given alert opens."""
    labels = {name: value for name, value in given.alert.labels.items() if value is not None}
    source = (
        given.alert.source
        or {
            TriggerKind.ALERT: WEBHOOK,
            TriggerKind.QUERY: QUERY_SOURCE + playbook.name,
            TriggerKind.CONDITION: CONDITION_SOURCE + playbook.name,
        }[playbook.trigger.kind]
    )
    alert = Alert(
        source=source,
        fingerprint=label_fingerprint(labels),
        status=AlertStatus.FIRING,
        labels=labels,
        starts_at=given.now - given.alert.age,
        annotations={n: v for n, v in given.alert.annotations.items() if v is not None},
    )
    opened = fold(None, alert, given.now - given.alert.age).episode
    assert opened is not None  # a firing alert without a predecessor always opens one
    if given.alert.status == "firing":
        return replace(opened, last_seen_at=given.now)
    return replace(opened, firing=False, ends_at=given.now)


def observation_of(ref: TargetRef, seen: SeenGiven, now: float) -> Observation:
    """The target as given; pods whose zone or node is not given are where the target is."""
    own_uid = seen.uid or _uid(ref)
    pods = tuple(
        PodState(
            ref=TargetRef(Kind.POD, pod.name, ref.namespace, _pod_uid(ref, pod.name, own_uid)),
            node=pod.node or seen.node,
            zone=pod.zone or seen.zone,
            ready=pod.ready,
            phase=pod.phase,
            reason=pod.reason,
            restarts=pod.restarts,
            created_at=now - pod.age,
            terminating=pod.terminating,
            revision=pod.revision,
        )
        for pod in seen.pods
    )
    ready = sum(pod.ready for pod in pods) if seen.ready is None else seen.ready
    return Observation(
        ref=ref.with_uid(own_uid),
        at=now,
        resource_version="1",
        generation=1,
        observed_generation=1,
        labels=dict(seen.labels),
        annotations=dict(seen.annotations),
        owner=seen.owner.with_uid(_uid(seen.owner)) if seen.owner else None,
        replicas=(len(pods) or None) if seen.replicas is None else seen.replicas,
        ready=ready,
        updated=ready,
        rollout_in_progress=seen.rollout,
        paused=seen.paused,
        pods=pods,
        node=seen.node,
        zone=seen.zone,
        managers=tuple(seen.managers),
        hpa=TargetRef(Kind.HPA, seen.hpa, ref.namespace, "uid-hpa") if seen.hpa else None,
        terminating=seen.terminating,
    )


def _uid(ref: TargetRef) -> str:
    return "uid-" + digest(str(ref))[:12]


def _pod_uid(ref: TargetRef, name: str, own_uid: str) -> str:
    if ref.kind is Kind.POD and ref.name == name:
        return own_uid
    return _uid(TargetRef(Kind.POD, name, ref.namespace))


def as_seen_from(owner: TargetRef, seen: Observation) -> Observation:
    """The same look, taken at the owner of what was looked at."""
    return replace(seen, ref=owner, owner=None, node="")


def facts_of(
    given: Given, plan: Plan, step: PlannedStep, seen: Observation | None, episode: Episode
) -> GuardFacts:
    """What the guards of `step` are told."""
    facts, now = given.facts, given.now
    return GuardFacts(
        now=now,
        observation=seen,
        firing=facts.firing if episode.firing else False,
        episode_opened_at=episode.opened_at,
        pauses=tuple(
            Pause(f"case-{i}", pause.reason, pause.by, now, pause.namespace, pause.playbook)
            for i, pause in enumerate(facts.pauses)
        ),
        last_run_ended_at=None if facts.last_run is None else now - facts.last_run,
        buckets={
            spend.key: Bucket(facts.budgets[spend.scope], now)
            for spend in spends(plan, step)
            if spend.scope in facts.budgets
        },
        locked_by=facts.locked_by,
        owner=_owner_health(facts, plan, seen),
        zone=replace(facts.zone, name=plan.zone) if facts.zone and plan.zone else None,
        in_flight_owner=facts.in_flight.owner,
        in_flight_zone=facts.in_flight.zone,
        queue_place=facts.queue_place,
        bad_outcomes=facts.bad_outcomes,
        last_bad_at=now - facts.last_bad if facts.bad_outcomes else None,
        conditions=tuple(
            _answer(rule, facts, episode, seen, now) for rule in plan.guards.unless if seen
        ),
        error_budget=facts.error_budget,
        approval=_approval(facts, plan, now),
        protected=facts.protected or (protected_because(seen, Protection()) if seen else ""),
        missing_right=facts.missing_right,
    )


def _owner_health(facts: FactsGiven, plan: Plan, seen: Observation | None) -> DomainHealth | None:
    if facts.owner is not None:
        return replace(facts.owner, name=str(plan.lock))
    return seen.owner_health if seen is not None else None


def _answer(
    rule: Condition, facts: FactsGiven, episode: Episode, seen: Observation | None, now: float
) -> ConditionAnswer:
    for name in (rule.because, rule.text):
        if name in facts.conditions:
            holds = facts.conditions[name]
            return ConditionAnswer(rule.text, rule.because, holds, "the case says unknown")
    if rule.language is ConditionLanguage.PROMQL or seen is None:
        return ConditionAnswer(rule.text, rule.because, holds=False)
    try:
        holds = condition_holds(rule.text, episode, seen, now)
    except ValueError as error:
        return ConditionAnswer(rule.text, rule.because, None, str(error))
    return ConditionAnswer(rule.text, rule.because, holds)


def condition_holds(text: str, episode: Episode, seen: Observation, now: float) -> bool:
    """What a CEL condition says in this case. Raises ValueError when it cannot be evaluated."""
    return Expression(text).holds(ConditionVariables(episode, seen, now).as_mapping())


def _approval(facts: FactsGiven, plan: Plan, now: float) -> Approval | None:
    if facts.approval is None:
        return None
    expires = now - 60.0 if facts.approval == "expired" else now + plan.guards.approval_ttl_seconds
    return Approval(plan.digest, facts.approval != "rejected", "the case", now - 60.0, expires)
