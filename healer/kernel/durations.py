"""Durations are written as Prometheus writes them (`5m`, `1h30m`, `500ms`) and kept as seconds."""

import re

_UNITS = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
    "y": 31536000.0,
}
_TOKEN = re.compile(r"(\d+)(ms|[smhdwy])")
_WHOLE = re.compile(r"(?:\d+(?:ms|[smhdwy]))+")


def parse_duration(text: str) -> float:
    """Seconds of a Prometheus duration; `0` alone is allowed.

    Raises ValueError naming what was wrong. Grammar: Prometheus `model.ParseDuration`.
    """
    text = text.strip()
    if text == "0":
        return 0.0
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"not a duration: {text[:40]!r}; write for example 30s, 5m or 1h30m")
    return sum(int(number) * _UNITS[unit] for number, unit in _TOKEN.findall(text))


def format_duration(seconds: float) -> str:
    """The shortest exact writing down to milliseconds: 5400 is `1h30m`, 0 is `0s`."""
    rest = round(seconds * 1000)
    if rest < 0:
        return "-" + format_duration(-seconds)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
