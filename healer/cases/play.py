"""Plays a ladder with given outcomes and verifications, and compares where each of them leads."""

from collections.abc import Iterator, Mapping, Sequence

from healer.cases.scene import condition_holds
from healer.cases.shape import LadderExpected
from healer.domain import ladder
from healer.domain.episode import Episode
from healer.domain.outcome import Outcome, Recovery, Result
from healer.domain.plan import Plan
from healer.domain.run import Phase, Run
from healer.domain.target import Observation
from healer.playbook_yaml.yaml_text import Path as Place

#: How long verification may take when the playbook says `auto`: any number does, time is given.
WINDOW_SECONDS = 300.0

Mismatch = tuple[Place, str, str]


class _Impossible(Exception):
    """What the case says cannot happen here."""

    def __init__(self, key: str, expected: str, actual: str) -> None:
        super().__init__(actual)
        self.mismatch = (key, expected, actual)


def play(
    entries: Sequence[LadderExpected],
    plan: Plan,
    views: Mapping[int, Observation],
    episode: Episode,
    now: float,
) -> Iterator[Mismatch]:
    """Play the entries in order; stops at the first that is not so, as the rest would be noise."""
    run = ladder.begin(plan, 1, now)
    for index, entry in enumerate(entries):
        place: Place = ("ladder", index)
        try:
            before, run, now = _entry(run, entry, views, episode, now)
        except _Impossible as error:
            key, expected, actual = error.mismatch
            yield (*place, key), expected, actual
            return
        then, detail = _then(before, run)
        if then != entry.then:
            yield (*place, "then"), f"then {entry.then}", f"it is {then}{detail}"
            return


def _entry(
    run: Run,
    entry: LadderExpected,
    views: Mapping[int, Observation],
    episode: Episode,
    now: float,
) -> tuple[Run, Run, float]:
    if entry.undo is not None:
        if run.phase is not Phase.UNDOING:
            raise _Impossible("undo", "an undo", f"the run is {run.phase}, nothing is undone")
        return run, _undone(run, entry.undo, now), now
    if run.phase is Phase.UNDOING:
        run = _undone(run, Outcome.APPLIED, now)
    if run.phase is not Phase.GUARD:
        raise _Impossible("step", f"step {entry.step!r}", f"the ladder has ended: {run.phase}")
    step = ladder.current(run)
    if step.name != entry.step:
        raise _Impossible("step", f"step {entry.step!r}", f"the next rung is {step.name!r}")
    outcome = entry.outcome
    if step.condition:
        try:
            if not condition_holds(step.condition, episode, views[run.rung], now):
                outcome = Outcome.SKIPPED
        except ValueError:
            outcome = Outcome.SKIPPED  # as the engine does with a condition that fails
    window = (step.verify.within_seconds if step.verify else None) or WINDOW_SECONDS
    begun, _ = ladder.intend(run, {}, now)
    settled, _ = ladder.settle(begun, outcome, "as the case says", now)
    after = ladder.after_outcome(settled, outcome, now, window)
    if after.phase is not Phase.VERIFYING:
        if entry.verify is not None:
            reason = f"{step.name!r} is {outcome} and is not verified"
            raise _Impossible("verify", f"verify {entry.verify}", reason)
        return run, after, now
    if entry.verify is None:
        return run, after, now
    return run, *_verified(after, entry.verify, now)


def _verified(run: Run, recovery: Recovery, now: float) -> tuple[Run, float]:
    """Recovered holds for `stable_for`; the others are still so at the deadline."""
    verify = ladder.current(run).verify
    assert verify is not None  # only a step with verification gets here
    if recovery is Recovery.RECOVERED:
        run = ladder.after_look(run, recovery, now)
        later = now + verify.stable_for_seconds
        return (run if run.phase is Phase.DONE else ladder.after_look(run, recovery, later)), later
    deadline = run.verify_until or now
    return ladder.after_look(run, recovery, deadline), deadline


def _undone(run: Run, outcome: Outcome, now: float) -> Run:
    begun, _ = ladder.intend(run, {}, now, undo=True)
    settled, _ = ladder.settle(begun, outcome, "as the case says", now)
    return ladder.after_undo(settled, outcome, now)


def _then(before: Run, run: Run) -> tuple[str, str]:
    match run.phase:
        case Phase.UNDOING:
            return "undo", ""
        case Phase.ESCALATING:
            return "escalated", f" ({run.reason})"
        case Phase.VERIFYING | Phase.HOLDING:
            return "verifying", ""
        case Phase.GUARD if run.rung == before.rung:
            return "retry", ""
        case Phase.GUARD:
            return "next", f" ({ladder.current(run).name!r})"
        case _:
            return str(Result(run.result or Result.OBSERVED)), f" ({run.reason})"
