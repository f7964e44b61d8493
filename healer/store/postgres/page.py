"""Part of the journal in memory, while one transaction holds it locked and changes it.

Many changes are judged here one after the other, each as if it were alone, and what they leave is
written at once: the number of statements does not grow with the number of changes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from healer.domain.budget import Bucket, Short, take
from healer.domain.episode import Episode, EpisodeState
from healer.domain.facts import Approval
from healer.domain.run import Phase, Run, StepRecord
from healer.domain.storm import Flow
from healer.errors import Conflict
from healer.ports import BudgetShort, Change, Claim, LockTaken
from healer.store.chain import Kept, keep
from healer.store.rows import encode, encode_episode, encode_run
from healer.store.transition import fenced, merge


@dataclass(slots=True)
class EpisodeRow:
    """An episode and the claim on it."""

    episode: Episode
    owner: str
    epoch: int
    lease_until: float
    wake_at: float | None
    zone: str | None = None  #: None: as it was
    doc: str = ""  #: empty: as it was


@dataclass(slots=True)
class RunRow:
    """A run, where it is kept, and which of its steps are new."""

    run: Run  #: with its steps
    seq: int | None = None  #: None: new
    was_history: bool | None = None  #: None: new
    doc: str = ""  #: empty: as it was
    steps: dict[int, str] = field(default_factory=dict)  #: changed ones, by place

    @property
    def history(self) -> bool:
        """Whether it belongs among the finished ones."""
        return self.run.phase is Phase.DONE


@dataclass(slots=True)
class Page:
    """What a group of changes looks at, and what it leaves."""

    now: float
    episodes: dict[str, EpisodeRow]
    runs: dict[str, RunRow]
    locks: dict[str, str]  #: target to episode
    buckets: dict[str, Bucket]
    taken: dict[str, int] = field(default_factory=dict)  #: target to epoch
    freed: set[str] = field(default_factory=set)
    paid: set[str] = field(default_factory=set)
    messages: list[tuple[str, str, str, int]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    used: list[tuple[str, Approval, str]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    facts: list[Kept] = field(default_factory=list)

    def apply(self, held: Claim, change: Change) -> Claim:
        """Do one change; what raises changed nothing.

        Raises Fenced, LockTaken, BudgetShort, Conflict, and ValueError or TypeError for what cannot
        be kept at all.
        """
        id_ = held.episode.id
        if change.episode.id != id_:
            raise ValueError(f"the claim is on {id_}, the change on {change.episode.id}")
        row = self.episodes.get(id_)
        if row is None or (row.owner, row.epoch) != (held.owner, held.epoch):
            raise fenced(held, row.owner if row else "", row.epoch if row else 0)
        after = self._episode(row, change)
        frees = self._frees(id_, change)
        lock = self._lock(id_, change, frees)
        paid = self._pay(change)
        runs = self._runs(held, change)
        messages = [(m.id, m.channel, encode(m.body), m.attempts) for m in change.messages]
        facts = [keep(fact) for fact in change.facts]

        self.episodes[id_] = after
        for target in frees:
            del self.locks[target]
            self.taken.pop(target, None)
            self.freed.add(target)
        if lock:
            self.locks[lock] = id_
            self.taken[lock] = held.epoch
            self.freed.discard(lock)
        self.buckets.update(paid)
        self.paid.update(paid)
        self.runs.update(runs)
        self.messages += messages
        self.facts += facts
        self._rest(held, change)
        run = self._result(id_, change)
        return Claim(after.episode, run, after.owner, after.epoch, after.lease_until)

    def _episode(self, row: EpisodeRow, change: Change) -> EpisodeRow:
        episode = merge(change.episode, row.episode)
        lease_until = row.lease_until
        if change.lease_seconds:
            lease_until = max(lease_until, self.now + change.lease_seconds)
        if change.release:
            lease_until = 0.0
            if row.wake_at is not None and row.wake_at < episode.next_at:
                episode = replace(episode, next_at=row.wake_at)
        return EpisodeRow(
            episode,
            "" if change.release else row.owner,
            row.epoch,
            lease_until,
            row.wake_at,
            change.run.plan.zone if change.run else row.zone,
            encode_episode(episode),
        )

    def _frees(self, id_: str, change: Change) -> list[str]:
        # A closed episode is never claimed again, so nobody else could free what it holds.
        if change.unlock or change.episode.state is EpisodeState.CLOSED:
            return [target for target, holder in self.locks.items() if holder == id_]
        return []

    def _lock(self, id_: str, change: Change, frees: Iterable[str]) -> str:
        if change.lock is None:
            return ""
        target = str(change.lock)
        holder = self.locks.get(target)
        if holder not in {None, id_} and target not in frees:
            raise LockTaken(str(holder))
        return target

    def _pay(self, change: Change) -> dict[str, Bucket]:
        paid: dict[str, Bucket] = {}
        for spend in change.spends:
            left = take(paid.get(spend.key) or self.buckets.get(spend.key), spend, self.now)
            if isinstance(left, Short):
                raise BudgetShort(spend.key, left.until)
            paid[spend.key] = left
        return paid

    def _runs(self, held: Claim, change: Change) -> dict[str, RunRow]:
        changed: dict[str, RunRow] = {}
        if change.run is not None:
            changed[change.run.id] = self._run(change.run)
        if change.step is not None:
            run_id = (change.run or held.run).id if change.run or held.run else ""  # type: ignore[union-attr]
            run_id = run_id or change.episode.run_id
            row = changed.get(run_id) or self.runs.get(run_id)
            if row is None:
                raise Conflict(f"{run_id or 'a run without a name'}: there is no run for this step")
            changed[run_id] = _with_step(row, change.step)
        return changed

    def _run(self, run: Run) -> RunRow:
        known = self.runs.get(run.id)
        if known is not None and known.run.episode_id != run.episode_id:
            raise Conflict(f"run {run.id} belongs to another episode than {run.episode_id}")
        if run.phase is not Phase.DONE:
            other = self._unfinished(run.episode_id)
            if other is not None and other.id != run.id:
                raise Conflict(f"{run.episode_id} has an unfinished run already, {other.id}")
        if known is None:
            return RunRow(replace(run, steps=()), doc=encode_run(run))
        return replace(
            known,
            run=replace(run, steps=known.run.steps),
            doc=encode_run(run),
            steps=dict(known.steps),
        )

    def _unfinished(self, episode_id: str) -> Run | None:
        for row in self.runs.values():
            if row.run.episode_id == episode_id and not row.history:
                return row.run
        return None

    def _result(self, id_: str, change: Change) -> Run | None:
        if change.run is not None:
            return self.runs[change.run.id].run
        return self._unfinished(id_)

    def _rest(self, held: Claim, change: Change) -> None:
        id_ = held.episode.id
        if change.approval is not None:
            run = change.run or held.run
            self.used.append((id_, change.approval, run.id if run else change.episode.run_id))
        if change.ask:
            self.asked.append((id_, change.ask))
        if change.flow is not None:
            self.flows[change.flow[0]] = change.flow[1]
        if change.playbook_text is not None:
            self.texts[change.playbook_text[0]] = change.playbook_text[1]


def _with_step(row: RunRow, step: StepRecord) -> RunRow:
    """The row with the intent or the outcome of a step; raises Conflict for an intent whose
    outcome is known: the effect is not to be made twice."""
    steps = list(row.run.steps)
    key = (step.step, step.attempt, step.undo)
    for place, known in enumerate(steps):
        if (known.step, known.attempt, known.undo) == key:
            if known.outcome is not None and step.outcome is None:
                raise Conflict(
                    f"step {step.key} of {row.run.id} has its outcome already; a new attempt needs "
                    "a new number"
                )
            steps[place] = step
            break
    else:
        place = len(steps)
        steps.append(step)
    return replace(
        row, run=replace(row.run, steps=tuple(steps)), steps={**row.steps, place: encode(step)}
    )


def names(jobs: Iterable[tuple[Claim, Change]]) -> Mapping[str, list[str]]:
    """What a group of changes looks at, by kind, each once and in order."""
    episodes: set[str] = set()
    targets: set[str] = set()
    keys: set[str] = set()
    runs: set[str] = set()
    for held, change in jobs:
        episodes.add(held.episode.id)
        if change.lock is not None:
            targets.add(str(change.lock))
        keys.update(spend.key for spend in change.spends)
        runs.update(run.id for run in (change.run, held.run) if run is not None)
        if change.run is not None:
            episodes.add(change.run.episode_id)
        if change.episode.run_id:
            runs.add(change.episode.run_id)
    return {
        "episodes": sorted(episodes),
        "targets": sorted(targets),
        "keys": sorted(keys),
        "runs": sorted(runs),
    }
