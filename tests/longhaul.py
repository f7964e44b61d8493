"""`make chaos`: everything that takes long, one after the other, within a budget of minutes.

Each part prints its own table and ends with one JSON object; this one adds them up. A part that the
budget cuts short says how far it came; one that found no time at all is "not run", never a success.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
#: A part is not begun with less than this left, seconds.
_LEAST = 30.0


@dataclass(frozen=True)
class Part:
    """One long thing: a command, and its share of what is left when it begins."""

    name: str
    command: tuple[str, ...]
    share: float  #: of the remaining budget
    seconds_option: str = "--seconds"


PARTS = (
    Part("chaos experiments", ("-m", "tests.chaos"), 0.45),
    Part("simulator", ("-m", "tests.simulation", "--histories", "100000", "--processes", "2"), 0.3),
    Part("crashes, SQLite", ("-m", "tests.crash", "--kills", "10000", "--store", "sqlite"), 0.45),
    Part(
        "crashes, PostgreSQL", ("-m", "tests.crash", "--kills", "10000", "--store", "postgres"), 0.8
    ),
    Part("crashes, proof that they find", ("-m", "tests.crash.proof"), 1.0, ""),
    Part("flood", ("-m", "tests.faults", "flood", "--alerts", "100000"), 1.0, ""),
    Part("soak", ("-m", "tests.faults", "soak", "--minutes", "10"), 1.0, ""),
)


@dataclass
class Outcome:
    """What came of a part."""

    name: str
    ok: bool | None  #: None: there was no time for it
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


def play(part: Part, left: float) -> Outcome:
    """Run one part, its output shown as it comes."""
    command = [sys.executable, *part.command]
    if part.seconds_option and left != float("inf"):
        command += [part.seconds_option, str(round(left * part.share))]
    print(f"\n== {part.name}: {' '.join(command[1:])}", flush=True)
    began = time.monotonic()  # noqa: TID251
    last = ""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
        code = running.wait()
    try:
        figures = json.loads(last)
    except json.JSONDecodeError:
        figures = {"problem": f"the last line is not JSON: {last[:200]}"}
    if not isinstance(figures, dict):
        figures = {"problem": f"the last line is not an object: {last[:200]}"}
    ok = code == 0 and figures.get("ok") is True
    return Outcome(part.name, ok, time.monotonic() - began, figures)  # noqa: TID251


def main() -> int:
    """Play the parts, show what came of each; 0 only if all ran and all were well."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--minutes", type=float, help="the budget; without it everything runs out")
    parser.add_argument("--only", action="append", default=[], help="a part's name; repeatable")
    options = parser.parse_args()
    unknown = set(options.only) - {part.name for part in PARTS}
    if unknown:
        known = ", ".join(part.name for part in PARTS)
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {known}")
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")  # noqa: TID251
    outcomes = []
    for part in PARTS:
        if options.only and part.name not in options.only:
            continue
        left = end - time.monotonic()  # noqa: TID251
        outcomes.append(Outcome(part.name, None) if left < _LEAST else play(part, left))
    grid = Table("part", "result", "minutes", title="make chaos")
    words = {True: "ok", False: "FAILED", None: "not run: no time left"}
    for outcome in outcomes:
        grid.add_row(outcome.name, words[outcome.ok], f"{outcome.seconds / 60:.1f}")
    Console().print(grid)
    ok = all(outcome.ok for outcome in outcomes)
    parts = {o.name: {"ok": o.ok, "seconds": round(o.seconds), **o.figures} for o in outcomes}
    print(json.dumps({"parts": parts, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
