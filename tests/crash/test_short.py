"""A short trial of what `make chaos-crash` does for an hour, and proof that it can fail."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def trial(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run one; what its last line says."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", "--resume", str(folder), *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.stdout, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode == 0) is said["ok"], done.stdout
    said["told"] = done.stdout
    return said


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_kill_loses_or_repeats_anything_on_sqlite(tmp_path: Path) -> None:
    """After 300 SIGKILLs nothing accepted is missing, nothing was done twice, nothing is stuck."""
    said = trial(tmp_path, "--kills", "300", "--store", "sqlite")
    assert said["ok"], said["told"]
    assert (said["kills"], said["alerts_lost"], said["stuck"]) == (300, 0, 0)
    assert said["effects_per_at_most_once_step"] == 1
    assert min(said["kills_at_points"], said["alerts_accepted"], said["effects"]) > 20
    again = trial(tmp_path, "--kills", "300", "--store", "sqlite")
    assert (again["kills"], again["seconds"]) == (300, said["seconds"])  # there was no more to do


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_kill_loses_or_repeats_anything_on_postgres(tmp_path: Path) -> None:
    """The same holds of two replicas on one PostgreSQL, whichever of them is killed."""
    said = trial(tmp_path, "--kills", "60", "--store", "postgres")
    assert said["ok"], said["told"]
    assert (said["kills"], said["alerts_lost"], said["stuck"]) == (60, 0, 0)
    assert said["effects"] > 0


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mutant", "found"),
    [
        ("answers_before_the_commit", "lost_alert"),
        ("repeats_what_is_unknown", "repeated_effect"),
    ],
)
def test_a_broken_healer_is_found_out(tmp_path: Path, mutant: str, found: str) -> None:
    """A healer that breaks one promise on purpose fails the trial, and for that promise."""
    said = trial(tmp_path, "--kills", "40", "--seed", "mutant", "--mutant", mutant)
    assert not said["ok"]
    assert f"broken promises: {found}" in said["told"], said["told"]
