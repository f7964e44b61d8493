"""Forecasts of many series, made by one worker process beside the event loop.

A fit takes some hundred milliseconds of arithmetic: on the event loop it would delay every answer.
A process that dies is replaced, and the series that it worked on is told why it has no forecast.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from healer.kernel.clock import Clock
from scalers.decision import Predicted
from scalers.forecast import worker
from scalers.forecast.service import Forecast
from scalers.series import DAY_SECONDS, Series

_log = logging.getLogger(__name__)

#: A forecast reaches so far; people, gauges and capacity look at all of it. Seconds.
REACH_SECONDS = DAY_SECONDS
#: An older one is not served. Seconds.
OLDEST_SECONDS = 1800.0
#: One refresh may take so long, a first fit included; then its process is replaced. Seconds.
WORK_SECONDS = 60.0


@dataclass(slots=True)
class _Known:
    identity: str
    until: float  #: end of the series of the newest task
    forecast: Forecast | None = None
    why_none: str = "no forecast was made yet"


class ForecastDesk:
    """Use from one event loop; `run` does one waiting task, the oldest first."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """States are kept in `folder`; no process is started before there is work."""
        self._folder = folder
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._waiting: dict[str, worker.Task] = {}
        self._more = asyncio.Event()
        self._pool: ProcessPoolExecutor | None = None
        self.pid = 0  #: the worker process; 0: there is none
        self.refreshes = 0  #: finished so far

    def offer(self, key: str, identity: str, series: Series, serving: float) -> None:
        """A series as it is now; only a point that was not seen before makes work."""
        known = self._known.get(key)
        if known is None or known.identity != identity:
            known = self._known[key] = _Known(identity, float("-inf"))
        if series.end <= known.until:
            return
        known.until = series.end
        series = series.trimmed()
        self._waiting[key] = worker.Task(
            key, identity, series.start, series.step, series.values.tobytes(),
            series.taught.tobytes(), round(REACH_SECONDS / series.step), serving,
            str(self._folder),
        )  # fmt: skip
        self._more.set()

    def forecast(self, key: str) -> Forecast | None:
        """The newest forecast, however old; None: see `why_none`."""
        known = self._known.get(key)
        return None if known is None else known.forecast

    def why_none(self, key: str) -> str:
        """Why there is no forecast to serve; empty: there is one."""
        known = self._known.get(key)
        if known is None:
            return "nothing was measured yet"
        if known.forecast is None:
            return known.why_none
        age = self._clock.now() - known.forecast.at
        if age > OLDEST_SECONDS:
            return f"the forecast is {age:.0f} s old"
        return ""

    def highest(self, key: str, quantile: float, lead: float) -> Predicted | None:
        """The highest demand between now and `lead` seconds on; None: see `why_none`."""
        known = self._known.get(key)
        if known is None or known.forecast is None or self.why_none(key):
            return None
        found = known.forecast
        passed = max(0.0, self._clock.now() - found.at)
        return Predicted(found.highest(quantile, passed + lead), found.degraded)

    def forget(self, keys: set[str]) -> None:
        """Only these series are known from now on."""
        self._known = {key: one for key, one in self._known.items() if key in keys}
        self._waiting = {key: one for key, one in self._waiting.items() if key in keys}

    async def run(self) -> None:
        """Do the oldest waiting task; wait for one when there is none."""
        while not self._waiting:
            self._more.clear()
            await self._more.wait()
        key = next(iter(self._waiting))
        task = self._waiting.pop(key)
        try:
            async with asyncio.timeout(WORK_SECONDS):
                loop = asyncio.get_running_loop()
                done = await loop.run_in_executor(await self._process(), worker.work, task)
        except (BrokenProcessPool, TimeoutError) as error:
            await self._replace()
            reason = "died" if isinstance(error, BrokenProcessPool) else "took too long"
            _log.warning("the forecaster's process %s", reason, extra={"series": key})
            done = worker.Done(key, task.identity, None, f"the forecaster's process {reason}")
        except Exception as error:  # noqa: BLE001 - told as the reason; other series go on
            _log.exception("a forecast failed", extra={"series": key})
            done = worker.Done(key, task.identity, None, f"the forecast failed: {error!r}")
        self.refreshes += 1
        known = self._known.get(key)
        if known is None or known.identity != done.identity:
            return  # another query by now
        if done.forecast is not None:
            known.forecast = done.forecast
        known.why_none = done.why_none

    async def stop(self) -> None:
        """End the process."""
        await self._replace()

    async def _process(self) -> ProcessPoolExecutor:
        if self._pool is not None:
            return self._pool
        made, self.pid = await asyncio.to_thread(_begun)
        self._pool = made
        return made

    async def _replace(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if self.pid:
            # A fit that hangs does not hear a request to end.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.pid = 0
        await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)


def _begun() -> tuple[ProcessPoolExecutor, int]:
    """The worker process, ready, and its id. Takes about half a second."""
    # Never forked: a copy of an event loop and of its threads' locks is no process.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, context, initializer=worker.settle)
    return pool, pool.submit(os.getpid).result()
