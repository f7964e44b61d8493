"""Many histories: on a few processes, with progress, a table, and what was found."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from healer.kernel.clock import SystemClock
from healer.testing.simulation import Played, play
from tests.simulation.mutants import MUTANTS

#: Histories that one process plays before it tells of them.
BATCH = 20


@dataclass
class Summary:
    """What many histories came to."""

    histories: int = 0
    seconds: float = 0.0
    virtual_hours: float = 0.0
    events: int = 0
    effects: int = 0
    episodes: int = 0
    facts: int = 0
    faults: Counter[str] = field(default_factory=Counter)  #: histories that had each fault
    wrong: dict[int, tuple[str, ...]] = field(default_factory=dict)  #: by seed

    def add(self, played: Played) -> None:
        """One more."""
        self.histories += 1
        self.virtual_hours += played.seconds / 3600
        self.events += played.events
        self.effects += played.effects
        self.episodes += played.episodes
        self.facts += played.facts
        self.faults.update(played.faults.keys())
        if played.wrong:
            self.wrong[played.seed] = played.wrong

    @property
    def per_minute(self) -> float:
        """Histories a minute of wall time."""
        return self.histories / self.seconds * 60 if self.seconds else 0.0


def run(
    first: int,
    histories: int,
    *,
    processes: int = 1,
    seconds: float = 0.0,
    mutant: str = "",
    until_wrong: bool = False,
    tell: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Play `histories` seeds from `first` on, at most for `seconds` (0: as long as it takes).

    `until_wrong` ends it with the first that broke a promise.
    """
    summary = Summary()
    clock = SystemClock()
    began = clock.monotonic()
    for played in _played(first, histories, processes, mutant):
        summary.add(played)
        summary.seconds = clock.monotonic() - began
        if summary.histories % BATCH == 0:
            tell(summary)
        if (seconds and summary.seconds >= seconds) or (until_wrong and summary.wrong):
            break
    return summary


def _played(first: int, histories: int, processes: int, mutant: str) -> Iterator[Played]:
    seeds = range(first, first + histories)
    one = partial(_one, mutant)
    if processes <= 1:
        yield from map(one, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(one, seeds, chunksize=BATCH)


def _one(mutant: str, seed: int) -> Played:
    return play(seed, mutation=MUTANTS[mutant] if mutant else None)
