"""Thousands of histories of the real engine, each from a seed: none may break a promise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from healer.testing.simulation import play

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
