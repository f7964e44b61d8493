"""An event loop in which time is a number and chance is a seed: nothing real ever happens in it.

What is ready runs in an order drawn from the seed; when nothing is, time jumps to the next timer.
The same seed therefore runs the same program in exactly the same way, in microseconds an event.
"""

import asyncio
import contextvars
import heapq
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: The process that a callback belongs to; None: the world around the processes.
CURRENT: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


class Killed(asyncio.CancelledError):
    """This process was killed: whoever gets this runs on as a ghost that touches nothing."""


class Process:
    """One simulated operating-system process: its tasks are suspended and killed together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.suspended = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.held: list[Handle] = []  #: what became ready while it was suspended

    def check(self) -> None:
        """Raises Killed when it is no longer alive: a ghost reaches nothing outside itself."""
        if not self.alive:
            raise Killed(self.name)

    def add(self, task: asyncio.Task[Any]) -> None:
        """Keep the task, to be ended with the process."""
        if len(self.tasks) > 200:
            self.tasks = [each for each in self.tasks if not each.done()]
        self.tasks.append(task)


class Handle:
    """A callback that waits for its turn."""

    __slots__ = ("args", "callback", "cancelled_", "context", "when_")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
        when: float = 0.0,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context if context is not None else contextvars.copy_context()
        self.cancelled_ = False
        self.when_ = when

    def cancel(self) -> None:
        """It will not run."""
        self.cancelled_ = True

    def cancelled(self) -> bool:
        """Whether it will not run."""
        return self.cancelled_

    def when(self) -> float:
        """Its time, in seconds of the loop."""
        return self.when_


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Virtual time and a seeded order; see the head of this file."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - a seed, no secret
        self._now = 0.0
        self._ready: list[Handle] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._count = 0
        self._running = False
        self._begun: list[asyncio.Task[Any]] = []
        self.events = 0  #: callbacks that were run
        self.failures: list[str] = []  #: what nobody caught
        self.on_kill: Callable[[Process], None] = lambda process: None

    # ------------------------------------------------------------------ running

    def run_until_complete(self, future: Any) -> Any:
        """Run until `future` is done; raises RuntimeError when nothing is left that could do it."""
        task = asyncio.ensure_future(future, loop=self)
        self._run(task.done)
        if not task.done():
            raise RuntimeError("nothing is left to run, and what was waited for has not happened")
        return task.result()

    def drain(self) -> None:
        """Run what is ready, and what that makes ready, without letting time pass."""
        self._timers.clear()
        self._run(lambda: not self._ready)
        self._timers.clear()

    def _run(self, done: Callable[[], bool]) -> None:
        before = asyncio._get_running_loop()  # noqa: SLF001 - what every event loop does
        asyncio._set_running_loop(self)  # noqa: SLF001
        self._running = True
        ready, dice = self._ready, self._dice
        try:
            while not done():
                if not ready and not self._advance():
                    return
                # Any of what is ready may be next: the last takes its place.
                place = int(dice.random() * len(ready)) if len(ready) > 1 else 0
                handle = ready[place]
                last = ready.pop()
                if last is not handle:
                    ready[place] = last
                if handle.cancelled_:
                    continue
                process = handle.context.get(CURRENT)
                if process is not None and process.suspended:
                    process.held.append(handle)
                    continue
                self.events += 1
                try:
                    handle.context.run(handle.callback, *handle.args)
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as error:  # noqa: BLE001 - what a loop does with it
                    self.failures.append(f"{type(error).__name__}: {error}")
        finally:
            self._running = False
            asyncio._set_running_loop(before)  # noqa: SLF001

    def _advance(self) -> bool:
        """Go on to the next timer; False when there is none."""
        timers = self._timers
        while timers and timers[0][2].cancelled_:
            heapq.heappop(timers)
        if not timers:
            return False
        self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            handle = heapq.heappop(timers)[2]
            if not handle.cancelled_:
                self._ready.append(handle)
        return True

    def resume(self, process: Process) -> None:
        """Wake a suspended process: all that became ready meanwhile runs now."""
        process.suspended = False
        self._ready += process.held
        process.held = []

    def kill(self, process: Process) -> None:
        """End a process at this very moment. What is left of its tasks unwinds as a ghost."""
        if not process.alive:
            return
        process.alive = False
        self.resume(process)
        for task in process.tasks:
            if not task.done():
                task.cancel()
        process.tasks = []
        self.on_kill(process)

    # ------------------------------------------------------------------ asyncio.AbstractEventLoop

    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Run it after what runs now, in an order drawn from the seed."""
        handle = Handle(callback, args, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Run it when virtual time has come to `when`."""
        handle = Handle(callback, args, context, when)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Run it `delay` virtual seconds from now."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def world_later(self, delay: float, callback: Callable[..., object], *args: Any) -> None:
        """As `call_later`, but of no process: it happens also while that one stands still."""
        self.call_later(delay, callback, *args, context=contextvars.Context())

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **more: Any,
    ) -> asyncio.Task[Any]:
        """A task of this loop and of the process that makes it."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        process = (context.get(CURRENT) if context is not None else None) or CURRENT.get()
        if process is not None:
            process.add(task)
            if not process.alive:
                task.cancel()
        return task

    def begin(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Begin something nobody waits for."""
        self._begun.append(self.create_task(coro))

    def within(self, process: Process, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task as the first of its kind in `process`."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, process)
        return self.create_task(coro, context=context)

    def get_debug(self) -> bool:
        """Never."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """There is no debugging in it."""

    def is_running(self) -> bool:
        """Whether it runs now."""
        return self._running

    def is_closed(self) -> bool:
        """It has nothing to close."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody caught; a simulation with any of it has failed."""
        error = context.get("exception")
        self.failures.append(f"{context.get('message')}: {type(error).__name__}: {error}")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """The same."""
        self.call_exception_handler(context)
