"""A process that is killed anywhere loses nothing that the journal had acknowledged."""

import random
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

import pytest

from healer.store.chain import verify_chain
from tests.store.journals import a_journal

ROOT = Path(__file__).parents[2]
POINTS = [
    f"{when}:{what}#{nth}"
    for when in ("before", "after")
    for what in ("accept-commit", "fold", "claim", "intent", "outcome", "commit")
    for nth in (1, 9)
]
RANDOM_KILLS = 20


def killed(place: str, crash: str, name: str, after: float | None) -> dict[str, set[str]]:
    """Run the worker until it dies; returns what it had been told, by word."""
    told: dict[str, set[str]] = defaultdict(set)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.store.crash_worker", place, crash, name],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        timer = threading.Timer(60.0, process.terminate)  # a point never reached fails below
        timer.start()
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # cut by the kill
            word, what = line.split()
            if word == "open" and after is not None:
                threading.Timer(after, process.send_signal, [signal.SIGKILL]).start()
            told[word].add(what)
        timer.cancel()
    assert process.returncode == -signal.SIGKILL, f"{crash} was not reached"
    return told


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_no_kill_loses_what_was_acknowledged(engine: str, tmp_path: Path) -> None:
    """After SIGKILLs at every crash point and at random times, all acknowledged is kept."""
    journal = a_journal(engine, tmp_path)
    chance = random.Random(20260105)
    kills: list[tuple[str, float | None]] = [(point, None) for point in POINTS]
    kills += [("", chance.uniform(0.0, 0.3)) for _ in range(RANDOM_KILLS)]
    chance.shuffle(kills)
    everything: dict[str, set[str]] = defaultdict(set)
    for number, (crash, after) in enumerate(kills):
        told = killed(journal.place, crash, f"w{number}", after)
        journal.check(told)
        for word, ids in told.items():
            everything[word] |= ids
    journal.check(everything)
    assert min(len(everything[word]) for word in ("accepted", "intent", "outcome", "closed")) > 40
    store = await journal.open()
    assert await verify_chain(store) is None
    await store.close()
