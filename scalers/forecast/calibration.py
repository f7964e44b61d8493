"""Quantiles that stay honest while the load drifts: the level asked for follows what came true.

Adaptive conformal inference (Gibbs & Candès, NeurIPS 2021): after each outcome the level moves by
`RATE` times (wanted - covered), so that the long-run coverage is the wanted one whatever happens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scalers.forecast.ensemble import LEVELS
from scalers.series import Floats

#: How far one outcome moves the level.
RATE = 0.01
#: Levels stay within this; above the last remembered quantile the residual is stretched.
_LOWEST, _HIGHEST = 0.02, 1.1
#: Stretch of the largest remembered residual for each unit of level above it.
_STRETCH = 10.0


@dataclass(slots=True)
class Calibration:
    """The present level for every (bucket, quantile): what is asked of the residuals instead."""

    levels: dict[tuple[int, float], float] = field(default_factory=dict)

    def level(self, bucket: int, quantile: float) -> float:
        """The level whose residual now gives coverage `quantile`."""
        return self.levels.get((bucket, quantile), quantile)

    def outcome(self, bucket: int, quantile: float, *, covered: bool) -> None:
        """A value came in: it was at or below the quantile given for it, or above."""
        moved = self.level(bucket, quantile) + RATE * (quantile - float(covered))
        self.levels[bucket, quantile] = min(max(moved, _LOWEST), _HIGHEST)

    def margins(
        self,
        residuals: Sequence[Sequence[float]],
        columns: "np.ndarray[tuple[int], np.dtype[np.int64]]",
        quantile: float,
    ) -> Floats:
        """What to add to each column of a path so that it is its `quantile`, shape (steps,)."""
        margin = np.empty(len(residuals))
        for bucket, table in enumerate(residuals):
            level = self.level(bucket, quantile)
            edge = np.asarray(table)
            value = float(np.interp(level, LEVELS, edge))
            if level > LEVELS[-1]:
                value += max(float(edge[-1]), 0.0) * _STRETCH * (level - float(LEVELS[-1]))
            margin[bucket] = value
        return np.asarray(margin[columns], dtype=np.float64)

    def to_state(self) -> Mapping[str, float]:
        """As plain JSON."""
        return {f"{bucket}/{quantile}": level for (bucket, quantile), level in self.levels.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, float]) -> "Calibration":
        """The inverse of `to_state`."""
        levels = {}
        for key, level in state.items():
            bucket, _, quantile = key.partition("/")
            levels[int(bucket), float(quantile)] = level
        return cls(levels)
