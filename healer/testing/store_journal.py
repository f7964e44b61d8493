"""What an in-memory journal holds: the tables of the real engines as plain Python values.

Values are kept as they are, because domain values are frozen; what came from outside as a free
mapping (a step's evidence, a fact's data, a message) is kept as the JSON that a real journal keeps.
"""

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from healer.domain.alert import Alert, Rejected
from healer.domain.budget import Bucket
from healer.domain.episode import Episode, EpisodeState
from healer.domain.facts import Approval
from healer.domain.journal import GENESIS, Fact, Sealed, seal
from healer.domain.outcome import Outcome
from healer.domain.pause import Pause
from healer.domain.run import Phase, Run, StepRecord
from healer.domain.storm import Flow
from healer.errors import NotFound
from healer.kernel.ids import canonical_json

_TRACES = frozenset({None, Outcome.APPLIED, Outcome.UNKNOWN})


@dataclass(slots=True)
class Row:
    """An episode with the claim on it."""

    seq: int
    episode: Episode
    zone: str = ""
    owner: str = ""
    epoch: int = 0
    lease_until: float = 0.0
    wake_at: float | None = None  #: something happened while it was claimed

    @property
    def due_at(self) -> float:
        """When it may be claimed: its own time, or the end of the lease on it."""
        return self.lease_until if self.owner else self.episode.next_at

    @property
    def order(self) -> tuple[int, float, str]:
        """Who goes first: severity, then age."""
        return -self.episode.severity_rank, self.episode.opened_at, self.episode.id


@dataclass(slots=True)
class RunRow:
    """A run with its steps, in the order of their intents."""

    seq: int
    run: Run
    steps: dict[tuple[int, int, bool], StepRecord] = field(default_factory=dict)

    @property
    def whole(self) -> Run:
        """The run with its steps."""
        return replace(self.run, steps=tuple(self.steps.values()))

    @property
    def acted(self) -> bool:
        """Whether any step may have changed the cluster."""
        return any(step.outcome in _TRACES for step in self.steps.values())


@dataclass(slots=True)
class MessageRow:
    """A message and when it is tried next."""

    channel: str
    body: Mapping[str, Any]
    attempts: int
    due_at: float = 0.0
    done: bool = False


@dataclass(slots=True)
class Question:
    """A plan that awaits a person's answer, or has it."""

    seq: int
    asked_at: float
    answer: Approval | None = None
    run_id: str = ""  #: the run that used it


@dataclass(slots=True)
class Received:
    """An accepted alert in its place."""

    at: float
    alert: Alert
    event_id: str


class MemoryJournal:
    """What would be on disk. It outlives every `MemoryStore` opened on it."""

    def __init__(self) -> None:
        self.known: set[str] = set()  #: ids of events
        self.inbox: deque[Received] = deque()
        self.folded: dict[bool, deque[Received]] = {True: deque(), False: deque()}  #: by polled
        self.rejected: dict[str, Rejected] = {}
        self.episodes: dict[str, Row] = {}
        self.active: dict[str, Row] = {}  #: those that are not closed
        self.latest: dict[tuple[str, str], Row] = {}  #: of an alert, by source and fingerprint
        self.runs: dict[str, RunRow] = {}
        self.runs_of: dict[str, list[RunRow]] = {}  #: by episode
        self.unfinished: dict[str, RunRow] = {}  #: by episode
        self.locks: dict[str, str] = {}  #: target to episode
        self.buckets: dict[str, Bucket] = {}
        self.questions: dict[tuple[str, str], Question] = {}  #: by episode and plan digest
        self.pauses: dict[str, Pause] = {}
        self.flows: dict[str, Flow] = {}
        self.breakers: dict[str, float] = {}
        self.outbox: dict[str, MessageRow] = {}
        self.undelivered: dict[str, MessageRow] = {}
        self.texts: dict[str, str] = {}
        self.changes = 0  #: grows with every write, so that a watcher sees that there was one
        self._facts: list[tuple[Fact, str]] = []
        self._sealed: list[Sealed] = []
        self._facts_of: dict[str, list[int]] = {}  #: numbers of an episode's facts

    # ------------------------------------------------------------------ facts

    def append(self, facts: Iterable[tuple[Fact, str]]) -> None:
        """Put facts, with the texts `written` made of their data, at the end of the chain."""
        for fact, text in facts:
            self._facts.append((fact, text))
            if fact.episode_id:
                self._facts_of.setdefault(fact.episode_id, []).append(len(self._facts))

    def facts(self, episode_id: str, after: int, limit: int) -> list[Sealed]:
        """Facts in order; of one episode when named."""
        self._seal()
        if not episode_id:
            return self._sealed[after : after + limit]
        numbers = [n for n in self._facts_of.get(episode_id, ()) if n > after]
        return [self._sealed[number - 1] for number in numbers[:limit]]

    def last_fact(self) -> Sealed | None:
        """The head of the chain."""
        self._seal()
        return self._sealed[-1] if self._sealed else None

    def _seal(self) -> None:
        """Facts are sealed when somebody looks: the seal depends on nothing but what is kept."""
        previous = self._sealed[-1].hash if self._sealed else GENESIS
        for seq in range(len(self._sealed) + 1, len(self._facts) + 1):
            fact, text = self._facts[seq - 1]
            kept = replace(fact, data=json.loads(text))
            hashed = seal(previous, seq, kept)
            self._sealed.append(Sealed(seq, kept, previous, hashed))
            previous = hashed

    # ------------------------------------------------------------------ rows

    def next_seq(self) -> int:
        """A number above all given so far, for rows that are listed in the order they came."""
        self.changes += 1
        return self.changes

    def put(self, row: Row, episode: Episode) -> None:
        """The episode is this now."""
        row.episode = episode
        if episode.state is EpisodeState.CLOSED:
            self.active.pop(episode.id, None)
        else:
            self.active[episode.id] = row

    def add(self, episode: Episode) -> Row:
        """A new episode; it becomes its alert's latest."""
        row = Row(self.next_seq(), episode)
        self.episodes[episode.id] = self.active[episode.id] = row
        self.latest[episode.source, episode.fingerprint] = row
        return row

    def put_run(self, run: Run) -> None:
        """Insert or replace a run; its steps stay as they are."""
        row = self.runs.get(run.id)
        bare = replace(run, steps=())
        if row is None:
            row = self.runs[run.id] = RunRow(self.next_seq(), bare)
            self.runs_of.setdefault(run.episode_id, []).append(row)
        row.run = bare
        if run.phase is not Phase.DONE:
            self.unfinished[run.episode_id] = row
        elif self.unfinished.get(run.episode_id) is row:
            del self.unfinished[run.episode_id]

    def unfinished_run(self, episode_id: str) -> Run | None:
        """The episode's unfinished run, with steps."""
        row = self.unfinished.get(episode_id)
        return row.whole if row is not None else None

    def free_locks(self, episode_id: str) -> None:
        """Give back every lock the episode holds."""
        for target in [t for t, holder in self.locks.items() if holder == episode_id]:
            del self.locks[target]

    def asked(self, episode_id: str) -> list[tuple[str, Question]]:
        """What was asked about an episode, by plan digest, the newest first."""
        found = [(key[1], q) for key, q in self.questions.items() if key[0] == episode_id]
        return sorted(found, key=lambda each: (-each[1].asked_at, -each[1].seq))

    def row(self, episode_id: str) -> Row:
        """The episode's row. Raises NotFound."""
        row = self.episodes.get(episode_id)
        if row is None:
            raise NotFound(f"there is no episode {episode_id}")
        return row


def written(facts: Iterable[Fact]) -> list[tuple[Fact, str]]:
    """Facts with their data as JSON text. Raises ValueError when one holds a NaN."""
    return [(fact, canonical_json(dict(fact.data)) if fact.data else "{}") for fact in facts]


def plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """What a journal of JSON gives back for `value`. Raises TypeError for what JSON cannot hold."""
    if not value:
        return {}
    kept: dict[str, Any] = json.loads(json.dumps(value, default=_mapping))
    return kept


def _mapping(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be kept in the journal; make it plain JSON")


def finite(episode: Episode) -> Episode:
    """The episode. JSON has no infinity, so `next_at` must be finite (ValueError)."""
    if not isfinite(episode.next_at):
        raise ValueError(f"{episode.id}: next_at must be finite, got {episode.next_at}")
    return episode
