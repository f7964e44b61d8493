"""Whether a load repeats by the day or the week: shown by its own numbers, or not used.

A load whose cycles have nothing in common fits its own past no better in step than out of step. So
the cycles are turned against each other by chance, many times, and the season counts as shown when
its profile stands out of 19 in 20 such turns (a rotation test; the idea of a permuted spectrum is
that of Vlachos et al., On Periodicity Detection and Structural Periodic Similarity, SDM 2005). This
holds for any correlation within a cycle, which a threshold on the autocorrelation does not.
"""

from dataclasses import dataclass

import numpy as np

from scalers.series import Flags, Floats, Series

#: Cycles without which nothing can be shown: one cycle agrees with itself.
LEAST_CYCLES = 2
#: A season is shown when chance does as well this seldom.
SIGNIFICANT = 0.05
#: Points of a day that are looked at: the noise of five minutes says nothing about seasons.
_DAY_CELLS = 24
_TURNS = 400
_SEED = 1


@dataclass(frozen=True, slots=True)
class Season:
    """What the numbers say of a cycle of `days`."""

    days: int
    cycles: int  #: whole cycles of history
    #: Share of the variance that the cycle explains, 0 to 1, corrected for the number of cycles:
    #: the strength of seasonality of Wang, Smith & Hyndman (2006), as the adjusted R² of a profile.
    strength: float
    chance: float  #: how often turned cycles stand out as much; 1 when nothing could be compared

    @property
    def known(self) -> bool:
        """Whether there is enough history to say."""
        return self.cycles >= LEAST_CYCLES

    @property
    def shown(self) -> bool:
        """Whether the load repeats so."""
        return self.known and self.strength > 0 and self.chance <= SIGNIFICANT

    @property
    def absent(self) -> bool:
        """Whether there was enough history to show it, and it did not."""
        return self.known and not self.shown


@dataclass(frozen=True, slots=True)
class Seasons:
    """The day's and the week's."""

    day: Season
    week: Season


def seasons(series: Series) -> Seasons:
    """What `series` shows; stretches that teach nothing say nothing. Some milliseconds."""
    hours, known = _hourly(series)
    plain = _without_trend(hours, known)
    day = _season(_without_level(plain, known), known, 1)
    rest = plain
    if day.shown:
        rest = plain - _profile(plain, known, _DAY_CELLS)[np.arange(len(plain)) % _DAY_CELLS]
    return Seasons(day, _season(rest, known, 7))


def _hourly(series: Series) -> tuple[Floats, Flags]:
    """Means of hours, newest days whole, and where they are known; shape (days * 24,) each."""
    days = len(series) // series.day
    kept = days * series.day
    values, taught = series.values[len(series) - kept :], series.taught[len(series) - kept :]
    cells = np.arange(kept) * _DAY_CELLS // series.day
    size = days * _DAY_CELLS
    count = np.bincount(cells[taught], minlength=size)
    total = np.bincount(cells[taught], weights=values[taught], minlength=size)
    return total / np.maximum(count, 1), count > 0


def _without_trend(hours: Floats, known: Flags) -> Floats:
    """Less a straight line; unknown hours are zero."""
    if known.sum() < 2:
        return np.zeros(len(hours))
    at = np.arange(len(hours))
    line = np.polyfit(at[known], hours[known], 1)
    return np.where(known, hours - np.polyval(line, at), 0.0)


def _without_level(plain: Floats, known: Flags) -> Floats:
    """Less the mean of each day: what differs from day to day is not the shape of a day."""
    if not len(plain):
        return plain
    days, there = plain.reshape(-1, _DAY_CELLS), known.reshape(-1, _DAY_CELLS)
    level = days.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return np.where(there, days - level[:, None], 0.0).ravel()


def _profile(rest: Floats, known: Flags, length: int) -> Floats:
    """Mean of each position in the cycle."""
    there = known.reshape(-1, length).sum(axis=0)
    return np.asarray(rest.reshape(-1, length).sum(axis=0) / np.maximum(there, 1))


def _season(rest: Floats, known: Flags, days: int) -> Season:
    length = days * _DAY_CELLS
    cycles = len(rest) // length
    if cycles < LEAST_CYCLES:
        return Season(days, cycles, 0.0, 1.0)
    table = rest[len(rest) - cycles * length :].reshape(cycles, length)
    there = known[len(rest) - cycles * length :].reshape(cycles, length)
    power = float((table**2).sum())
    if power <= 1e-12 * (1.0 + float(np.abs(rest).max()) ** 2):
        return Season(days, cycles, 0.0, 1.0)
    seen = _explained(table[None], there[None])[0]
    turned, present = _turned(table, there)
    # The load as it is counts as one of the turns (Phipson & Smyth 2010), so chance is never 0.
    better = int((_explained(turned, present) >= seen * (1 - 1e-9)).sum())
    chance = (1 + better) / (1 + len(turned))
    unexplained = (1.0 - seen / power) * cycles / (cycles - 1)
    return Season(days, cycles, min(max(1.0 - unexplained, 0.0), 1.0), chance)


def _explained(tables: Floats, there: Flags) -> Floats:
    """Sum of squares that the mean profile explains, for each of (turns, cycles, length)."""
    count = there.sum(axis=1)
    total = tables.sum(axis=1)
    return np.asarray((total**2 / np.maximum(count, 1)).sum(axis=1))


def _turned(table: Floats, there: Flags) -> tuple[Floats, Flags]:
    """Every cycle but the first turned by its own offset: all pairs of two, else some by chance."""
    cycles, length = table.shape
    if cycles == LEAST_CYCLES:
        offsets = np.stack([np.zeros(length - 1, dtype=np.int64), np.arange(1, length)], axis=1)
    else:
        dice = np.random.default_rng(_SEED)  # the same turns on every replica
        offsets = dice.integers(0, length, (_TURNS, cycles))
    at = (np.arange(length)[None, None] + offsets[:, :, None]) % length
    rows = np.arange(cycles)[None, :, None]
    return table[rows, at], there[rows, at]
