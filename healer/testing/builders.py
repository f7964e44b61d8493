"""Builders of domain values with careful defaults, for tests: name only what the test is about."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from healer.domain.alert import Alert, AlertStatus, parse_matchers
from healer.domain.episode import Episode, fold
from healer.domain.facts import GuardFacts
from healer.domain.plan import Plan, PlannedStep
from healer.domain.playbook import (
    Guards,
    Mode,
    Playbook,
    ProbeRule,
    StepRule,
    TargetRule,
    Trigger,
    TriggerKind,
    VerifyRule,
)
from healer.domain.target import DomainHealth, Kind, Observation, PodState, TargetRef
from healer.kernel.ids import label_fingerprint
from healer.testing.clock import START


def an_alert(
    name: str = "KubePodCrashLooping",
    *,
    status: AlertStatus = AlertStatus.FIRING,
    starts_at: float = START,
    ends_at: float | None = None,
    labels: Mapping[str, str] | None = None,
    **more: Any,
) -> Alert:
    """An alert of pod `web-0` in namespace `shop` unless told otherwise."""
    all_labels = {
        "alertname": name, "namespace": "shop", "pod": "web-0", "severity": "warning",
        **(labels or {}),
    }  # fmt: skip
    return Alert(
        source="alertmanager",
        fingerprint=label_fingerprint(all_labels),
        status=status,
        labels=all_labels,
        starts_at=starts_at,
        ends_at=ends_at,
        **more,
    )


def an_episode(alert: Alert | None = None, *, now: float = START, **changes: Any) -> Episode:
    """The first episode of an alert."""
    opened = fold(None, alert or an_alert(), now).episode
    if opened is None:
        raise ValueError("this alert opens no episode")
    return replace(opened, **changes)


DEPLOYMENT = TargetRef(Kind.DEPLOYMENT, "web", "shop", "uid-deployment-web")


def a_pod(name: str = "web-0", *, ready: bool = False, zone: str = "a", **more: Any) -> PodState:
    """A pod of Deployment shop/web, crash looping unless ready."""
    ref = TargetRef(Kind.POD, name, "shop", f"uid-{name}")
    reason = "" if ready else "CrashLoopBackOff"
    values = {"node": f"node-{zone}", "phase": "Running", "reason": reason, "restarts": 5, **more}
    return PodState(ref=ref, zone=zone, ready=ready, **values)


def an_observation(
    ref: TargetRef | None = None, *, pods: tuple[PodState, ...] | None = None, **changes: Any
) -> Observation:
    """Pod `web-0`, bad, beside two ready siblings of Deployment `web`, in zone `a`."""
    siblings = (a_pod(), a_pod("web-1", ready=True, zone="b"), a_pod("web-2", ready=True, zone="c"))
    seen = Observation(
        ref=ref or TargetRef(Kind.POD, "web-0", "shop", "uid-web-0"),
        at=START,
        resource_version="1",
        owner=DEPLOYMENT,
        replicas=3,
        ready=2,
        updated=3,
        pods=siblings if pods is None else pods,
        node="node-a",
        zone="a",
    )
    return replace(seen, **changes)


def a_playbook(name: str = "replace-pod", **changes: Any) -> Playbook:
    """Deletes the pod of a KubePodCrashLooping alert, by itself, and waits for its workload."""
    book = Playbook(
        name=name,
        summary="Replace a crash-looping pod.",
        trigger=Trigger(TriggerKind.ALERT, parse_matchers('alertname="KubePodCrashLooping"')),
        target=TargetRule(Kind.POD, "${labels.pod}", "${labels.namespace}"),
        steps=(
            StepRule(
                name="replace the pod",
                action="delete_pod",
                params={},
                verify=VerifyRule((ProbeRule("workload_ready", {}),), 60.0, 5.0, 10.0),
            ),
        ),
        mode=Mode.AUTO,
        sha256="0" * 64,
        text="# a playbook built by a test",
    )
    return replace(book, **changes)


def a_step(index: int = 0, **changes: Any) -> PlannedStep:
    """Delete pod `web-0`, at the cost of one pod."""
    step = PlannedStep(
        index=index,
        name="replace the pod",
        action="delete_pod",
        action_class="evict",
        target=TargetRef(Kind.POD, "web-0", "shop", "uid-web-0"),
        params={},
        cost=1,
        idempotent=True,
        probeable=True,
        verify=VerifyRule((ProbeRule("workload_ready", {}),), 60.0, 5.0, 10.0),
    )
    return replace(step, **changes)


def a_plan(*steps: PlannedStep, **changes: Any) -> Plan:
    """A plan of the steps, in mode auto."""
    plan = Plan(
        episode_id=an_episode().id,
        playbook="replace-pod",
        playbook_sha256="0" * 64,
        mode=Mode.AUTO,
        target=TargetRef(Kind.POD, "web-0", "shop", "uid-web-0"),
        lock=DEPLOYMENT,
        namespace="shop",
        zone="a",
        steps=steps or (a_step(),),
        guards=Guards(),
        made_at=START,
        labels=dict(an_alert().labels),
    )
    return replace(plan, **changes)


def calm(**changes: Any) -> GuardFacts:
    """Facts under which every guard allows `a_plan`."""
    facts = GuardFacts(
        now=START,
        observation=an_observation(),
        firing=True,
        episode_opened_at=START,
        owner=DomainHealth("Deployment/shop/web", 3, 1),
        zone=DomainHealth("a", 10, 1),
    )
    return replace(facts, **changes)
