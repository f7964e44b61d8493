"""Thousands of histories of the real engine, each from a seed: none may break a promise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from healer.testing.simulation import play
from tests.simulation.campaign import run
from tests.simulation.mutants import MUTANTS

HISTORIES = 2000
#: Seeds in which a planted bug must be found; the worst one needs about 150.
MOST = 800
#: Faults that a campaign must have had.
COVERED = (
    "process: killed", "journal: crash after", "journal: crash before", "journal: freeze",
    "journal: partition", "journal: refused", "journal: answer lost", "cluster: answer lost",
    "cluster: conflict", "cluster: partition", "cluster: stale", "cluster: freeze",
    "delivery: 503", "delivery: broken", "delivery: late", "delivery: truncated", "event: suspend",
    "event: jump", "event: blind", "event: pause", "event: peers apart", "event: deaf",
)  # fmt: skip
ROOT = Path(__file__).parents[2]
#: Seeds whose traces are compared between processes.
SAME = (3, 44, 136)


def digests(hash_seed: str) -> list[str]:
    """What a process of its own makes of the seeds."""
    code = (
        "from healer.testing.simulation import play\n"
        f"print(*(play(seed).digest for seed in {SAME!r}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_a_seed_is_the_same_history_in_every_process() -> None:
    """The same seed has the same trace again, and in processes that hash texts differently."""
    here = [play(seed).digest for seed in SAME]
    assert [play(seed).digest for seed in SAME] == here
    assert digests("1") == here
    assert digests("4711") == here
    assert len(set(here)) == len(SAME)


@pytest.mark.parametrize("seed", range(5))
def test_a_trace_changes_nothing(seed: int) -> None:
    """A history that is watched is the history that was played unwatched."""
    watched = play(seed, trace=True)
    assert watched.trace
    assert watched.digest == play(seed).digest


def test_two_thousand_histories_break_no_promise() -> None:
    """Of two thousand histories with faults at every await none loses, repeats or forgets."""
    summary = run(0, HISTORIES, processes=2)
    told = [
        f"python -m tests.simulation --seed {seed}: {wrong[0]}"
        for seed, wrong in sorted(summary.wrong.items())
    ]
    assert told == []
    assert summary.histories == HISTORIES
    assert summary.effects > HISTORIES / 2
    for kind in COVERED:
        assert summary.faults[kind] >= 10, f"{kind} was in {summary.faults[kind]} histories"


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug is found within a few hundred seeds, and the sound engine passes those."""
    summary = run(0, MOST, processes=2, mutant=name, until_wrong=True)
    assert summary.wrong, f"{name} was not found in {summary.histories} histories"
    for seed in summary.wrong:
        assert play(seed).wrong == ()
