"""`make test`: runs every ring of tests, shows counts per ring, coverage and time.

Exits with 0 only if everything passed and, unless `--fast`, nothing in the acceptance rings was
skipped.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
#: In order from the innermost ring; what is not named here is run and shown too.
ORDER = (
    "domain", "scalers", "apiserver", "playbooks", "actions", "probes", "engine", "store",
    "clients", "web", "cli", "contract", "history", "simulation", "faults", "crash", "replicas",
    "docs", "deploy", "chaos", "acceptance",
)  # fmt: skip

#: Long and sensitive to time: run without coverage, which makes them twice as slow.
UNCOVERED = ("simulation", "faults", "crash", "replicas", "chaos")
#: Where the junit reports stay, for `python -m tests.faults table`.
REPORTS = ROOT / "reports" / "tests"


@dataclass
class Ring:
    """Counts of one ring."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    reasons: set[str] = field(default_factory=set)


def pytest(title: str, arguments: list[str], report: Path, *, covered: bool = True) -> int:
    """One pytest run; the exit code, with "no tests" counting as success."""
    print(f"\n== {title}", flush=True)
    coverage = ["-m", "coverage", "run"] if covered else []
    command = [
        sys.executable, *coverage, "-m", "pytest", "-q", f"--junitxml={report}", *arguments,
    ]  # fmt: skip
    code = subprocess.run(command, cwd=ROOT, check=False, env=os.environ).returncode
    return 0 if code == 5 else code


def count(report: Path, rings: dict[str, Ring]) -> None:
    """Add a junit report's cases to their rings."""
    if not report.exists():
        return
    for case in ElementTree.parse(report).iter("testcase"):
        parts = case.get("classname", "").split(".")
        ring = rings[parts[1] if len(parts) > 1 and parts[0] == "tests" else parts[0]]
        ring.seconds += float(case.get("time", "0"))
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            ring.failed += 1
        elif skipped is not None:
            ring.skipped += 1
            ring.reasons.add(skipped.get("message", ""))
        else:
            ring.passed += 1


def main() -> int:
    """Run, count, show."""
    parser = argparse.ArgumentParser(prog="make test")
    parser.add_argument("--fast", action="store_true", help="only the rings without a cluster")
    options = parser.parse_args()
    began = time.monotonic()  # noqa: TID251
    rings: dict[str, Ring] = defaultdict(Ring)
    codes = []
    REPORTS.mkdir(parents=True, exist_ok=True)
    apart = [f"tests/{name}" for name in UNCOVERED]
    runs = [
        ("rings", ["-m", "not cluster", *(f"--ignore={folder}" for folder in apart)], True),
        ("rings of faults", ["-m", "not cluster", *apart], False),
        ("rings on the real cluster", ["-m", "cluster", "-p", "no:randomly"], True),
    ]
    for number, (title, arguments, covered) in enumerate(runs[:2] if options.fast else runs):
        report = REPORTS / f"{number}.xml"
        report.unlink(missing_ok=True)
        codes.append(pytest(title, arguments, report, covered=covered))
        count(report, rings)
    for command in (["combine", "-q"], ["report", "--format=total"]):
        done = subprocess.run(
            [sys.executable, "-m", "coverage", *command], cwd=ROOT, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
    show(rings, done.stdout.strip(), time.monotonic() - began)  # noqa: TID251
    skipped = rings["acceptance"].skipped and not options.fast
    if skipped:
        print("acceptance tests were skipped: " + "; ".join(rings["acceptance"].reasons))
    return 1 if any(codes) or skipped else 0


def show(rings: dict[str, Ring], coverage: str, seconds: float) -> None:
    """The table, and one closing line for machines."""
    table = Table(title="make test")
    for name in ("ring", "passed", "failed", "skipped", "seconds"):
        table.add_column(name, justify="left" if name == "ring" else "right")
    ordered = sorted(rings, key=lambda name: (ORDER.index(name) if name in ORDER else 99, name))
    for name in ordered:
        ring = rings[name]
        if ring.passed + ring.failed + ring.skipped:
            table.add_row(
                name, str(ring.passed), str(ring.failed), str(ring.skipped), f"{ring.seconds:.1f}"
            )
    Console(width=100).print(table)
    for name in ordered:
        for reason in sorted(rings[name].reasons):
            print(f"skipped in {name}: {reason}")
    total = [
        sum(getattr(r, key) for r in rings.values()) for key in ("passed", "failed", "skipped")
    ]
    print(f"coverage of healer and scalers: {coverage or '?'} %; whole run {seconds:.0f} s")
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")


if __name__ == "__main__":
    sys.exit(main())
