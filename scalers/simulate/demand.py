"""A measured load on the grid of the autoscaler's syncs, and what is derived from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scalers.hpa import SYNC_SECONDS
from scalers.series import STEP_SECONDS, Floats, Series, on_grid

#: What the reactive metric is the mean of, seconds.
REACTIVE_SECONDS = 120.0
#: A sample stands until the next one, but not for longer than so many of the usual distances.
_STANDS = 2.5


class LoadFileError(ValueError):
    """A file of loads cannot be read; the text names file, line and remedy."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Total load at each sync: element i holds from `start + i * SYNC_SECONDS`, one sync long.

    NaN where it was not measured. `samples` are what it was made of (Unix seconds, value).
    """

    start: float
    values: Floats
    samples: tuple[tuple[float, float], ...]

    @property
    def end(self) -> float:
        """When the last sync is over, Unix seconds."""
        return self.start + len(self.values) * SYNC_SECONDS

    def reactive(self, seconds: float = REACTIVE_SECONDS) -> Floats:
        """At each sync the mean of the `seconds` before it; NaN when nothing was measured then."""
        width = max(1, round(seconds / SYNC_SECONDS))
        known = np.isfinite(self.values)
        sums = np.concatenate(([0.0], np.cumsum(np.where(known, self.values, 0.0))))
        counts = np.concatenate(([0], np.cumsum(known)))
        at = np.arange(len(self.values))
        begin = np.maximum(at - width, 0)
        count = counts[at] - counts[begin]
        total = sums[at] - sums[begin]
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def ahead(self, seconds: float) -> Floats:
        """The oracle: at each sync the largest load from then until `seconds` later."""
        reach = max(1, math.ceil(seconds / SYNC_SECONDS) + 1)
        padded = np.concatenate((self.values, np.full(reach - 1, np.nan)))
        floor = np.where(np.isfinite(padded), padded, -np.inf)
        highest = np.lib.stride_tricks.sliding_window_view(floor, reach).max(axis=1)
        return np.where(np.isfinite(highest), highest, np.nan)

    def series(self, *, peaks: bool) -> Series:
        """The load each five minutes: its mean, or its highest sample."""
        if not peaks:
            return on_grid(self.samples, now=self.end)
        cells: dict[int, float] = {}
        for at, value in self.samples:
            cell = int(at // STEP_SECONDS)
            cells[cell] = max(cells.get(cell, -math.inf), value)
        highest = [(cell * STEP_SECONDS, value) for cell, value in cells.items()]
        return on_grid(highest, now=self.end)


def demand(samples: Sequence[tuple[float, float]]) -> Demand:
    """The samples (Unix seconds, value) on the grid; each stands until the next one.

    Samples that are not finite count as not measured. Raises ValueError with fewer than two.
    """
    good = sorted((at, value) for at, value in samples if math.isfinite(at + value))
    if len(good) < 2:
        raise ValueError(f"{len(good)} finite samples are no load; give at least two")
    times = np.array([at for at, _ in good])
    values = np.array([value for _, value in good])
    if (values < 0).any():
        at = times[int(np.argmin(values))]
        raise ValueError(f"the load is negative at {at:.0f}; a demand is a rate or a count")
    start = math.floor(times[0] / SYNC_SECONDS) * SYNC_SECONDS
    usual = max(float(np.median(np.diff(times))), SYNC_SECONDS)
    grid = np.arange(start, times[-1] + usual, SYNC_SECONDS)
    index = np.searchsorted(times, grid + 1e-6, side="right") - 1
    index = np.maximum(index, 0)
    fresh = grid - times[index] < _STANDS * usual
    return Demand(start, np.where(fresh, values[index], np.nan), tuple(good))


def read_csv(path: Path) -> Demand:
    """A file with a header and the columns time (Unix seconds) and value.

    Empty values and NaN are gaps. Raises LoadFileError with the line that is wrong.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LoadFileError(f"{path}: cannot be read ({error}); name a CSV file") from error
    samples = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if number == 1 and not _number(cells[0]):
            continue  # the header
        if len(cells) < 2:
            raise LoadFileError(f"{path}:{number}: one column; give time,value")
        if not _number(cells[0]):
            raise LoadFileError(
                f"{path}:{number}:1: {cells[0]!r} is no time; give Unix seconds, such as 1767225600"
            )
        if cells[1] and not _number(cells[1]):
            column = line.index(",") + 2
            raise LoadFileError(
                f"{path}:{number}:{column}: {cells[1]!r} is no number; leave a gap empty"
            )
        samples.append((float(cells[0]), float(cells[1]) if cells[1] else math.nan))
    try:
        return demand(samples)
    except ValueError as error:
        raise LoadFileError(f"{path}: {error}") from error


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
