"""When a series must not teach: incidents and rollouts as windows for `Series.masked`.

Pure: facts of the journal go in as plain times. What would leave too little to learn from is not
masked at all, and said.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

#: The load is unusual before an alert fires and for a while after all is well. Seconds.
MARGIN_SECONDS = 300.0
#: At most such a share of the last week may be masked: more is no exception but the rule.
MOST_OF_WEEK = 0.5
WEEK_SECONDS = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Disturbance:
    """An episode from its begin until it recovered, or a rollout; Unix seconds."""

    begin: float
    end: float | None  #: None: it lasts
    why: str  #: for people: "episode HighErrorRate", "rollout of shop/web"


@dataclass(frozen=True, slots=True)
class Window:
    """One merged stretch that must not teach, both ends in it; Unix seconds."""

    begin: float
    end: float
    why: tuple[str, ...]  #: each once, in order of begin


@dataclass(frozen=True, slots=True)
class Masking:
    """What is masked, and what is not although it was asked for."""

    windows: tuple[Window, ...]
    share_of_week: float  #: of the last week, as asked for
    refused: str = ""  #: why nothing of the last week is masked; empty: all is as asked for

    def spans(self) -> tuple[tuple[float, float], ...]:
        """What `Series.masked` takes."""
        return tuple((window.begin, window.end) for window in self.windows)


def masking(
    disturbances: Iterable[Disturbance],
    now: float,
    *,
    margin: float = MARGIN_SECONDS,
    since: float = -math.inf,
) -> Masking:
    """Merged windows of all disturbances with `margin` before and after each, none beyond `now`.

    Windows that end before `since` are left out. When more than half of the last week would be
    masked, its windows are kept out (what lies before stays), and `refused` says so: an alert that
    always fires must not blind the forecast. Raises ValueError for a disturbance that ends before
    it begins, and for a negative margin.
    """
    if not margin >= 0:
        raise ValueError(f"margin {margin:g} s; give zero or more")
    windows = _merged(disturbances, now, margin)
    windows = [window for window in windows if window.end >= since]
    week = now - WEEK_SECONDS
    masked = sum(window.end - max(window.begin, week) for window in windows if window.end > week)
    share = masked / WEEK_SECONDS
    if share <= MOST_OF_WEEK:
        return Masking(tuple(windows), share)
    longest = max(windows, key=lambda window: window.end - max(window.begin, week))
    refused = (
        f"{share:.0%} of the last week would teach nothing, most of it for {longest.why[0]}; more "
        f"than {MOST_OF_WEEK:.0%} is how things are, so all of the week teaches: end or silence it"
    )
    before = [
        Window(window.begin, min(window.end, week), window.why)
        for window in windows
        if window.begin < week
    ]
    return Masking(tuple(before), share, refused)


def _merged(disturbances: Iterable[Disturbance], now: float, margin: float) -> list[Window]:
    out: list[Window] = []
    for one in sorted(disturbances, key=lambda each: (each.begin, each.why)):
        end = now if one.end is None else one.end
        if (
            not math.isfinite(one.begin)
            or math.isnan(end)
            or (one.end is not None and end < one.begin)
        ):
            raise ValueError(f"{one.why}: from {one.begin:g} to {end:g} is no stretch of time")
        begin, end = one.begin - margin, min(end + margin, now)
        if begin > now:
            continue
        if out and begin <= out[-1].end:
            last = out[-1]
            why = last.why if one.why in last.why else (*last.why, one.why)
            out[-1] = Window(last.begin, max(last.end, end), why)
        else:
            out.append(Window(begin, end, (one.why,)))
    return out
