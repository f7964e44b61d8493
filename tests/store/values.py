"""Small, complete domain values for tests of the journal."""

from dataclasses import replace
from typing import Any

from healer.domain.alert import Alert, AlertStatus
from healer.domain.episode import Episode, EpisodeState, fold
from healer.domain.plan import Plan, PlannedStep
from healer.domain.playbook import (
    Condition,
    ConditionLanguage,
    ErrorBudget,
    Guards,
    Mode,
    OnUnknown,
    ProbeRule,
    UndoRule,
    VerifyRule,
    Window,
)
from healer.domain.run import Phase, Run, StepRecord
from healer.domain.target import Kind, TargetRef
from healer.ports import Change, Claim, LedgerQuery, Store
from healer.testing.clock import START


def alert(name: str = "web-1", *, resolved: bool = False, **changes: Any) -> Alert:
    """An alert about the pod `name`, firing since the start of fake time."""
    made = Alert(
        source="webhook/main",
        fingerprint=f"{abs(hash_of(name)):016x}",
        status=AlertStatus.RESOLVED if resolved else AlertStatus.FIRING,
        labels={"alertname": "PodCrashLooping", "pod": name, "severity": "warning"},
        starts_at=START - 60,
        ends_at=START + 30 if resolved else None,
        annotations={"summary": f"{name} crashes"},
    )
    return replace(made, **changes)


def hash_of(text: str) -> int:
    """A number for a text, the same in every process."""
    return int.from_bytes(text.encode()[:7].ljust(7, b"\0"), "big")


def severe(name: str, severity: str, **changes: Any) -> Alert:
    """An alert of the given severity."""
    labels = {"alertname": "PodCrashLooping", "pod": name, "severity": severity}
    return alert(name, labels=labels, **changes)


def plan(episode_id: str, *, target: str = "web-1", owner: str = "web", zone: str = "a") -> Plan:
    """A plan with every kind of field filled in."""
    ref = TargetRef(Kind.POD, target, "shop", f"uid-{target}")
    step = PlannedStep(
        index=0,
        name="delete",
        action="delete_pod",
        action_class="restart",
        target=ref,
        params={"grace_seconds": 5, "nested": {"list": [1, 2.5, "x", None, True]}},
        cost=1,
        idempotent=False,
        probeable=True,
        verify=VerifyRule((ProbeRule("workload_ready", {"ratio": 0.9}),), 60.0),
        undo=UndoRule.IF_NOT_RECOVERED,
        on_unknown=OnUnknown.RETRY,
    )
    guards = Guards(
        unless=(Condition(ConditionLanguage.CEL, "x > 1", "a backup runs"),),
        windows=(Window((5, 6), 0, 1440, because="weekend"),),
        error_budget=ErrorBudget("slo:left", 0.1),
    )
    return Plan(
        episode_id=episode_id,
        playbook="restart-web",
        playbook_sha256="ab" * 32,
        mode=Mode.AUTO,
        target=ref,
        lock=TargetRef(Kind.DEPLOYMENT, owner, "shop", f"uid-{owner}"),
        namespace="shop",
        zone=zone,
        steps=(step,),
        guards=guards,
        made_at=START,
        labels={"pod": target},
    )


def run(episode: Episode, number: int = 1, phase: Phase = Phase.GUARD, **where: str) -> Run:
    """The episode's n-th run."""
    return Run(
        id=f"{episode.id}-{number}",
        episode_id=episode.id,
        plan=plan(episode.id, **where),
        phase=phase,
        rung=0,
        started_at=START + number,
    )


def step(of: Run, attempt: int = 0, **changes: Any) -> StepRecord:
    """The intent of the run's first step."""
    record = StepRecord(
        step=0,
        attempt=attempt,
        undo=False,
        key=f"{of.id}-s0a{attempt}",
        intent_at=START,
        precondition={"uid": "uid-web-1", "replicas": 3},
    )
    return replace(record, **changes)


def query(episode_id: str, **changes: Any) -> LedgerQuery:
    """What a guard asks about `plan`."""
    asked = LedgerQuery(
        playbook="restart-web",
        target="Pod/shop/web-1",
        lock="Deployment/shop/web",
        zone="a",
        bucket_keys=("zone/a",),
        episode_id=episode_id,
    )
    return replace(asked, **changes)


async def opened(store: Store, *names: str, now: float = START) -> list[Episode]:
    """One open episode for each name, in order."""
    await store.accept([alert(name) for name in names], (), now)
    folds = await store.fold(fold, now, 1000)
    return [result.episode for _, result in folds if result.episode is not None]


async def claimed(store: Store, *names: str, owner: str = "me", now: float = START) -> list[Claim]:
    """One claimed episode for each name, in order."""
    episodes = await opened(store, *names, now=now)
    claims = {c.episode.id: c for c in await store.claim(owner, now, 30.0, 1000)}
    return [claims[episode.id] for episode in episodes]


def running(held: Claim, the_run: Run, **changes: Any) -> Change:
    """A change that leaves the episode running."""
    return Change(replace(held.episode, state=EpisodeState.RUNNING), run=the_run, **changes)


def state(held: Claim, name: EpisodeState, **changes: Any) -> Change:
    """A change of the episode's state."""
    return Change(replace(held.episode, state=name), **changes)
