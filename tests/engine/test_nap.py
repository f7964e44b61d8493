"""A sleep that can be cut short."""

import asyncio

from healer.kernel.tasks import Nap
from healer.testing.clock import FakeClock


async def _turns(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)  # noqa: TID251 - yields to the loop, no time passes


async def test_a_nap_ends_in_time_or_when_woken_and_loses_no_wake() -> None:
    """A nap lasts its time, ends early when woken, and a wake before it ends the next one only."""
    clock = FakeClock()
    nap = Nap(clock)
    sleeping = asyncio.create_task(nap.sleep(10))
    await _turns()
    clock.advance(9.9)
    await _turns()
    assert not sleeping.done()
    clock.advance(0.1)
    await sleeping

    sleeping = asyncio.create_task(nap.sleep(10))
    await _turns()
    nap.wake()
    await sleeping

    nap.wake()
    await nap.sleep(10)
    sleeping = asyncio.create_task(nap.sleep(10))
    await _turns()
    assert not sleeping.done()
    sleeping.cancel()
    await asyncio.wait({sleeping})
