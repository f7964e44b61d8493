"""Follows queries: their newest value, and their past on a grid of five minutes.

Two replicas, and the same one after a restart, see the same grid: it is asked of Prometheus at
multiples of its step and never made of what happened to be collected. A value that is missing,
old, NaN, infinite, negative or ambiguous is a `Refused`; the last good one stays until it is older
than its policy allows, with the time at which it was true.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from healer.kernel.clock import Clock
from scalers.ports import Answer, Followed, Measured, RangeSource, Reason, Refused, SourceError
from scalers.series import DAY_SECONDS, STEP_SECONDS, Floats, Series, from_cells

_log = logging.getLogger(__name__)

#: How often values are read; the HPA looks as often. Seconds.
ROUND_SECONDS = 15.0
#: How much past is read at the beginning, and how much is kept. Days.
BACKFILL_DAYS, KEPT_DAYS = 15, 22
#: The past of so many queries is asked for at once, and for so long in one round. The values of now
#: come first; at the start the past of a thousand queries takes several rounds.
TOGETHER, PAST_SECONDS = 128, 8.0
#: Points of the grid that are asked for again each time: a rule may have been written late.
AGAIN = 2
#: When Prometheus last took any sample. A selector gives a sample for five minutes after the last
#: one came, so a Prometheus that stopped scraping would look alive for so long.
PULSE = "max(timestamp(up))"


@dataclass(slots=True)
class _Kept:
    """What is known of one followed query."""

    followed: Followed
    last: tuple[float, float] | None = None  #: (Unix seconds, value), the last good one
    refused: Refused | None = None  #: why the newest look gave none
    first: int = 0  #: number of the grid's first cell
    grid: Floats = field(default_factory=lambda: np.empty(0))  #: NaN: not measured
    until: int = -1  #: the last cell that was asked for


class Collector:
    """Reads all followed queries each round. Not thread-safe; use from one event loop."""

    def __init__(self, source: RangeSource, clock: Clock) -> None:
        """Nothing is asked yet; see `round`."""
        self._source = source
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self.problem = ""  #: why Prometheus could not be asked; empty: it could

    def follow(self, followed: Sequence[Followed]) -> None:
        """Follow exactly these from now on; what is known of an unchanged query is kept."""
        before = self._kept
        self._kept = {}
        for one in followed:
            known = before.get(one.key)
            if known is None or known.followed.query != one.query:
                known = _Kept(one)
            known.followed = one
            self._kept[one.key] = known

    async def round(self) -> None:
        """Read the values of now. What fails is kept as its reason."""
        if await self._asked(self._values):
            self.problem = ""

    async def past(self) -> None:
        """Read of the past what is missing, for as long as `PAST_SECONDS`; the rest next time."""
        await self._asked(self._grids)

    async def _asked(self, work: Callable[[], Awaitable[None]]) -> bool:
        try:
            await work()
        except SourceError as error:
            if not self.problem:
                _log.warning("Prometheus cannot be asked", extra={"error": str(error)})
            self.problem = str(error)
            return False
        return True

    def measured(self, key: str) -> Measured:
        """The newest value, or why there is none. Raises KeyError for what is not followed."""
        kept, now = self._kept[key], self._clock.now()
        limit = kept.followed.max_age_seconds
        if kept.last is not None and now - kept.last[0] <= limit:
            return Measured(kept.last[1], kept.last[0])
        if kept.refused is not None:
            return Measured(kept.refused, now)
        name = key.split("/", 1)[0]
        if kept.last is None:
            if self.problem:
                told = f"the demand of {name} was never read: {self.problem}"
                return Measured(Refused(Reason.SOURCE_DOWN, told), now)
            told = f"the demand of {name} was not read yet"
            return Measured(Refused(Reason.NOT_YET, told), now)
        age = f"the demand of {name} is {now - kept.last[0]:.0f} s old, older than {limit:g} s"
        if self.problem:
            return Measured(Refused(Reason.SOURCE_DOWN, f"{age}: {self.problem}"), now)
        return Measured(Refused(Reason.STALE, age), now)

    def history(self, key: str) -> Series | None:
        """The past on the grid; None when nothing was measured yet."""
        kept = self._kept[key]
        if not np.isfinite(kept.grid).any():
            return None
        return from_cells(kept.first, kept.grid)

    def known_until(self, key: str) -> float:
        """End of the grid that was asked for; minus infinity: none was. Unix seconds."""
        until = self._kept[key].until
        return until * STEP_SECONDS if until >= 0 else -math.inf

    def recent_max(self, key: str, days: float) -> float | None:
        """The highest value of the last days; None when fewer than half of a day are known."""
        kept = self._kept[key]
        newest = kept.grid[-round(days * DAY_SECONDS / STEP_SECONDS) :]
        newest = newest[np.isfinite(newest)]
        if len(newest) < DAY_SECONDS / STEP_SECONDS / 2:
            return None
        return float(newest.max())

    # ---------------------------------------------------------------------------- the newest

    async def _values(self) -> None:
        """The values now, and the one before: one of them may have been too young to be there."""
        end = math.floor(self._clock.now() / ROUND_SECONDS) * ROUND_SECONDS
        queries = [PULSE, *(kept.followed.query for kept in self._kept.values())]
        pulse, *given = await self._source.ranges(queries, end - ROUND_SECONDS, end, ROUND_SECONDS)
        taken = _taken(pulse)
        for kept, answer in zip(list(self._kept.values()), given, strict=True):
            found = _newest(kept.followed, answer, end, taken)
            if isinstance(found, Refused):
                kept.refused = found
                if found.reason is Reason.DUPLICATE:
                    # The query is not what it was; the value before must not stand in for it.
                    kept.last = None
            else:
                kept.last, kept.refused = found, None

    # ------------------------------------------------------------------------------ the past

    async def _grids(self) -> None:
        last = math.floor(self._clock.now() / STEP_SECONDS)
        by_start: dict[int, list[_Kept]] = {}
        oldest = last - round(BACKFILL_DAYS * DAY_SECONDS / STEP_SECONDS)
        for kept in self._kept.values():
            if kept.until < last:
                start = oldest if kept.until < 0 else max(oldest, kept.until + 1 - AGAIN)
                by_start.setdefault(start, []).append(kept)
        until = self._clock.monotonic() + PAST_SECONDS
        for start, some in by_start.items():
            for first in range(0, len(some), TOGETHER):
                if self._clock.monotonic() > until:
                    return
                await self._grid(some[first : first + TOGETHER], start, last)

    async def _grid(self, some: Sequence[_Kept], start: int, last: int) -> None:
        given = await self._source.ranges(
            [kept.followed.query for kept in some],
            start * STEP_SECONDS, last * STEP_SECONDS, STEP_SECONDS,
        )  # fmt: skip
        for kept, answer in zip(some, given, strict=True):
            if isinstance(answer, Answer) and len(answer.points) <= 1:
                _extend(kept, answer, start, last)


def _taken(pulse: Answer | SourceError) -> float | None:
    """When the newest sample was taken; None where nothing tells, as in a store without `up`."""
    if isinstance(pulse, SourceError):
        return None
    return max((points[-1][1] for points in pulse.points.values() if points), default=None)


def _newest(
    followed: Followed, answer: Answer | SourceError, end: float, taken: float | None
) -> tuple[float, float] | Refused:
    name = followed.key.split("/", 1)[0]
    if isinstance(answer, SourceError):
        return Refused(Reason.SOURCE_DOWN, f"the query of {name} was not answered: {answer}")
    if len(answer.points) > 1:
        told = f"the query of {name} gives {len(answer.points)} series; sum() them into one"
        return Refused(Reason.DUPLICATE, told)
    points = next(iter(answer.points.values()), ())
    if not points:
        return Refused(Reason.EMPTY, f"the query of {name} gives no series: {followed.query}")
    at, value = points[-1]
    if taken is not None:
        at = min(at, taken)
        if end - at > followed.max_age_seconds:
            told = f"Prometheus took its last sample {end - at:.0f} s ago; see its targets"
            return Refused(Reason.STALE, told)
    if not math.isfinite(value):
        return Refused(Reason.NOT_FINITE, f"the demand of {name} is {value}")
    if value < 0:
        return Refused(Reason.NEGATIVE, f"the demand of {name} is {value:g}, below zero")
    return at, value


def _extend(kept: _Kept, answer: Answer, start: int, last: int) -> None:
    """Write the cells from `start` to `last` as they are now."""
    fresh = np.full(last - start + 1, np.nan)
    for points in answer.points.values():
        for at, value in points:
            cell = round(at / STEP_SECONDS) - start
            if 0 <= cell < len(fresh) and math.isfinite(value) and value >= 0:
                fresh[cell] = value
    if not len(kept.grid) or start > kept.first + len(kept.grid):
        kept.first, kept.grid = start, fresh
    else:
        kept.grid = np.concatenate([kept.grid[: start - kept.first], fresh])
    surplus = len(kept.grid) - round(KEPT_DAYS * DAY_SECONDS / STEP_SECONDS)
    if surplus > 0:
        kept.first, kept.grid = kept.first + surplus, kept.grid[surplus:].copy()
    kept.until = last
