"""The detector of a blocked event loop, tried on code that blocks."""

import asyncio
import time

import pytest

from tests import stall


async def _compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def _wait(seconds: float) -> None:
    time.sleep(seconds)  # blocks on purpose


@pytest.mark.parametrize("offence", [_compute, _wait])
async def test_code_that_blocks_the_loop_is_named(
    offence: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that computes or waits for 300 ms without yielding is reported by name."""
    monkeypatch.setattr(stall, "_OURS", (__file__,))
    assert callable(offence)
    await asyncio.create_task(offence(0.3))
    found = list(stall._stalls)
    stall._stalls.clear()
    assert len(found) == 1
    assert offence.__name__ in found[0]


async def test_code_that_yields_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that computes little is nobody's concern."""
    monkeypatch.setattr(stall, "_OURS", (__file__,))
    await asyncio.create_task(_tiny())
    assert not stall._stalls


async def _tiny() -> None:
    await asyncio.sleep(0)  # noqa: TID251 - only yields
