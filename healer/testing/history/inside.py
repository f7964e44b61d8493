"""What the journal alone can prove wrong: its chain, its intents, epochs, budgets, locks, rest."""

from collections import defaultdict
from collections.abc import Iterator

from healer.domain.budget import Spend, spends
from healer.domain.episode import EpisodeState
from healer.domain.journal import GENESIS, Fact, FactKind, seal
from healer.domain.outcome import Outcome
from healer.domain.run import Phase, Run, StepRecord
from healer.domain.verdict import Reason
from healer.testing.history.records import History, Violation, ViolationKind

#: Outcomes that need no intent: nothing was sent.
_WITHOUT_INTENT = frozenset({Outcome.FAILED, Outcome.SKIPPED, Outcome.DRY_RUN})

#: Of a run: step, attempt, and whether it is the undo.
_Which = tuple[str, int, int, bool]


def chain(history: History) -> Iterator[Violation]:
    """Every fact follows the one before, from the first on."""
    previous = GENESIS
    for seq, sealed in enumerate(history.facts, start=1):
        whole = seal(previous, seq, sealed.fact)
        if sealed.seq != seq or sealed.previous != previous or sealed.hash != whole:
            detail = "does not follow the fact before it; it or that one was changed"
            yield Violation(ViolationKind.BROKEN_CHAIN, detail, f"fact {sealed.seq}")
            return
        previous = sealed.hash


def intents(history: History) -> Iterator[Violation]:
    """An intent before every outcome and every step; one outcome at most; the same in run and fact.

    Also that what the facts say was begun and ended is what the runs say.
    """
    begun: set[_Which] = set()
    ended: set[_Which] = set()
    for sealed in history.facts:
        fact = sealed.fact
        if fact.kind is FactKind.INTENT:
            begun.add(_which(fact))
        elif fact.kind is FactKind.OUTCOME:
            yield from _outcome(fact, sealed.seq, begun, ended)
    for run in history.runs:
        for record in run.steps:
            which = (run.id, record.step, record.attempt, record.undo)
            if which not in begun:
                detail = f"{record.key} is a step of the run, and no fact tells of its intent"
                yield Violation(ViolationKind.STEP_WITHOUT_INTENT, detail, run.id)
            elif (record.outcome is not None) != (which in ended):
                detail = f"{record.key} ended as {record.outcome}, but its facts say otherwise"
                yield Violation(ViolationKind.OUTCOME_WITHOUT_INTENT, detail, run.id)


def _outcome(fact: Fact, seq: int, begun: set[_Which], ended: set[_Which]) -> Iterator[Violation]:
    where = f"fact {seq}"
    if "attempt" not in fact.data:
        if str(fact.data.get("outcome")) not in _WITHOUT_INTENT:
            detail = f"{fact.run_id}: {fact.data.get('outcome')} of a step that was never intended"
            yield Violation(ViolationKind.OUTCOME_WITHOUT_INTENT, detail, where)
        return
    which = _which(fact)
    if which not in begun:
        detail = f"{fact.run_id}: step {which[1]} ended, and its intent is not written before"
        yield Violation(ViolationKind.OUTCOME_WITHOUT_INTENT, detail, where)
    if which in ended:
        detail = f"{fact.run_id}: step {which[1]} (attempt {which[2]}) ended a second time"
        yield Violation(ViolationKind.REPEATED_OUTCOME, detail, where)
    ended.add(which)


def _which(fact: Fact) -> _Which:
    data = fact.data
    return fact.run_id, int(data["step"]), int(data["attempt"]), bool(data["undo"])


def epochs(history: History) -> Iterator[Violation]:
    """Nothing is written under an epoch older than one already seen for the episode."""
    newest: dict[str, tuple[int, str]] = {}
    for sealed in history.facts:
        fact = sealed.fact
        epoch = fact.data.get("epoch")
        if epoch is None:
            continue
        owner = str(fact.data.get("owner", fact.data.get("to", "")))
        seen, by = newest.get(fact.episode_id, (0, ""))
        if epoch < seen:
            detail = f"{fact.kind} of {owner} under epoch {epoch}, after {by} had epoch {seen}"
            yield Violation(ViolationKind.STALE_EPOCH, detail, f"fact {sealed.seq}")
        elif epoch == seen and owner != by:
            detail = f"{fact.kind} of {owner} under epoch {epoch}, which is {by}'s"
            yield Violation(ViolationKind.STALE_EPOCH, detail, f"fact {sealed.seq}")
        else:
            newest[fact.episode_id] = (epoch, owner)


def budgets(history: History) -> Iterator[Violation]:
    """No bucket was ever overdrawn: each is filled and emptied again, intent by intent."""
    payments = list(_payments(history))
    slack = history.tolerance.clock
    tokens: dict[str, float] = {}
    last: dict[str, float] = {}
    for at, run, spend in payments:
        rate = spend.rate.count / spend.rate.per_seconds
        full = float(spend.rate.count)
        gained = max(0.0, at - last.get(spend.key, at)) * rate
        left = min(full, tokens.get(spend.key, full) + gained) - spend.cost
        tokens[spend.key], last[spend.key] = left, at
        if left < -(slack * rate) - 1e-6:
            detail = f"{spend.key} was overdrawn to {left:.3g} of {spend.rate.count}"
            yield Violation(ViolationKind.BUDGET_EXCEEDED, detail, run.id)
            tokens[spend.key] = 0.0


def _payments(history: History) -> Iterator[tuple[float, Run, Spend]]:
    """What each intent had to pay, in the order of the journal."""
    records = {
        (run.id, record.step, record.attempt, record.undo): (run, number)
        for run in history.runs
        for number, record in enumerate(run.steps)
    }
    for sealed in history.facts:
        fact = sealed.fact
        if fact.kind is not FactKind.INTENT:
            continue
        found = records.get(_which(fact))
        if found is None:
            continue  # said by `intents`, or a run that is no longer kept
        run, number = found
        record = run.steps[number]
        if record.undo or record.outcome is Outcome.DRY_RUN or _paid(run, number):
            continue
        for spend in spends(run.plan, run.plan.steps[record.step]):
            yield fact.at, run, spend


def _paid(run: Run, number: int) -> bool:
    """Whether an attempt that certainly had no effect has paid for this one."""
    record = run.steps[number]
    earlier = [r for r in run.steps[:number] if r.step == record.step and not r.undo]
    return bool(earlier) and earlier[-1].outcome is Outcome.FAILED


def overlaps(history: History) -> Iterator[Violation]:
    """No two runs act under the same lock at the same time."""
    acting: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for run in history.runs:
        real = [record for record in run.steps if record.outcome is not Outcome.DRY_RUN]
        if real:
            until = run.finished_at if run.finished_at is not None else history.at
            acting[str(run.plan.lock)].append((real[0].intent_at, until, run.id))
    for lock, spans in acting.items():
        spans.sort()
        ends, holder = float("-inf"), ""
        for since, until, run_id in spans:
            if since < ends - history.tolerance.clock:
                detail = f"acts on {lock} while {holder} is not done with it"
                yield Violation(ViolationKind.OVERLAP, detail, run_id)
            if until > ends:
                ends, holder = until, run_id


def rest(history: History) -> Iterator[Violation]:
    """Whatever is due is gone on with; in the calm everything whose alert is over is closed.

    Only a ladder between two rungs may wait a while for its silent alert to come back.
    """
    unfinished = {run.episode_id: run for run in history.runs if run.phase is not Phase.DONE}
    for episode in history.episodes:
        if episode.state is EpisodeState.CLOSED:
            if episode.id in unfinished:
                run = unfinished[episode.id]
                detail = f"is {run.phase}, and its episode is closed: nobody will go on with it"
                yield Violation(ViolationKind.STUCK, detail, run.id)
            continue
        late = history.at - max(episode.next_at, history.leases.get(episode.id, 0.0))
        waits = f"{episode.state} since {episode.updated_at:.3f}: {episode.detail}"
        if late > history.tolerance.stuck:
            detail = f"due for {late:.0f} s, and nobody goes on with it; {waits}"
            yield Violation(ViolationKind.STUCK, detail, episode.id)
        elif history.calm and not episode.firing and episode.reason is not Reason.NOT_FIRING:
            detail = f"its alert is over and it is not closed; {waits}"
            yield Violation(ViolationKind.STUCK, detail, episode.id)
        elif history.calm and (lost := _open(unfinished.get(episode.id))) is not None:
            detail = f"{lost.key} was begun and nobody has looked what came of it; {waits}"
            yield Violation(ViolationKind.STUCK, detail, episode.id)


def _open(run: Run | None) -> StepRecord | None:
    return run.open_step if run is not None else None
