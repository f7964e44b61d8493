"""A good history, made by hand from the engine's own parts, and hands that forge it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from healer.domain import ladder
from healer.domain.alert import Alert, AlertStatus
from healer.domain.episode import Episode, EpisodeState, fold
from healer.domain.journal import GENESIS, Fact, FactKind, Sealed, seal
from healer.domain.outcome import Outcome, Result
from healer.domain.plan import PlannedStep
from healer.domain.playbook import DEFAULT_BUDGETS, Guards, OnUnknown, Rate
from healer.domain.run import Run, StepRecord
from healer.domain.target import Kind, TargetRef
from healer.domain.verdict import Reason
from healer.testing.builders import a_plan, a_step
from healer.testing.clock import START
from healer.testing.history import Effect, Firing, History, Sent

#: Seconds between the beginnings of two episodes; each lasts about 40.
APART = 60.0


@dataclass
class Forge:
    """Writes `count` healed episodes, each with one idempotent and one at-most-once step."""

    count: int = 4
    attempts: int = 1  #: of the second step; all but the last certainly had no effect
    rate: Rate = field(default_factory=lambda: Rate(100, 3600.0))
    facts: list[Fact] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    firing: list[Firing] = field(default_factory=list)

    def history(self) -> History:
        """All of it, sealed."""
        for number in range(self.count):
            self._episode(number, START + APART * number)
        return History(
            at=START + APART * self.count,
            facts=sealed(self.facts),
            runs=tuple(self.runs),
            episodes=tuple(self.episodes),
            effects=tuple(self.effects),
            sent=tuple(self.sent),
            firing=tuple(self.firing),
            kept=frozenset(one.event_id for one in self.sent),
            calm=True,
        )

    def _episode(self, number: int, at: float) -> None:
        pod = TargetRef(Kind.POD, f"web-{number}", "shop", f"uid-{number}")
        fingerprint = f"{number:016x}"
        alert = Alert("alertmanager", fingerprint, AlertStatus.FIRING, {"alertname": "Sick"}, at)
        opened = fold(None, alert, at).episode
        assert opened is not None
        steps = (
            replace(a_step(0, target=pod), action="delete_pod", idempotent=True),
            replace(a_step(1, target=pod), action="http_call", idempotent=False),
        )
        guards = Guards(budgets=dict.fromkeys(DEFAULT_BUDGETS, self.rate))
        plan = replace(a_plan(*steps, guards=guards), episode_id=opened.id, target=pod, lock=pod)
        run = ladder.begin(plan, 1, at)
        self.facts.append(Fact(FactKind.ACCEPTED, at, opened.id, detail="opened"))
        epoch = 2 * number + 1
        run = self._attempt(run, at + 2, epoch, Outcome.APPLIED)
        run = replace(run, rung=1, attempt=0)
        for attempt in range(self.attempts):
            last = attempt + 1 == self.attempts
            run = replace(run, attempt=attempt)
            outcome = Outcome.APPLIED if last else Outcome.FAILED
            run = self._attempt(run, at + 10 + attempt, epoch + 1, outcome)
        self.runs.append(ladder.finish(run, Result.HEALED, Reason.RECOVERED, at + 30))
        self.episodes.append(
            replace(
                opened, state=EpisodeState.CLOSED, firing=False, ends_at=at + 29, run_id=run.id,
                result=Result.HEALED, next_at=at + 40,
            )
        )  # fmt: skip
        self.facts.append(Fact(FactKind.CLOSED, at + 40, opened.id, run.id))
        self.firing.append(Firing("alertmanager", fingerprint, at, at + 29))
        self.sent += [
            Sent(at, "alertmanager", fingerprint, at, AlertStatus.FIRING, True),
            Sent(at + 30, "alertmanager", fingerprint, at, AlertStatus.RESOLVED, True),
        ]

    def _attempt(self, run: Run, at: float, epoch: int, outcome: Outcome) -> Run:
        step = ladder.current(run)
        run, record = ladder.intend(run, {}, at)
        self.facts.append(intent(run, step, record, epoch))
        if outcome is not Outcome.FAILED:
            self.effects.append(effect(run, step, record, at + 0.1))
        run, record = ladder.settle(run, outcome, "done", at + 0.2)
        self.facts.append(ending(run, record, epoch))
        return run


def intent(run: Run, step: PlannedStep, record: StepRecord, epoch: int) -> Fact:
    """As the engine writes it."""
    return Fact(
        FactKind.INTENT, record.intent_at, run.episode_id, run.id, None, step.name,
        {**_which(record), "key": record.key, "epoch": epoch, "owner": f"w-{epoch}"},
    )  # fmt: skip


def ending(run: Run, record: StepRecord, epoch: int) -> Fact:
    """As the engine writes it."""
    return Fact(
        FactKind.OUTCOME, record.outcome_at or 0.0, run.episode_id, run.id, None, "",
        {**_which(record), "outcome": str(record.outcome), "epoch": epoch, "owner": f"w-{epoch}"},
    )  # fmt: skip


def _which(record: StepRecord) -> dict[str, Any]:
    return {"step": record.step, "attempt": record.attempt, "undo": record.undo}


def effect(run: Run, step: PlannedStep, record: StepRecord, at: float) -> Effect:
    """What the server saw of a step: by its key for calls, by its run for the API server."""
    if step.action == "http_call":
        return Effect(at, "post", "/mend", "", "x", 200, key=record.key)
    target = step.target
    return Effect(at, "delete", "pods", target.namespace, target.name, 200, run_id=run.id)


def sealed(facts: Iterable[Fact]) -> tuple[Sealed, ...]:
    """A whole chain of these facts."""
    chain: list[Sealed] = []
    for seq, fact in enumerate(facts, start=1):
        previous = chain[-1].hash if chain else GENESIS
        chain.append(Sealed(seq, fact, previous, seal(previous, seq, fact)))
    return tuple(chain)


def resealed(history: History, facts: Sequence[Fact]) -> History:
    """The history with other facts, forged so well that the chain is whole."""
    return replace(history, facts=sealed(facts))


def plain(history: History) -> list[Fact]:
    """Its facts without their seals."""
    return [one.fact for one in history.facts]


def with_run(history: History, number: int, **changes: Any) -> History:
    """The history with one run changed."""
    runs = list(history.runs)
    runs[number] = replace(runs[number], **changes)
    return replace(history, runs=tuple(runs))


def retried(history: History) -> History:
    """The same, with a playbook that says `onUnknown: retry` of every step."""
    runs = []
    for run in history.runs:
        steps = tuple(replace(step, on_unknown=OnUnknown.RETRY) for step in run.plan.steps)
        runs.append(replace(run, plan=replace(run.plan, steps=steps)))
    return replace(history, runs=tuple(runs))
