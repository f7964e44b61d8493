"""Text from outside against everything that reads it: expressions, patterns, logs, terminals."""

import io
import json
import logging
import re
import time

import pytest

from healer.domain.alert import parse_matchers
from healer.expressions import Expression, Pattern
from healer.kernel.patterns import check_pattern
from healer.logs import Redactor, TextFormatter, configure
from healer.probes.http_get import HttpGetParams
from healer.probes.object_field import ObjectFieldParams

CATASTROPHIC = [
    "(a+)+b", "(a*)*b", "(a|a)*b", "(a|ab)*c", "(.*)*x", "(?:a?){40}a{40}", "(a{1,50}){1,50}b",
    "((a+)b?)+c", ".*.*.*.*x", "a*a*a*a*a*b", "(x+x+)+y", r"(a)\1*", "(?=a+)a+b", "(?:a+)+?b",
]  # fmt: skip
ORDINARY = [
    "foo|bar", "KubePod(CrashLooping|NotReady)", ".+", "kube-.*", ".*(backup|migrat|dump).*",
    "(prod|staging)(-[0-9]+)?", "[a-z0-9-]+", "a{3}", "5..", "(?i)critical|page", ".*-db-.*-0",
    "(eu|us)-(west|east)-[0-9][a-c]?", "",
]  # fmt: skip


@pytest.mark.parametrize("pattern", CATASTROPHIC)
def test_a_pattern_that_could_run_for_ever_is_refused(pattern: str) -> None:
    """A matcher whose regular expression could go back over its text without end is refused."""
    with pytest.raises(ValueError, match=r"write|use at most"):
        parse_matchers(f'pod=~"{pattern}"'.replace("\\1", "\\\\1"))


@pytest.mark.parametrize("pattern", ORDINARY)
def test_ordinary_patterns_pass(pattern: str) -> None:
    """What people write in Alertmanager's routes is accepted."""
    check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["[0&&1]", "[0--1]", "[[a]", "[a||b]", "[a~~b]"])
def test_a_pattern_that_a_later_python_reads_otherwise_is_refused(pattern: str) -> None:
    """What `re` warns of is no surprise after an upgrade but an error now, with the remedy."""
    with pytest.raises(ValueError, match="backslash"):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", [".*.*.*x", "a*a*a*b", ".*a.*a.*b"])
@pytest.mark.may_stall
def test_the_worst_pattern_that_passes_ends(pattern: str) -> None:
    """On the longest label there may be, the worst accepted patterns end within seconds of CPU."""
    check_pattern(pattern)
    began = time.process_time()
    assert re.fullmatch(pattern, "a" * 1024) is None
    assert time.process_time() - began < 20.0


@pytest.mark.parametrize("pattern", ["(a+)+b", "(.*)*b", "(a|a)*b", ".*.*.*.*b"])
def test_probes_match_in_linear_time(pattern: str) -> None:
    """A body of 64 KiB made to hurt is matched within a second of CPU, whatever the pattern."""
    HttpGetParams(url="https://example.com/", body=pattern)
    ObjectFieldParams(path="/status/phase", matches=pattern)
    found = Pattern(pattern, whole=True)
    began = time.process_time()
    assert not found.found_in("a" * 65536)
    assert time.process_time() - began < 1.0


def test_whole_patterns_match_the_whole() -> None:
    """A whole pattern with alternatives matches no part of a text, also not before a line's end."""
    found = Pattern("Running|Succeeded", whole=True)
    assert found.found_in("Succeeded")
    assert not found.found_in("NotRunning")
    assert not found.found_in("Running\n")
    assert Pattern("ok").found_in("it is ok")


@pytest.mark.parametrize(
    "text",
    [
        "pods.all(p, pods.all(q, p.restarts >= q.restarts))",
        "pods.exists(p, pods . map (q, q.restarts).size() > 1)",
        "pods.all(p, (pods.filter(q, q.ready)).size() > 1)",
        "pods.map(p, [1].map(x, x)).size() > 0",
        "')' == '' || pods.all(p, ')' != '' && pods.all(q, true))",
        'pods.all(p, ")" != "" && pods.all(q, true))',
    ],
)
def test_a_loop_inside_a_loop_is_refused(text: str) -> None:
    """CEL that loops inside a loop costs pods squared or more, so it does not compile."""
    with pytest.raises(ValueError, match="inside a loop"):
        Expression(text)


def test_loops_one_after_the_other_pass_and_are_quick() -> None:
    """Two loops beside each other compile, and 5,000 pods take them less than a second of CPU."""
    both = Expression("pods.filter(p, !p.ready).size() < 3 && pods.all(p, p.name != '.all(' )")
    pods = [{"ready": True, "name": f"p{number}"} for number in range(5000)]
    began = time.process_time()
    assert both.holds({"pods": pods})
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    "text",
    [
        "int(labels.x) * 10 > 0", "int(labels.x) + 1 > 0",
        "1 / (int(labels.x) - int(labels.x)) > 0",
        "int(labels.y) > 0", "timestamp(labels.y) > timestamp(labels.x)", "labels.y[0] == 'a'",
        "labels.none == ''", "'a'.matches(labels.z)", "duration(labels.y) > duration('1s')",
        "pods[int(labels.x)].ready", "labels.x < 1",
    ],
)  # fmt: skip
def test_a_label_made_to_break_an_expression_only_fails_it(text: str) -> None:
    """Whatever a label holds, a condition over it is unknown (ValueError) and nothing else."""
    hostile = {"x": "9223372036854775807", "y": "a", "z": "(("}
    with pytest.raises(ValueError, match="cannot evaluate"):
        Expression(text).holds({"labels": hostile, "pods": [{"ready": True}]})


def _told(form: str, message: str, **extra: object) -> str:
    out = io.StringIO()
    before = logging.getLogger().handlers, logging.getLogger().level
    try:
        configure("info", form, stream=out)  # type: ignore[arg-type]
        logging.getLogger("healer.test").info(message, extra=extra)
    finally:
        logging.getLogger().handlers, logging.getLogger().level = before
        logging.captureWarnings(False)
    return out.getvalue()


HOSTILE = [
    "a\n10:00:00 error healer.web  forged", "a\r\nforged", "\x1b[2J\x1b]0;title\x07", "\x9b31m",
    "a\u2028forged", "a\x85forged", "\u202egnp.exe", "a\x00b", 'a" reason=allowed x="',
    "a reason=allowed",
]  # fmt: skip


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("value", HOSTILE)
def test_a_label_never_ends_a_line_or_steers_a_terminal(form: str, value: str) -> None:
    """A hostile value, in a field or a message, stays one line of printable characters."""
    for line in (_told(form, "hello", label=value), _told(form, f"hello {value}")):
        assert line.endswith("\n")
        assert line[:-1].isprintable()
    if form == "json":
        assert json.loads(_told(form, "hello", label=value))["label"] == value
    else:
        assert re.search(
            r" label=(\"([^\"\\]|\\.)*\"|[^\s\"=]+)\n$", _told(form, "hello", label=value)
        )


def test_an_exception_cannot_pass_for_a_line_of_its_own() -> None:
    """In text form every line of a traceback is indented, also those made by its message."""
    error = RuntimeError("x\n10:00:00 error healer.web  forged")
    info = (RuntimeError, error, None)
    record = logging.LogRecord("healer", logging.ERROR, "", 0, "failed", (), info)
    first, *rest = TextFormatter(Redactor()).format(record).split("\n")
    assert first.endswith("failed")
    assert any("forged" in line for line in rest)
    assert all(line.startswith("  ") for line in rest)
