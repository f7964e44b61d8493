"""Every benchmark runs, and ends with one line of JSON: its figures, its bars and whether all are
met. The figures themselves say nothing here: a run of a second or two measures nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from bench.report import quantile, spread, verdict
from tests.demo.stack import ROOT


def last_line(module: str, *arguments: str) -> dict[str, Any]:
    """What a benchmark says at its end, having checked that its exit code says the same."""
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{module}", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode in {0, 1}, done.stderr
    assert done.stdout, done.stderr
    last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert last["ok"] is (done.returncode == 0)
    assert last["bars"].keys() <= last["figures"].keys(), last["problems"]
    assert last["bars"].keys() == last["met"].keys()
    # A busy machine makes a healer refuse some: its 503s are figures too.
    assert not [problem for problem in last["problems"] if "refus" not in problem]
    return last


def test_ingest() -> None:
    """The benchmark of the webhook ends with figures for each of its bars."""
    figures = last_line("ingest", "--seconds", "0.2")["figures"]
    assert figures["acknowledged_and_kept"] > 5_000
    assert {"200"} <= figures["answers"].keys() <= {"200", "503"}


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_react() -> None:
    """The benchmark of reacting patches every Deployment once and tells how long that took."""
    figures = last_line("react", "--seconds", "1", "--rate", "5")["figures"]
    assert figures["patched"] == figures["episodes"] == 5
    assert 0 < figures["patch_p50_ms"] <= figures["patch_p99_ms"]
    assert figures["folded_to_intent_p50_ms"] < figures["patch_p99_ms"]


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_idle() -> None:
    """The benchmark of idling loads every shipped playbook and tells what the daemon used."""
    figures = last_line("idle", "--seconds", "2", "--settle", "0")["figures"]
    assert figures["playbooks"] == len(list((ROOT / "playbooks").glob("*.yaml")))
    assert figures["wake_ups_per_second"] > 0
    assert 20 < figures["rss_mebibytes"] <= figures["peak_rss_mebibytes"]


def test_a_missed_bar_is_told() -> None:
    """A figure beyond its bar, or no figure at all, is a bar missed; so is any other problem."""
    bars = {"slow_ms": (10.0, True), "rate": (100.0, False)}
    assert verdict({"slow_ms": 10.0, "rate": 100.0}, bars) == (
        {"slow_ms": True, "rate": True},
        True,
    )
    assert verdict({"slow_ms": 10.1, "rate": 100.0}, bars)[0] == {"slow_ms": False, "rate": True}
    assert verdict({"slow_ms": 1.0}, bars) == ({"slow_ms": True, "rate": False}, False)
    assert verdict({"slow_ms": 10.0, "rate": 100.0}, bars, ["lost one"])[1] is False


def test_quantiles() -> None:
    """A quantile in milliseconds is the value below which that share of the seconds lies."""
    spent = [number / 1000 for number in range(100, 0, -1)]
    assert quantile(spent, 0.5) == pytest.approx(51)
    assert spread("x", spent) == {"x_p50_ms": 51.0, "x_p90_ms": 91.0, "x_p99_ms": 100.0}
    assert spread("x", []) == {}
