"""The small notations inside a playbook, each with its check and its JSON Schema."""

import re
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from healer.domain.alert import Matcher, parse_matchers
from healer.domain.playbook import Rate
from healer.expressions import Expression
from healer.kernel.durations import parse_duration

#: What `healer.planning.ConditionVariables` offers to CEL.
CEL_VARIABLES = frozenset({"labels", "annotations", "target", "owner", "pods", "episode", "now"})
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

DURATION_PATTERN = r"^(0|([0-9]+(ms|[smhdwy]))+)$"
_RATE = re.compile(r"\s*([0-9]{1,6})\s*/\s*(\S+)\s*")
_TIME = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])")
_YEAR = 365 * 86400.0


def duration(value: Any) -> float:
    """Seconds of `5m`. Raises ValueError for a bare number, which has no unit."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("a duration is text such as 30s, 5m or 1h30m")
    if isinstance(value, int) and value != 0:
        raise ValueError(f"{value} has no unit; write {value}s")
    seconds = parse_duration(str(value))
    if seconds > _YEAR:
        raise ValueError(f"{value} is longer than a year")
    return seconds


def _duration_or_auto(value: Any) -> float | None:
    return None if value == "auto" else duration(value)


def ratio(value: Any) -> float:
    """0 to 1, from `55%` or 0.55. Raises ValueError otherwise."""
    found: float | None = None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%\s*", value)
        found = float(match[1]) / 100 if match else None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found = float(value)
    if found is None or not 0 <= found <= 1:
        raise ValueError(f"{_shown(value)} is no ratio; write 55% or 0.55")
    return found


def rate(value: Any) -> Rate:
    """A token bucket from `3/1h`. Raises ValueError otherwise."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_shown(value)} is no rate; write for example 3/1h")
    seconds = parse_duration(match[2])
    if int(match[1]) < 1 or not 1 <= seconds <= _YEAR:
        raise ValueError(
            f"{value} must grant at least 1 in 1s to 365d; to forbid, use mode observe"
        )
    return Rate(int(match[1]), seconds)


def matchers(value: Any) -> tuple[Matcher, ...]:
    """Matchers from one text or a list of texts. Raises ValueError; empty never means all."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("""write matchers as text: '{alertname="X"}', or as a list of texts""")
    found = tuple(matcher for text in texts for matcher in parse_matchers(text))
    if not found:
        raise ValueError("a matcher list is empty; empty would mean every alert")
    if all(matcher.matches({}) for matcher in found):
        raise ValueError(
            "every matcher accepts an alert without labels, so it would match almost everything; "
            """name the alert: alertname="X\""""
        )
    return found


def cel(value: Any) -> str:
    """A CEL text that compiles and only looks at what there is. Raises ValueError otherwise."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("""a condition is CEL as text, e.g. 'labels.env == "prod"'""")
    if "${" in value:
        return value  # reported by the placeholder check, with its own remedy
    unknown = Expression(value).variables - CEL_VARIABLES
    if unknown:
        raise ValueError(
            f"CEL knows no {', '.join(sorted(unknown))}; it sees {', '.join(sorted(CEL_VARIABLES))}"
        )
    return value


def promql(value: Any) -> str:
    """A PromQL text; Prometheus itself is the judge of its grammar. Raises ValueError if empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("PromQL is text and not empty")
    if len(value) > 16_384:
        raise ValueError("PromQL of more than 16384 characters; make it a recording rule")
    if value.count("(") != value.count(")") or value.count("{") != value.count("}"):
        stripped = re.sub(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`|#.*', "", value)
        for left, right in ("()", "{}", "[]"):
            if stripped.count(left) != stripped.count(right):
                raise ValueError(f"PromQL with {left} and {right} that do not pair up")
    return value


def minute_of_day(value: Any) -> int:
    """Minutes after midnight of `22:30`. Raises ValueError otherwise."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    minutes = int(match[1]) * 60 + int(match[2]) if match else -1
    if not 0 <= minutes <= 1440:
        raise ValueError(f"{_shown(value)} is no time of day; write for example '22:00'")
    return minutes


def _shown(value: Any) -> str:
    return repr(value)[:60]


_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_DURATION_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": DURATION_PATTERN,
    "examples": ["30s", "5m"],
}
Duration = Annotated[float, PlainValidator(duration), WithJsonSchema(_DURATION_SCHEMA)]
DurationOrAuto = Annotated[
    float | None,
    PlainValidator(_duration_or_auto),
    WithJsonSchema({"anyOf": [{"const": "auto"}, _DURATION_SCHEMA]}),
]
Ratio = Annotated[
    float,
    PlainValidator(ratio),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,6})?%$"},
                {"type": "number", "minimum": 0, "maximum": 1},
            ]
        }
    ),
]
RateText = Annotated[
    Rate,
    PlainValidator(rate),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+/[0-9a-z]+$", "examples": ["3/1h"]}),
]
Matchers = Annotated[
    tuple[Matcher, ...],
    PlainValidator(matchers),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}),
]
Cel = Annotated[str, PlainValidator(cel), WithJsonSchema(_TEXT)]
PromQL = Annotated[str, PlainValidator(promql), WithJsonSchema(_TEXT)]
TimeOfDay = Annotated[
    int,
    PlainValidator(minute_of_day),
    WithJsonSchema({"type": "string", "pattern": "^([01][0-9]|2[0-4]):[0-5][0-9]$"}),
]
