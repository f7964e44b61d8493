"""One refresh of one series, in a process of its own: its state is a file that survives restarts.

Imported by the worker process; numpy and statsmodels are imported there and not before `settle`.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

#: Lower than everything that answers the API server.
NICENESS = 10


@dataclass(frozen=True, slots=True)
class Task:
    """A series, and what is wanted of it. Plain values, so that they are cheap to send."""

    key: str
    identity: str  #: changes when the numbers mean something else: then nothing is taken over
    start: float
    step: float
    values: bytes  #: float64
    taught: bytes  #: bool
    steps: int
    serving: float
    folder: str  #: where states are kept


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it: the forecast's fields, or why there is none."""

    key: str
    identity: str
    forecast: Any  #: scalers.forecast.service.Forecast, or None
    why_none: str = ""


def settle() -> None:
    """Called once in the worker process: low priority, and one thread for linear algebra."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.nice(NICENESS)


def work(task: Task) -> Done:
    """Judge, refit when due, forecast, and keep the state."""
    import numpy as np

    from scalers.forecast.ensemble import TooShortError
    from scalers.series import Series

    series = Series(
        task.start,
        np.frombuffer(task.values, dtype=np.float64).copy(),
        np.frombuffer(task.taught, dtype=np.bool_).copy(),
        task.step,
    )
    path = state_file(Path(task.folder), task.key, task.identity)
    forecaster = _restored(path, task)
    try:
        if forecaster.due(series):
            forecaster.refit(series)
        forecast = forecaster.refresh(series)
    except TooShortError as error:
        return Done(task.key, task.identity, None, str(error))
    keep(path, forecaster.to_state())
    return Done(task.key, task.identity, forecast)


def state_file(folder: Path, key: str, identity: str) -> Path:
    """Where the state of this series is kept."""
    return folder / (hashlib.sha256(f"{key}\n{identity}".encode()).hexdigest()[:40] + ".json")


def keep(path: Path, state: bytes) -> None:
    """Whole or not at all. A state that cannot be kept is learned again after a restart."""
    fresh = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(state)
        fresh.replace(path)
    except OSError as error:
        _log.warning("a forecast's state is not kept", extra={"error": str(error)})


def _restored(path: Path, task: Task) -> Any:
    from scalers.forecast.service import SeriesForecaster

    try:
        found = SeriesForecaster.from_state(path.read_bytes())
    except FileNotFoundError:
        return SeriesForecaster(task.steps, task.serving)
    except (OSError, ValueError) as error:
        _log.warning("a forecast's state is learned again", extra={"error": str(error)})
        return SeriesForecaster(task.steps, task.serving)
    if (found.steps, found.serving) != (task.steps, task.serving):
        return SeriesForecaster(task.steps, task.serving)
    return found
