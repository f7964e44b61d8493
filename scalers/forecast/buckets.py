"""Horizon buckets: models are ranked, and errors remembered, for each reach of the forecast."""

import numpy as np
import numpy.typing as npt

#: Last step of each bucket at 288 steps a day: 5 min, 15 min, 30 min, 1 h, 2 h, 6 h, 24 h.
_LAST = (1, 3, 6, 12, 24, 72, 288)


def edges(steps: int, day: int) -> list[tuple[int, int]]:
    """Half-open column ranges of a path of `steps` points, one for each bucket that it reaches."""
    ranges = []
    begin = 0
    for last in _LAST:
        end = min(steps, max(begin + 1, round(last * day / 288)))
        if end > begin:
            ranges.append((begin, end))
        begin = end
        if begin >= steps:
            break
    if begin < steps:
        ranges[-1] = (ranges[-1][0], steps)
    return ranges


def column_bucket(steps: int, day: int) -> npt.NDArray[np.int64]:
    """The bucket of every column, shape (steps,)."""
    out = np.zeros(steps, dtype=np.int64)
    for index, (begin, end) in enumerate(edges(steps, day)):
        out[begin:end] = index
    return out
