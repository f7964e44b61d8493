"""What the other witnesses prove wrong: alert sender, servers, and what really fired."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from healer.domain.alert import AlertStatus
from healer.domain.kinds import RESOURCES
from healer.domain.plan import PlannedStep
from healer.domain.playbook import OnUnknown
from healer.domain.run import Run, StepRecord
from healer.testing.history.records import Effect, Firing, History, Violation, ViolationKind


@dataclass(frozen=True, slots=True)
class Attributed:
    """Effects by the step that must have caused them."""

    by_step: dict[tuple[str, str], list[Effect]]  #: (run, key of the step) → what happened
    orphans: tuple[tuple[Effect, str], ...]  #: without an intent, and why it is thought so


def attribute(history: History) -> Attributed:
    """Give each effect to a step: by its key, else the newest intent of its run on its target."""
    runs = {run.id: run for run in history.runs}
    keys = {record.key: (run, record) for run in history.runs for record in run.steps}
    by_step: dict[tuple[str, str], list[Effect]] = defaultdict(list)
    orphans: list[tuple[Effect, str]] = []
    for effect in history.effects:
        if not effect.happened:
            continue
        if effect.key and effect.key in keys:
            run, record = keys[effect.key]
            if effect.at < record.intent_at - history.tolerance.clock:
                orphans.append((effect, f"came before the intent {record.key}"))
            by_step[run.id, record.key].append(effect)
        elif effect.key:
            orphans.append((effect, f"no step has the key {effect.key}"))
        elif effect.run_id not in runs:
            orphans.append((effect, f"the journal has no run {effect.run_id or 'of this effect'}"))
        else:
            found = _newest(runs[effect.run_id], effect, history.tolerance.clock)
            if found is None:
                orphans.append((effect, "no intent of its run came before it"))
            else:
                by_step[effect.run_id, found.key].append(effect)
    return Attributed(by_step, tuple(orphans))


def _newest(run: Run, effect: Effect, slack: float) -> StepRecord | None:
    before = [record for record in run.steps if record.intent_at <= effect.at + slack]
    same = [record for record in before if _is_of(run.plan.steps[record.step], effect)]
    # What a step makes or moves besides its target (a Job, pods of a drained node) is its own too.
    found = same or before
    return found[-1] if found else None


def _is_of(step: PlannedStep, effect: Effect) -> bool:
    target = step.target
    return (
        RESOURCES[target.kind].plural == effect.resource
        and target.name == effect.name
        and target.namespace == effect.namespace
    )


def unintended(history: History, attributed: Attributed) -> Iterator[Violation]:
    """Nothing happened whose intent was not on disk before."""
    for effect, why in attributed.orphans:
        where = effect.run_id or effect.key or f"{effect.resource} {effect.name}"
        yield Violation(ViolationKind.EFFECT_WITHOUT_INTENT, f"{effect}: {why}", where)


def counts(history: History, attributed: Attributed) -> dict[tuple[str, int, bool, str], int]:
    """How many effects each at-most-once step had: by run, step, undo and (if told to) attempt.

    A step is at-most-once unless its action is idempotent. One with `onUnknown: retry` may have one
    effect for each attempt, as its playbook says.
    """
    found: dict[tuple[str, int, bool, str], int] = defaultdict(int)
    runs = {run.id: run for run in history.runs}
    for (run_id, key), effects in attributed.by_step.items():
        run = runs[run_id]
        record = next(record for record in run.steps if record.key == key)
        step = run.plan.steps[record.step]
        if not step.idempotent:
            again = step.on_unknown is OnUnknown.RETRY
            found[run_id, record.step, record.undo, key if again else ""] += len(effects)
    return found


def repeated(history: History, attributed: Attributed) -> Iterator[Violation]:
    """No at-most-once step had a second effect."""
    for (run_id, step, undo, _), number in counts(history, attributed).items():
        if number > 1:
            which = f"the undo of step {step}" if undo else f"step {step}"
            detail = f"{which} may happen at most once and had {number} effects"
            yield Violation(ViolationKind.REPEATED_EFFECT, detail, run_id)


def lost(history: History) -> Iterator[Violation]:
    """Everything that was answered with 2xx is in the journal, and an alert led to an episode."""
    known = {(episode.source, episode.fingerprint) for episode in history.episodes}
    told: set[str] = set()
    for sent in history.sent:
        if not sent.accepted or sent.event_id in told:
            continue
        told.add(sent.event_id)
        where = f"{sent.source}/{sent.fingerprint}"
        if history.kept is not None and sent.event_id not in history.kept:
            detail = f"{sent.status} since {sent.starts_at:.3f} was accepted and is not kept"
            yield Violation(ViolationKind.LOST_ALERT, detail, where)
        elif (
            history.calm
            and sent.status is AlertStatus.FIRING
            and (sent.source, sent.fingerprint) not in known
        ):
            detail = f"firing since {sent.starts_at:.3f} was accepted and opened no episode"
            yield Violation(ViolationKind.LOST_ALERT, detail, where)


@dataclass(slots=True)
class _Periods:
    """The firing periods of one alert, by their start."""

    since: list[float] = field(default_factory=list)
    until: list[float] = field(default_factory=list)

    def fired_within(self, since: float, until: float) -> bool:
        """Whether it fired at any moment of that time."""
        index = bisect_right(self.since, until)
        return any(end >= since for end in self.until[:index])


def quiet(history: History, attributed: Attributed) -> Iterator[Violation]:
    """Nothing is done about an alert that has ended; to put back what was done is allowed."""
    if history.firing is None:
        return
    periods = _by_alert(history.firing)
    episodes = {episode.id: episode for episode in history.episodes}
    runs = {run.id: run for run in history.runs}
    for (run_id, key), effects in attributed.by_step.items():
        run = runs[run_id]
        record = next(record for record in run.steps if record.key == key)
        episode = episodes.get(run.episode_id)
        if episode is None or record.undo:
            continue
        known = periods.get((episode.source, episode.fingerprint), _Periods())
        for effect in effects:
            if not known.fired_within(effect.at - history.tolerance.firing, effect.at):
                detail = f"{effect}, and {episode.name} did not fire by then"
                yield Violation(ViolationKind.NOT_FIRING, detail, run_id)


def _by_alert(firing: tuple[Firing, ...]) -> dict[tuple[str, str], _Periods]:
    found: dict[tuple[str, str], _Periods] = defaultdict(_Periods)
    for period in sorted(firing, key=lambda period: period.since):
        mine = found[period.source, period.fingerprint]
        mine.since.append(period.since)
        mine.until.append(period.until if period.until is not None else float("inf"))
    return found
