"""Logs: one JSON object a line, nothing secret, one line for each run."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from healer.domain.episode import Episode
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Outcome, Result
from healer.domain.plan import Plan, PlannedStep
from healer.domain.playbook import Guards, Mode
from healer.domain.run import Phase, Run, StepRecord
from healer.domain.target import Kind, TargetRef
from healer.domain.verdict import Reason
from healer.logs import RunLog, configure
from healer.testing.clock import START


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where log lines go; the process's own logging is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield io.StringIO()
    root.handlers, _ = handlers, root.setLevel(level)
    logging.captureWarnings(False)


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_object_with_its_fields(stream: io.StringIO) -> None:
    """Time, level, logger and message stand beside the fields that were given."""
    configure("info", "json", stream=stream)
    logging.getLogger("healer.x").warning("it\nhappened", extra={"episode": "ep-1", "n": 3})
    logging.getLogger("healer.x").debug("unseen")
    (line,) = _lines(stream)
    assert (line["level"], line["logger"], line["message"]) == ("warn", "healer.x", "it\nhappened")
    assert (line["episode"], line["n"]) == ("ep-1", 3)
    assert str(line["time"]).endswith("Z")


def test_an_exception_is_in_its_line(stream: io.StringIO) -> None:
    """A traceback is a field of the same JSON line."""
    configure("info", "json", stream=stream)
    try:
        int("broken")
    except ValueError:
        logging.getLogger("healer.x").exception("it failed")
    (line,) = _lines(stream)
    assert "ValueError: invalid literal" in str(line["exception"])


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_never_leave(stream: io.StringIO, form: str) -> None:
    """Known secrets, secret-looking fields and bearer headers are blacked out everywhere."""
    configure("info", form, stream=stream, secrets=lambda: ["hunter2-hunter2"])  # type: ignore[arg-type]
    log = logging.getLogger("healer.x")
    log.info("told hunter2-hunter2", extra={"deep": {"list": ["xhunter2-hunter2x"]}})
    log.info("sent", extra={"authorization": "abc", "api_key": "def", "url_password": "ghi"})
    log.info("header was Bearer abcdefghijkl")
    try:
        int("hunter2-hunter2")
    except ValueError:
        log.exception("failed")
    out = stream.getvalue()
    for secret in ("hunter2", "abc", "def", "ghi"):
        assert secret not in out, secret
    assert "***" in out


def test_text_is_for_people(stream: io.StringIO) -> None:
    """The text form is one line with fields as key=value, quoted where needed."""
    configure("info", "text", stream=stream)
    logging.getLogger("healer.x").info("it happened", extra={"why": "two words", "n": 3})
    line = stream.getvalue()
    assert line.endswith('info  healer.x  it happened  why="two words" n=3\n')


def test_a_run_is_one_line(stream: io.StringIO) -> None:
    """The end of a run is one canonical line, written when its fact is committed and only then."""
    configure("info", "auto", stream=stream)
    pod = TargetRef(Kind.POD, "api-1", "shop", "uid-1")
    step = PlannedStep(0, "again", "delete_pod", "restart", pod, {}, 1, True, True)
    plan = Plan("ep-1", "p", "f" * 64, Mode.AUTO, pod, pod, "shop", "z", (step,), Guards(), START)
    record = StepRecord(0, 0, False, "k", START, {}, Outcome.APPLIED)
    run = Run(
        "ep-1-1", "ep-1", plan, Phase.DONE, 0, START + 1, result=Result.HEALED,
        reason=Reason.RECOVERED, finished_at=START + 31, steps=(record,),
    )  # fmt: skip
    episode = Episode("ep-1", "am", "a" * 16, 1, {"alertname": "Down"}, START, START, START)
    log = RunLog()
    log.heard(episode, replace(run, phase=Phase.HOLDING), [Fact(FactKind.VERIFIED, START + 31)])
    log.heard(episode, run, [Fact(FactKind.CLOSED, START + 31)])
    log.heard(episode, run, [Fact(FactKind.CLOSED, START + 99)])
    (line,) = _lines(stream)
    assert line["message"] == "run finished"
    assert (line["episode"], line["run"], line["result"]) == ("ep-1", "ep-1-1", "healed")
    assert (line["seconds"], line["steps"]) == (30.0, ["delete_pod:applied"])
