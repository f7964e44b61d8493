"""A process that is killed anywhere loses nothing that the journal had acknowledged."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest

from healer.kernel.clock import SystemClock
from healer.store.chain import verify_chain
from healer.store.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
POINTS = [
    f"{when}:{what}#{nth}"
    for when in ("before", "after")
    for what in ("accept-commit", "fold", "claim", "intent", "outcome", "commit")
    for nth in (1, 9)
]
RANDOM_KILLS = 20


def killed(path: Path, crash: str, name: str, after: float | None) -> dict[str, set[str]]:
    """Run the worker until it dies; returns what it had been told, by word."""
    told: dict[str, set[str]] = defaultdict(set)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.store.crash_worker", str(path), crash, name],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        timer = threading.Timer(20.0, process.terminate)  # a point never reached fails below
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


def check(path: Path, told: dict[str, set[str]]) -> None:
    """All that was told is in the file, and the file is whole."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        events = {row[0].hex() for row in connection.execute("SELECT id FROM event")}
        assert told["accepted"] <= events
        steps = {}
        for doc, outcome in connection.execute("SELECT doc, outcome FROM step"):
            steps[json.loads(doc)["key"]] = outcome
        assert told["intent"] <= steps.keys()
        assert told["outcome"] <= {key for key, outcome in steps.items() if outcome == "applied"}
        closed = "SELECT id FROM episode WHERE state = 'closed'"
        assert told["closed"] <= {row[0] for row in connection.execute(closed)}
        intents = "SELECT data FROM fact WHERE kind = 'intent'"
        facts = [json.loads(row[0])["key"] for row in connection.execute(intents)]
        assert set(facts) == steps.keys()  # both or neither: they were one transaction
        locked = "SELECT episode_id FROM target_lock WHERE episode_id IN (" + closed + ")"
        assert connection.execute(locked).fetchall() == []


@pytest.mark.slow
async def test_no_kill_loses_what_was_acknowledged(tmp_path: Path) -> None:
    """After SIGKILLs at every crash point and at random times, all acknowledged is kept."""
    path = tmp_path / "journal.db"
    chance = random.Random(20260105)
    kills: list[tuple[str, float | None]] = [(point, None) for point in POINTS]
    kills += [("", chance.uniform(0.0, 0.3)) for _ in range(RANDOM_KILLS)]
    chance.shuffle(kills)
    everything: dict[str, set[str]] = defaultdict(set)
    for number, (crash, after) in enumerate(kills):
        told = killed(path, crash, f"w{number}", after)
        check(path, told)
        for word, ids in told.items():
            everything[word] |= ids
    check(path, everything)
    assert min(len(everything[word]) for word in ("accepted", "intent", "outcome", "closed")) > 40
    store = await SqliteStore.open(path, clock=SystemClock())
    assert await verify_chain(store) is None
    await store.close()
