"""A short trial of what `make chaos-crash` does for an hour.

That it finds a broken healer is shown by `python -m tests.crash.proof`, a part of `make chaos`.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Trials at the same time, because most of each is waiting: store and kills.
TRIALS = {"sqlite-1": 150, "sqlite-2": 150, "postgres": 30}


def begin(folder: Path, name: str) -> subprocess.Popen[str]:
    """Start one; what it told is read when it has ended."""
    folder.mkdir(exist_ok=True)
    with (folder / "told").open("w") as told, (folder / "errors").open("w") as errors:
        return subprocess.Popen(
            [
                sys.executable, "-m", "tests.crash", "--resume", str(folder),
                "--kills", str(TRIALS[name]), "--store", name.partition("-")[0],
            ],
            cwd=ROOT, stdout=told, stderr=errors, text=True,
        )  # fmt: skip


def end(folder: Path, process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the last line of one says."""
    code = process.wait(540)
    told = (folder / "told").read_text()
    assert told, (folder / "errors").read_text()
    said: dict[str, Any] = json.loads(told.splitlines()[-1])
    assert (code == 0) is said["ok"], told
    said["told"] = told
    return said


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """All of them, each with a control plane of its own."""
    base = tmp_path_factory.mktemp("trials")
    running = {name: begin(base / name, name) for name in TRIALS}
    try:
        said = {name: end(base / name, process) for name, process in running.items()}
        again = end(base / "sqlite-1", begin(base / "sqlite-1", "sqlite-1"))
        said["sqlite-1, again"] = again
        yield said
    finally:
        for process in running.values():
            if process.poll() is None:
                process.terminate()
                process.wait(60)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_kill_loses_or_repeats_anything_on_sqlite(trials: dict[str, dict[str, Any]]) -> None:
    """After 300 SIGKILLs nothing accepted is missing, nothing was done twice, nothing is stuck."""
    both = [trials["sqlite-1"], trials["sqlite-2"]]
    for said in both:
        assert said["ok"], said["told"]
        assert (said["kills"], said["alerts_lost"], said["stuck"]) == (150, 0, 0)
        assert said["effects_per_at_most_once_step"] == 1
    for what in ("kills_at_points", "alerts_accepted", "effects"):
        assert sum(said[what] for said in both) > 0, what
    again = trials["sqlite-1, again"]  # there was no more to do
    assert (again["kills"], again["seconds"]) == (150, both[0]["seconds"])


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_kill_loses_or_repeats_anything_on_postgres(trials: dict[str, dict[str, Any]]) -> None:
    """The same holds of two replicas on one PostgreSQL, whichever of them is killed."""
    said = trials["postgres"]
    assert said["ok"], said["told"]
    assert (said["kills"], said["alerts_lost"], said["stuck"]) == (30, 0, 0)
    assert min(said["effects"], said["kills_at_points"]) > 0
