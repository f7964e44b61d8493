"""Load as numbers on a regular grid: what was measured, what was filled in, what must not teach."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

#: Distance of two points of a demand series, seconds.
STEP_SECONDS = 300.0
DAY_SECONDS = 86400.0
#: What is kept of a series at least: three weeks, more than two cycles of a weekly season.
KEPT_DAYS = 21
#: Gaps up to this long are filled by a straight line; longer ones are filled and masked. Seconds.
BRIDGED_SECONDS = 1800.0
#: Points outside these quantiles of the series' last week are clipped to them before a fit.
OUTLIER_QUANTILES = (0.001, 0.999)
#: The newest points are never clipped: half an hour of them is a change and not an outlier.
_AS_MEASURED = 6


@dataclass(frozen=True, slots=True)
class Series:
    """Values at `start + i * step`; never NaN. `taught` is False where a model must not learn.

    Shapes: `values` and `taught` are (n,). Units: `start` Unix seconds, `step` seconds, `values`
    whatever the demand is counted in.
    """

    start: float
    values: Floats
    taught: Flags
    step: float = STEP_SECONDS
    gaps: int = field(default=0)  #: points that were not measured

    def __post_init__(self) -> None:
        if self.values.shape != self.taught.shape or self.values.ndim != 1:
            raise ValueError("a series needs one flag for each value")
        if not np.isfinite(self.values).all():
            raise ValueError("a series has only finite values; leave out what was not measured")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def day(self) -> int:
        """Points in a day."""
        return round(DAY_SECONDS / self.step)

    @property
    def end(self) -> float:
        """Time of the last point, Unix seconds."""
        return self.start + (len(self) - 1) * self.step

    def masked(self, windows: Iterable[tuple[float, float]]) -> "Series":
        """The same series that teaches nothing within `windows` (from, to; Unix seconds).

        Incidents and deploys are such windows: an outage must not teach a model that the load is
        low on Tuesdays.
        """
        times = self.start + self.step * np.arange(len(self))
        taught = self.taught.copy()
        for begin, end in windows:
            taught &= ~((times >= begin) & (times <= end))
        return replace(self, taught=taught)

    def until(self, length: int) -> "Series":
        """The first `length` points."""
        return replace(self, values=self.values[:length], taught=self.taught[:length])

    def trimmed(self) -> "Series":
        """The newest three to four weeks; whole weeks are dropped, so that phases stay the same.

        What a model learned of a season holds by position in the day and the week.
        """
        week = 7 * self.day
        surplus = len(self) - KEPT_DAYS * self.day
        skip = max(0, surplus // week * week)
        return replace(
            self,
            start=self.start + skip * self.step,
            values=self.values[skip:],
            taught=self.taught[skip:],
        )

    def for_models(self) -> Floats:
        """Values with outliers clipped and untaught stretches replaced by the day before.

        What models are fitted on and predict from; the present end is kept as measured, so that a
        real jump is seen at once.
        """
        values = self.values.copy()
        for index in np.flatnonzero(~self.taught):
            before = index - self.day
            if before >= 0:
                values[index] = values[before]
        older = values[:-_AS_MEASURED]
        if len(older) >= self.day:
            low, high = np.quantile(older[-7 * self.day :], OUTLIER_QUANTILES)
            np.clip(older, low, high, out=older)
        return values


def on_grid(
    samples: Sequence[tuple[float, float]], step: float = STEP_SECONDS, *, now: float | None = None
) -> Series:
    """The samples (Unix seconds, value) as the mean of each `step`, ending before `now`.

    Points lie on multiples of `step`, so every replica makes the same grid of the same samples. A
    cell whose step is not over at `now` is left out. NaN and infinite samples are left out.
    Raises ValueError when nothing is left.
    """
    cells: dict[int, list[float]] = {}
    for at, value in samples:
        if np.isfinite(value) and np.isfinite(at):
            cell = int(at // step)
            if now is None or (cell + 1) * step <= now:
                cells.setdefault(cell, []).append(value)
    if not cells:
        raise ValueError("a series needs at least one finite sample")
    first, last = min(cells), max(cells)
    measured = np.full(last - first + 1, np.nan)
    for cell, values in cells.items():
        measured[cell - first] = float(np.mean(values))
    return from_cells(first, measured, step)


def from_cells(first: int, measured: Floats, step: float = STEP_SECONDS) -> Series:
    """The series whose i-th point is cell `first + i`; NaN: it was not measured.

    Gaps are bridged by straight lines; a long one teaches nothing. Raises ValueError when nothing
    was measured.
    """
    known = np.flatnonzero(~np.isnan(measured))
    if not len(known):
        raise ValueError("a series needs at least one finite sample")
    begin, end = int(known[0]), int(known[-1]) + 1
    first, measured = first + begin, measured[begin:end]
    missing = np.isnan(measured)
    index = np.arange(len(measured))
    filled = np.interp(index, index[~missing], measured[~missing])
    taught = ~_long_gaps(missing, round(BRIDGED_SECONDS / step))
    return Series(first * step, filled, taught, step, int(missing.sum()))


def _long_gaps(missing: Flags, bridged: int) -> Flags:
    """Where more than `bridged` points in a row are missing."""
    long = np.zeros_like(missing)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end - begin > bridged:
            long[begin:end] = True
    return long
