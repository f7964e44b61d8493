"""An event loop whose time is virtual and which still waits for the journal's real threads.

Time jumps to the next timer whenever nothing else can happen. While somebody works in a thread
(`threads` is not zero) it stands still, so a commit on a real file takes no virtual time at all.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

#: A thread that has not answered by then hangs for good. Seconds of real time.
_PATIENCE = 60.0


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Asks the kernel without waiting; when nothing is ready, moves the loop's time instead."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or self.loop.threads:
            found: list[tuple[selectors.SelectorKey, int]] = super().select(_PATIENCE)
            if not found:
                raise AssertionError("nothing happens any more: no timer, and no thread answers")
            return found
        self.loop.moved += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time begins at 1000 seconds and moves only by timers."""

    def __init__(self) -> None:
        self.moved = 1000.0
        self.threads = 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Virtual seconds."""
        return self.moved

    @contextmanager
    def thread(self) -> Iterator[None]:
        """Time stands still inside."""
        self.threads += 1
        try:
            yield
        finally:
            self.threads -= 1


def in_virtual_time(main: Callable[[VirtualLoop], Awaitable[T]]) -> T:
    """Run `main` to its end on a loop of its own."""
    loop = VirtualLoop()

    async def whole() -> T:
        try:
            return await main(loop)
        finally:
            with loop.thread():
                await loop.shutdown_default_executor()

    try:
        return loop.run_until_complete(whole())
    finally:
        loop.close()
