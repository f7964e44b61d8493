"""Timelines as inline SVG: one lane a run, on one scale, so that they can be compared."""

from typing import Any

_WIDTH, _LEFT, _RIGHT = 1000, 112, 24
_LANE, _BAR, _TOP = 82, 18, 2
_COLOURS = {True: "#79b791", False: "#d9776f", None: "#c9d0d8"}
_MARKS = ("fault", "alert", "held", "released", "action", "killed", "returned")
#: About the width of a letter. Pixels.
_LETTER = 7.2
Lane = tuple[str, list[list[Any]], dict[str, Any]]


def timeline(lanes: list[Lane]) -> str:
    """The lanes and the scale below them; empty when no lane has anything to show."""
    if not any(samples for _, samples, _ in lanes):
        return ""
    first = min(min(samples[0][0], 0.0) for _, samples, _ in lanes if samples)
    start = max(first, -5.0)
    end = max(samples[-1][0] for _, samples, _ in lanes if samples) + 0.5
    scale = (_WIDTH - _LEFT - _RIGHT) / max(end - start, 1.0)

    def x(seconds: float) -> float:
        return float(round(_LEFT + (min(max(seconds, start), end) - start) * scale, 1))

    height = _TOP + _LANE * len(lanes) + 26
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" font-family="system-ui,sans-serif" '
        'font-size="12"><title>The steady state over time</title>'
    ]
    for number, (name, samples, times) in enumerate(lanes):
        top = _TOP + number * _LANE + (_LANE - _BAR) // 2
        parts.append(f'<text x="0" y="{top + 13}" fill="#1d2733" font-weight="600">{name}</text>')
        parts += _bars(samples, x, top, end)
        parts += _marks(times, x, top) if samples else []
    parts += _axis(x, start, end, height)
    return "".join([*parts, "</svg>"])


def _bars(samples: list[list[Any]], x: Any, top: int, end: float) -> list[str]:
    """Neighbouring looks with the same answer are one bar."""
    found: list[tuple[float, float, bool | None]] = []
    for number, (at, well) in enumerate(samples):
        until = samples[number + 1][0] if number + 1 < len(samples) else at + 0.5
        if found and found[-1][2] is well:
            found[-1] = (found[-1][0], until, well)
        else:
            found.append((at, until, well))
    return [
        f'<rect x="{x(at)}" y="{top}" width="{max(x(min(until, end)) - x(at), 1):.1f}" '
        f'height="{_BAR}" fill="{_COLOURS[well]}"/>'
        for at, until, well in found
    ]


def _marks(times: dict[str, Any], x: Any, top: int) -> list[str]:
    """A line and a word for each event; words that would touch stand at different heights."""
    given = {"fault": 0.0, **times}
    seen = sorted((given[name], name) for name in _MARKS if given.get(name) is not None)
    heights = (top - 7, top + _BAR + 15, top - 20, top + _BAR + 28)
    ends = dict.fromkeys(heights, float("-inf"))
    parts = []
    for at, name in seen:
        place, half = x(at), len(name) * _LETTER / 2
        height = next((h for h in heights if place - half > ends[h]), heights[0])
        ends[height] = place + half + _LETTER
        low, high = min(top - 5, height), max(top + _BAR + 5, height - 10)
        parts.append(
            f'<line x1="{place}" y1="{low}" x2="{place}" y2="{high}" stroke="#1d2733" '
            'stroke-width="1.6"/>'
            f'<text x="{place}" y="{height}" text-anchor="middle" fill="#1d2733" stroke="#fff" '
            f'stroke-width="3" paint-order="stroke">{name}</text>'
        )
    return parts


def _axis(x: Any, start: float, end: float, height: int) -> list[str]:
    step = next(size for size in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 7200)
                if (end - start) / size <= 14)  # fmt: skip
    base = height - 20
    parts = [
        f'<line x1="{_LEFT}" y1="{base}" x2="{_WIDTH - _RIGHT}" y2="{base}" stroke="#dde3ea"/>'
    ]
    at = 0
    while at <= end:
        parts.append(
            f'<text x="{x(at)}" y="{base + 15}" text-anchor="middle" fill="#5b6878">{at} s</text>'
        )
        at += step
    return parts
