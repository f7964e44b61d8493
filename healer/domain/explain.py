"""Why healer acted, why it did not, what it waits for and until when: one episode in one screen."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from healer.domain.episode import Episode, EpisodeState
from healer.domain.journal import Fact, FactKind
from healer.domain.meaning import MEANINGS
from healer.domain.outcome import Outcome, Recovery, Result
from healer.domain.run import Phase, Run
from healer.domain.verdict import Effect, Reason
from healer.kernel.durations import parse_duration


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing that holds an episode back."""

    reason: str
    detail: str
    until: float | None = None  #: Unix seconds when it is looked at again; None: nobody knows


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the plan and what came of it."""

    name: str
    action: str
    target: str
    standing: str  #: `to do`, `under way`, or the outcome in words


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that a person asks of one episode."""

    episode_id: str
    headline: str  #: one sentence: what is going on
    reason: str  #: the public word; empty when nothing has been decided
    meaning: str  #: what that word says
    remedy: str  #: what a person can do about it
    waits: tuple[Waiting, ...]
    queue_place: int | None  #: 1 is next; None when nothing is queued for
    next_look_at: float | None
    playbook: str
    target: str
    plan_digest: str  #: what an approval is bound to
    answerable: bool  #: a plan waits for a person's yes or no
    rungs: tuple[Rung, ...]
    moments: tuple[Moment, ...]


_PLACE = re.compile(r"place (\d+) in the queue")
_OPEN = frozenset({EpisodeState.OPEN, EpisodeState.BLOCKED, EpisodeState.AWAITING_APPROVAL})


#: What two episodes wait for together: the same bucket, or the same lock.
_SPENT = re.compile(r"^(.+): (\d+) per (\S+) is spent, this step costs (\d+)$")
_LOCKED = re.compile(r"^(.+) is being worked on by ")


def explain(
    episode: Episode,
    run: Run | None,
    facts: Sequence[Fact],
    now: float,
    blocked: Sequence[Episode] = (),
) -> Explanation:
    """The explanation of `episode` from its latest run and its facts in order.

    `blocked` are the episodes that are held back, among which it has its place in the queue.
    """
    reason = episode.reason
    meaning = MEANINGS.get(reason) if reason is not None else None
    waits = _waits(episode, run, facts, now)
    place = _queue_place(waits)
    if place is None and waits and waits[0].reason == episode.reason and awaited(episode):
        place = 1 + sum(_goes_before(other, episode) for other in blocked)
        waits = (replace(waits[0], until=_expected(episode, waits[0].until, place)), *waits[1:])
    return Explanation(
        episode_id=episode.id,
        headline=_headline(episode, run),
        reason=str(reason or ""),
        meaning=meaning.says if meaning else "",
        remedy=meaning.remedy if meaning else "",
        waits=waits,
        queue_place=place,
        next_look_at=None if episode.state is EpisodeState.CLOSED else episode.next_at,
        playbook=episode.playbook,
        target=episode.target,
        plan_digest=run.plan.digest if run is not None else "",
        answerable=episode.state is EpisodeState.AWAITING_APPROVAL and run is not None,
        rungs=_rungs(run),
        moments=tuple(Moment(fact.at, describe(fact)) for fact in facts),
    )


def _headline(episode: Episode, run: Run | None) -> str:
    name, on = episode.name, f" on {episode.target}" if episode.target else ""
    match episode.state:
        case EpisodeState.OPEN:
            return f"{name} was accepted and is not decided yet."
        case EpisodeState.BLOCKED:
            return f"{name}: {episode.playbook or 'a playbook'}{on} is held back: {episode.detail}."
        case EpisodeState.AWAITING_APPROVAL:
            return f"{name}: {episode.playbook}{on} waits for a person to say yes."
        case EpisodeState.RUNNING:
            return f"{name}: {episode.playbook}{on} is {_doing(run)}."
        case EpisodeState.ESCALATED if episode.result is Result.TOLD:
            return f"{name}: {episode.playbook}{on} told a person."
        case EpisodeState.ESCALATED:
            return f"{name}: {episode.playbook}{on} did not help, and a person was told."
        case EpisodeState.SETTLED if episode.result is Result.HEALED:
            return f"{name}{on} is healed; the alert itself has not ended yet."
        case EpisodeState.SETTLED:
            return f"{name} still fires, and nothing more is done by itself: {episode.detail}."
        case EpisodeState.CLOSED:
            return f"{name}{on} is over: {_ENDS.get(episode.result, 'closed by a person')}."


_ENDS: Mapping[Result | None, str] = {
    Result.HEALED: "healed, and it stayed healthy",
    Result.SELF_RESOLVED: "it went away by itself",
    Result.ESCALATED: "a person was told, and it ended",
    Result.TOLD: "a person was told, as the playbook says, and it ended",
    Result.OBSERVED: "only observed, as the playbook says",
    Result.REFUSED: "nothing was done, because a guard said no",
    Result.UNMATCHED: "no playbook was for it",
}
_PHASES: Mapping[Phase, str] = {
    Phase.GUARD: "before its next step",
    Phase.ACTING: "acting",
    Phase.VERIFYING: "looking whether it helped",
    Phase.HOLDING: "recovered, and watched whether it stays so",
    Phase.UNDOING: "putting back what it changed",
    Phase.ESCALATING: "telling a person",
    Phase.DONE: "done",
}


def _doing(run: Run | None) -> str:
    if run is None:
        return "about to begin"
    step = run.plan.steps[min(run.rung, len(run.plan.steps) - 1)]
    return f"{_PHASES[run.phase]} (step {run.rung + 1} of {len(run.plan.steps)}, {step.action})"


def _waits(
    episode: Episode, run: Run | None, facts: Sequence[Fact], now: float
) -> tuple[Waiting, ...]:
    if episode.state is EpisodeState.RUNNING and run is not None:
        return _run_waits(run)
    if episode.state not in _OPEN or episode.reason is None:
        return ()
    verdict = next((fact for fact in reversed(facts) if fact.kind is FactKind.VERDICT), None)
    until = episode.next_at if episode.next_at > now else None
    if verdict is None or verdict.reason is not episode.reason:
        return (Waiting(str(episode.reason), episode.detail, until),)
    held = [
        Waiting(str(one["reason"]), str(one["detail"]), until)
        for one in verdict.data.get("because", ())
        if one.get("effect") in {Effect.DEFER, Effect.NEED_APPROVAL}
    ]
    first = [one for one in held if one.reason == episode.reason]
    rest = [one for one in held if one.reason != episode.reason]
    return (*first, *rest) or (Waiting(str(episode.reason), episode.detail, until),)


def _run_waits(run: Run) -> tuple[Waiting, ...]:
    match run.phase:
        case Phase.VERIFYING:
            detail = "the step's probes must say that it recovered"
            return (Waiting("verification", detail, run.verify_until),)
        case Phase.HOLDING:
            step = run.plan.steps[run.rung]
            stable = step.verify.stable_for_seconds if step.verify else 0.0
            until = run.stable_since + stable if run.stable_since is not None else None
            return (Waiting("stability", "it must stay recovered until then", until),)
        case Phase.GUARD if run.held_reason is not None:
            return (Waiting(str(run.held_reason), "a guard holds the next step back"),)
        case _:
            return ()


def awaited(episode: Episode) -> str:
    """The bucket or the lock that a held episode waits for; empty when it waits for neither."""
    if episode.state is not EpisodeState.BLOCKED:
        return ""
    form = {Reason.BUDGET_EXHAUSTED: _SPENT, Reason.TARGET_LOCKED: _LOCKED}.get(
        episode.reason or Reason.ALLOWED
    )
    found = form.match(episode.detail) if form is not None else None
    return found[1] if found else ""


def _goes_before(other: Episode, mine: Episode) -> bool:
    """Whether it waits for the same and is more severe, or as severe and older."""
    before = (-other.severity_rank, other.opened_at, other.id) < (
        -mine.severity_rank, mine.opened_at, mine.id,
    )  # fmt: skip
    return before and other.reason is mine.reason and awaited(other) == awaited(mine)


def _expected(episode: Episode, first: float | None, place: int) -> float | None:
    """When the bucket has tokens for everybody before it too; of a lock nobody knows the end."""
    spent = _SPENT.match(episode.detail)
    if spent is None or first is None:
        return first
    rate = parse_duration(spent[3]) / int(spent[2])
    return first + (place - 1) * int(spent[4]) * rate


def _queue_place(waits: Sequence[Waiting]) -> int | None:
    for wait in waits:
        found = _PLACE.search(wait.detail) if wait.reason == Reason.STORM_PACED else None
        if found:
            return int(found[1])
    return None


_OUTCOMES: Mapping[Outcome | None, str] = {
    None: "under way: its outcome is not known yet",
    Outcome.APPLIED: "done",
    Outcome.ALREADY_DONE: "was done already",
    Outcome.SKIPPED: "skipped",
    Outcome.DRY_RUN: "dry run: checked by the API server, nothing changed",
    Outcome.FAILED: "failed, certainly without effect",
    Outcome.UNKNOWN: "unknown: nobody can tell whether it happened",
}


#: What a look that found it recovered means for the run, by the phase it led to.
_STAGES: Mapping[str, str] = {
    Phase.HOLDING: ", watched whether it stays so",
    Phase.DONE: ", and it stayed so",
}


def _rungs(run: Run | None) -> tuple[Rung, ...]:
    if run is None:
        return ()
    found = []
    for step in run.plan.steps:
        records = [record for record in run.steps if record.step == step.index]
        standing = "to do" if run.phase is not Phase.DONE else "not reached"
        if records:
            last = records[-1]
            standing = ("undo: " if last.undo else "") + _OUTCOMES[last.outcome]
            if last.detail:
                standing += f" ({last.detail})"
        elif step.index < run.rung:
            standing = "skipped"
        found.append(Rung(step.name, step.action, str(step.target), standing))
    return tuple(found)


def describe(fact: Fact) -> str:
    """One fact as one line."""
    data = fact.data
    reason = f" [{fact.reason}]" if fact.reason is not None else ""
    match fact.kind:
        case FactKind.VERDICT:
            return f"guards: {data.get('effect', '?')}{reason} {fact.detail}"
        case FactKind.INTENT:
            return f"{'undo' if data.get('undo') else 'act'}: {fact.detail}"
        case FactKind.OUTCOME:
            return f"outcome: {data.get('outcome', '?')}{reason} {fact.detail}"
        case FactKind.VERIFIED:
            doubts = "; ".join(
                f"{finding.get('probe')}: {finding.get('detail')}"
                for finding in data.get("findings", ())
                if finding.get("recovery") != Recovery.RECOVERED
            )
            stage = _STAGES.get(str(data.get("phase")), "")
            return f"verified: {data.get('recovery', '?')}{stage}" + (
                f" ({doubts})" if doubts else ""
            )
        case _:
            word = str(fact.kind).replace("_", " ")
            return f"{word}:{reason} {fact.detail}".rstrip(" :")
