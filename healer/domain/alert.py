"""An alert as Alertmanager means it, and the matcher grammar that selects alerts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from healer.kernel.ids import digest
from healer.kernel.patterns import check_pattern


class AlertStatus(StrEnum):
    """What one delivery says of one alert. The status of a *group* is never looked at."""

    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert out of one delivery. Labels are text from outside: data, never code."""

    source: str  #: who says so: a webhook's name, or the trigger that made it (`promql/<playbook>`)
    fingerprint: str  #: identity of the label set, 16 hex digits
    status: AlertStatus
    labels: Mapping[str, str]
    starts_at: float  #: Unix seconds; the earliest start among merged copies, so it may move
    ends_at: float | None = None  #: Unix seconds, only for resolved alerts
    annotations: Mapping[str, str] = field(default_factory=dict)
    generator_url: str = ""
    polled_at: float | None = None  #: set when seen by asking for the present level, not told

    @property
    def name(self) -> str:
        """The `alertname` label, or `?`."""
        return self.labels.get("alertname", "?")

    @property
    def event_id(self) -> str:
        """Identity of this delivery: the same fact delivered twice has the same id.

        A poll is a fact of its own each time: it says what is true now.
        """
        polled = () if self.polled_at is None else (f"{self.polled_at:.6f}",)
        return digest(self.source, self.fingerprint, f"{self.starts_at:.6f}", self.status, *polled)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An alert that could not be understood; kept whole (bounded) so nothing is lost unseen."""

    source: str
    problem: str  #: what is wrong, with the place in the payload
    payload: str  #: the offending JSON, cut at 16 KiB


@dataclass(frozen=True, slots=True)
class Matcher:
    """One Alertmanager matcher: `name="v"`, `name!="v"`, `name=~"re"`, `name!~"re"`.

    A missing label is the empty string and regular expressions match the whole value, as in
    Alertmanager (`pkg/labels/matcher.go`).
    """

    name: str
    operator: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` satisfy this matcher."""
        given = labels.get(self.name, "")
        match self.operator:
            case "=":
                return given == self.value
            case "!=":
                return given != self.value
            case "=~":
                return re.fullmatch(self.value, given) is not None
            case _:
                return re.fullmatch(self.value, given) is None

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.operator}"{escaped}"'


_MATCHER = re.compile(
    r"""\s*(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*|"(?:[^"\\]|\\.)*")\s*(?P<op>=~|!~|!=|=)\s*"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|[^\s"{}!=~,\\]+)\s*""",
    re.DOTALL,
)
_ESCAPE = re.compile(r'\\(["\\n])')


def _unquote(text: str) -> str:
    if not text.startswith('"'):
        return text
    return _ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], text[1:-1])


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """The matchers of `text`, with or without braces: `{alertname="X", pod=~"a.*"}`.

    Raises ValueError naming the column. A text without any matcher is refused: empty never means
    all. Grammar: Alertmanager `matchers/parse`.
    """
    body = text.strip()
    if body.startswith("{") and body.endswith("}"):
        body = body[1:-1]
    found: list[Matcher] = []
    position = 0
    while position < len(body):
        match = _MATCHER.match(body, position)
        if match is None:
            raise ValueError(
                f'column {position + 1} of {text[:80]!r} is not a matcher; write name="value", '
                'name!="value", name=~"regex" or name!~"regex"'
            )
        value = _unquote(match["value"])
        if match["op"] in {"=~", "!~"}:
            check_pattern(value)
        found.append(Matcher(_unquote(match["name"]), match["op"], value))
        position = match.end()
        if position < len(body):
            if body[position] != ",":
                raise ValueError(f"column {position + 1} of {text[:80]!r}: a comma is missing")
            position += 1
    if not found:
        raise ValueError("a matcher list is empty; empty would mean every alert")
    return tuple(found)


def matches_all(matchers: Sequence[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether `labels` satisfy every matcher; no matchers match nothing."""
    return bool(matchers) and all(matcher.matches(labels) for matcher in matchers)
