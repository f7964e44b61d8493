"""T2: the n-th call of a port fails, for every n there is and in every way a call can fail."""

import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from healer.domain.playbook import (
    Condition,
    ConditionLanguage,
    Guards,
    Mode,
    Playbook,
    ProbeRule,
    StepRule,
    TargetRule,
    UndoRule,
    VerifyRule,
)
from healer.domain.target import Kind
from healer.engine import intake, outbox, worker
from healer.testing.builders import a_playbook
from tests.faults.house import lived
from tests.faults.injector import Plan, Way, ways
from tests.faults.virtual import in_virtual_time

READY = VerifyRule((ProbeRule("workload_ready", {}),), 60.0, 5.0, 10.0)
#: Two rungs: more pods do not help and are taken back, a restart does.
LADDER = a_playbook(
    "ladder",
    target=TargetRule(Kind.POD, "${labels.pod}", "${labels.namespace}", owner=True),
    steps=(
        StepRule("more", "scale", {"by": 2, "max": 9}, READY, undo=UndoRule.IF_NOT_RECOVERED),
        StepRule("restart", "restart_rollout", {}, READY),
    ),
    guards=Guards(unless=(Condition(ConditionLanguage.PROMQL, "backup_running"),)),
)
#: A person's yes, then one request that must not be sent twice, judged by a query.
CALLED = a_playbook(
    "called",
    mode=Mode.APPROVE,
    steps=(
        StepRule(
            "call",
            "http_call",
            {"url": "https://fix.example/mend"},
            VerifyRule((ProbeRule("workload_ready", {}),), None, 5.0, 10.0),
        ),
    ),
)
BOOKS = {"ladder": LADDER, "called": CALLED}
#: Every port with the playbook that uses it most.
USES = (
    ("store", "ladder"), ("store", "called"), ("cluster", "ladder"), ("cluster", "called"),
    ("alerts", "ladder"), ("metrics", "ladder"), ("metrics", "called"), ("http", "called"),
    ("notifier", "called"),
)  # fmt: skip


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in memory, and loops that look up less often when nothing was hinted."""
    for module in (worker, intake):
        monkeypatch.setattr(module, "IDLE_SECONDS", 30.0)
    monkeypatch.setattr(outbox, "IDLE_SECONDS", 10.0)
    monkeypatch.setattr(worker, "FRUITLESS_SECONDS", 10.0)
    logging.disable(logging.CRITICAL)  # thousands of expected tracebacks
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)
    logging.disable(logging.NOTSET)


def live(folder: Path, playbook: Playbook, plan: Plan) -> str:
    """One life in a folder of its own."""
    inside = folder / "one"
    inside.mkdir()
    try:
        return in_virtual_time(lambda loop: lived(loop, inside, plan, playbook))
    finally:
        shutil.rmtree(inside)


@pytest.mark.parametrize(("port", "name"), USES)
def test_t2_whatever_call_fails_the_run_ends_and_is_told(
    quick: Path, port: str, name: str, record_property: Callable[[str, object], None]
) -> None:
    """It ends in success, failure or unknown, with its facts, and no effect is made twice."""
    record_property("fault", "T2")
    whole = Plan()
    assert live(quick, BOOKS[name], whole).startswith("healed")
    ended: Counter[str] = Counter()
    number = 0
    struck = True
    while struck:
        number += 1
        calls = whole.calls.get(port, [])
        call = calls[number - 1] if number <= len(calls) else ""
        struck = False
        for way in ways(port, call) if call else tuple(Way):
            plan = Plan(port, number, way)
            try:
                ended[live(quick, BOOKS[name], plan)] += 1
            except BaseException as error:
                seen = plan.calls.get(port, [])[number - 1 : number]
                error.add_note(f"{port} call {number} {seen} failed {way}")
                raise
            struck = struck or plan.struck
    assert number > 1
    record_property("worst", f"{name}, {port}: {sum(ended.values())} runs, 0 effects twice")
    print(f"\n{name} {port}: {number - 1} calls; {dict(ended)}")
