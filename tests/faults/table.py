"""`python -m tests.faults table REPORT…`: the fault matrix from junit reports of the rings.

Every fault of the matrix, the tests that are named after it, what they came to and their worst
figure, as `docs/faults.md`. Tests are found by name (`test_t2_…`, `test_r4_…`), so the table shows
what there is and not what was planned.
"""

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
#: Identity and what goes wrong, in the order of the table.
FAULTS: Mapping[str, str] = {
    "T1": "SIGKILL at every place of the journal and at any time",
    "T2": "the n-th call of the journal, the API server, HTTP, Prometheus or a notifier fails",
    "T3": "the journal's disk is full",
    "T4": "the journal is locked, its disk slow, its server restarted or failed over",
    "T5": "the wall clock jumps an hour or a day, either way; the process is suspended",
    "T6": "the API server answers 429, 5xx, 409, 401, late, or hangs",
    "T7": "a watch is cut, is told 410, falls silent, or brings events in another order",
    "T8": "Prometheus is away, slow, empty, stale, huge, or says NaN",
    "T9": "10,000 and 100,000 alerts at once, from three Alertmanagers",
    "T10": "hostile and broken payloads",
    "T11": "two replicas, parted from journal or API server; a paused leader wakes",
    "T12": "a remedy that does not help, flapping, an alert that our own action causes",
    "T13": "an upgrade, forward and back, with runs in flight",
    "T14": "an hour under load: does anything leak?",
    "T15": "code that blocks the event loop",
    "T16": "backup and restore under load",
    "R1": "SIGKILL beside duplicated, reordered, delayed, truncated and stale deliveries",
    "R2": "the journal cannot be written: every answer in time, nothing lost",
    "R3": "an Alertmanager that keeps its real rules of retrying and giving up",
    "R4": "60 % of a zone's pods fail together",
    "R5": "blind: Prometheus, API server, watches; and sight returns",
    "R6": "verification of slow alerts, without samples, of healthy pods under real alerts",
    "R7": "a way to an action that no guard allowed; an empty selector",
    "R8": "rights that are missing, rights that nobody needs",
    "R9": "two replicas, the lease lost in the middle of an action, a stopped process",
    "R10": "a journal of six hours ago",
}
#: Where tests of a fault are that are named after what they show.
ELSEWHERE: Mapping[str, Sequence[str]] = {
    "T1": ("tests/store/test_crash.py", "tests/acceptance/test_healing.py"),
    "T2": ("tests/engine/test_lost_answers.py", "tests/engine/test_schedules.py"),
    "T3": ("tests/store/test_sqlite_trouble.py",),
    "T4": ("tests/store/test_sqlite_trouble.py",),
    "T6": ("tests/clients/test_kube_faults.py",),
    "T7": ("tests/clients/test_kube_faults.py", "tests/engine/test_sources.py"),
    "T8": ("tests/clients/test_prometheus.py", "tests/contract/test_metrics_contract.py"),
    "T10": ("tests/web/test_hostile.py", "tests/security/test_hostile_text.py"),
    "T12": ("tests/engine/test_adversity.py",),
    "T15": ("tests/engine/test_stall_detector.py",),
    "R1": ("tests/store/test_crash.py", "tests/engine/test_schedules.py"),
    "R2": ("tests/faults/test_t03_disk_full.py", "tests/faults/test_t04_journal_stalls.py"),
    "R3": ("tests/web/test_answer_table.py", "tests/engine/test_sources.py"),
    "R5": ("tests/engine/test_healing.py", "tests/clients/test_prometheus.py"),
    "R8": ("tests/contract/test_cluster_rights.py", "tests/deploy/test_rights.py"),
    "R9": ("tests/engine/test_worker.py", "tests/contract/test_store_contract.py"),
}
_NAMED = re.compile(r"^(?:async )?def test_([tr])(\d+)_", re.MULTILINE)
_CASE = re.compile(r"^test_([tr])(\d+)_")
#: Longer figures and more of them do not fit into a row.
_FIGURES = 4


@dataclass
class Ran:
    """What the tests of one fault came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    worst: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [(self.failed, "failed"), (self.skipped, "skipped"), (self.passed, "passed")]
        return ", ".join(f"{count} {word}" for count, word in parts if count) or "not run"


def tests() -> dict[str, list[str]]:
    """The files with tests of each fault: those named after it first, then those elsewhere."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = path.relative_to(ROOT).as_posix()
        for letter, number in _NAMED.findall(f"def {path.name}\n{path.read_text()}"):
            fault = _meant(name, f"{letter.upper()}{int(number)}")
            if name not in found[fault]:
                found[fault].append(name)
    for fault, names in ELSEWHERE.items():
        found[fault] += [name for name in names if name not in found[fault]]
    return dict(found)


def _meant(place: str, fault: str) -> str:
    """Two replicas were the ninth of the remedy's list before that had letters of its own."""
    return "R9" if fault == "T9" and "replicas" in place else fault


def ran(reports: Iterable[Path]) -> dict[str, Ran]:
    """What the reports say of each fault."""
    found: defaultdict[str, Ran] = defaultdict(Ran)
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            said = defaultdict(list)
            for one in case.iter("property"):
                said[one.get("name")].append(one.get("value", ""))
            module = case.get("classname", "").rpartition(".")[2]
            faults = set(" ".join(said["fault"]).split())
            for named in filter(None, map(_CASE.match, (case.get("name", ""), module))):
                faults.add(_meant(case.get("classname", ""), f"{named[1].upper()}{int(named[2])}"))
            for fault in faults & FAULTS.keys():
                _count(found[fault], case, said["worst"])
    return dict(found)


def _count(counts: Ran, case: ElementTree.Element, worst: Iterable[str]) -> None:
    if case.find("failure") is not None or case.find("error") is not None:
        counts.failed += 1
    elif case.find("skipped") is not None:
        counts.skipped += 1
    else:
        counts.passed += 1
    counts.worst += [one for one in worst if one not in counts.worst]


def page(named: Mapping[str, Sequence[str]], results: Mapping[str, Ran]) -> str:
    """The page."""
    lines = [
        "# The fault matrix",
        "",
        "What is done to healer in its tests, and what came of it. Tests are named after their "
        "fault (`test_t2_…`); beside them stand",
        "other tests of the same trouble. T1 to T16 are faults of the surroundings, R1 to R10 are "
        "promises of a remedy.",
        "Written by `python -m tests.faults table REPORT…` from junit reports; the figures are of "
        "one run on two shared cores.",
        "",
        "| | fault | tests | result | worst figure |",
        "| --- | --- | --- | --- | --- |",
    ]
    for fault, what in FAULTS.items():
        files = "<br>".join(f"[{name.removeprefix('tests/')}](../{name})" for name in named[fault])
        result = results.get(fault, Ran())
        figures = "<br>".join(one.replace("|", "/") for one in result.worst[:_FIGURES])
        more = len(result.worst) - _FIGURES
        figures += f"<br>and {more} more" if more > 0 else ""
        lines.append(f"| {fault} | {what} | {files} | {result} | {figures} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or print it; fails when a test of the matrix failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults table")
    parser.add_argument("reports", nargs="*", type=Path, help="junit reports of the rings")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    results = ran(options.reports)
    text = page(defaultdict(list, tests()), results)
    if options.write:
        PAGE.write_text(text)
    else:
        print(text, end="")
    return 1 if any(result.failed for result in results.values()) else 0
