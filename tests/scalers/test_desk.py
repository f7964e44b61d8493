"""Forecasts beside the event loop: made, kept, replaced, and never silently missing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from healer.testing.clock import FakeClock
from scalers.forecast import worker
from scalers.forecast.desk import OLDEST_SECONDS, ForecastDesk
from scalers.series import Series

STEP = 300.0
DAYS = 8


def days(clock: FakeClock, scale: float = 1.0) -> Series:
    """A quiet night and a busy day, until now."""
    count = round(DAYS * 86400 / STEP)
    start = clock.now() // STEP * STEP - (count - 1) * STEP
    at = start + STEP * np.arange(count)
    noise = np.random.default_rng(7).normal(0, 1, count)
    values = scale * (60 - 40 * np.cos(2 * np.pi * at / 86400) + noise)
    return Series(start, values, np.ones(count, dtype=bool))


@pytest.fixture
def clock() -> FakeClock:
    """Five in the morning: the load is about to rise."""
    made = FakeClock()
    made.advance(5 * 3600)
    return made


@pytest.fixture
async def desk(tmp_path: Path, clock: FakeClock) -> AsyncIterator[ForecastDesk]:
    """A desk with a process of its own."""
    made = ForecastDesk(tmp_path, clock)
    yield made
    await made.stop()


async def test_a_forecast_sees_the_morning(desk: ForecastDesk, clock: FakeClock) -> None:
    """Two hours ahead of a rising morning more is foreseen than there is, and about as much."""
    series = days(clock)
    desk.offer("web", "q", series, 0.9)
    assert desk.highest("web", 0.9, 7200) is None
    assert "no forecast was made yet" in desk.why_none("web")
    await desk.run()
    found = desk.highest("web", 0.9, 7200)
    assert found is not None
    truth = 60 - 40 * np.cos(2 * np.pi * (series.end + 7200) / 86400)
    assert found.value == pytest.approx(truth, rel=0.1)
    assert found.value > 1.3 * series.values[-1]


async def test_an_old_forecast_is_not_served(desk: ForecastDesk, clock: FakeClock) -> None:
    """Where no points come any more the forecast says how old it is instead of guessing on."""
    desk.offer("web", "q", days(clock), 0.9)
    await desk.run()
    clock.advance(OLDEST_SECONDS + STEP)
    assert desk.highest("web", 0.9, 600) is None
    assert "s old" in desk.why_none("web")


async def test_the_lead_counts_from_now(desk: ForecastDesk, clock: FakeClock) -> None:
    """A forecast that is twenty minutes old is read twenty minutes further on."""
    desk.offer("web", "q", days(clock), 0.9)
    await desk.run()
    before = desk.highest("web", 0.9, 600)
    clock.advance(1200)
    after = desk.highest("web", 0.9, 600)
    assert before is not None
    assert after is not None
    assert after.value > before.value


async def test_a_killed_process_is_replaced(desk: ForecastDesk, clock: FakeClock) -> None:
    """A SIGKILL in the middle of a fit costs that fit; the next one has a new process."""
    desk.offer("web", "q", days(clock), 0.9)
    running = asyncio.create_task(desk.run())
    while not desk.pid:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.01)  # noqa: TID251
    os.kill(desk.pid, signal.SIGKILL)
    await running
    assert "died" in desk.why_none("web")
    clock.advance(STEP)
    desk.offer("web", "q", days(clock), 0.9)
    await desk.run()
    assert desk.why_none("web") == ""


async def test_a_young_series_is_told_what_is_missing(desk: ForecastDesk, clock: FakeClock) -> None:
    """Ten points are no history, and the reason says so."""
    series = days(clock)
    short = Series(series.end - 9 * STEP, series.values[-10:], series.taught[-10:])
    desk.offer("web", "q", short, 0.9)
    await desk.run()
    assert desk.forecast("web") is None
    assert desk.why_none("web")


async def test_what_was_learned_survives_a_restart(
    tmp_path: Path, desk: ForecastDesk, clock: FakeClock
) -> None:
    """The next desk refreshes with the fit of the last one and does not fit again."""
    desk.offer("web", "q", days(clock), 0.9)
    await desk.run()
    [state] = list(tmp_path.glob("*.json"))
    fitted = worker._restored(state, _task(clock, tmp_path)).learned.fitted_at
    clock.advance(STEP)
    again = ForecastDesk(tmp_path, clock)
    again.offer("web", "q", days(clock), 0.9)
    await again.run()
    assert again.why_none("web") == ""
    assert worker._restored(state, _task(clock, tmp_path)).learned.fitted_at == fitted
    await again.stop()


async def test_another_query_begins_anew(
    tmp_path: Path, desk: ForecastDesk, clock: FakeClock
) -> None:
    """A changed query takes nothing over, in memory or on disk; a broken state is learned again."""
    desk.offer("web", "q", days(clock), 0.9)
    await desk.run()
    desk.offer("web", "other", days(clock, scale=100.0), 0.9)
    assert desk.highest("web", 0.9, 600) is None
    await desk.run()
    found = desk.highest("web", 0.9, 600)
    assert found is not None
    assert found.value > 1000
    for state in tmp_path.glob("*.json"):
        state.write_bytes(b'{"version": 1')
    clock.advance(STEP)
    desk.offer("web", "other", days(clock, scale=100.0), 0.9)
    await desk.run()
    assert desk.why_none("web") == ""


def _task(clock: FakeClock, folder: Path) -> worker.Task:
    series = days(clock)
    return worker.Task(
        "web", "q", series.start, STEP, series.values.tobytes(), series.taught.tobytes(),
        round(86400 / STEP), 0.9, str(folder),
    )  # fmt: skip
