"""A pytest plugin: fails any test in which healer's own code blocks the event loop over 50 ms.

Measured for each callback of a task whose coroutine comes from `healer` or `scalers`. Processor
time of the loop's thread counts, and waiting in a blocking call does; being preempted by other
processes does not, so a busy machine makes no false alarm.
"""

import asyncio
import gc
import resource
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

LIMIT_SECONDS = 0.05
_ROOT = Path(__file__).resolve().parent.parent
_OURS = (str(_ROOT / "healer"), str(_ROOT / "scalers"))
_original = asyncio.Handle._run
_stalls: list[str] = []
_collecting = [0.0, 0.0]  # processor time when the garbage collector began, and its sum


def _collector(phase: str, _: object) -> None:
    """A full collection of all that a test session has loaded is nobody's stall."""
    if phase == "start":
        _collecting[0] = time.thread_time()
    else:
        _collecting[1] += time.thread_time() - _collecting[0]


def _owner(handle: asyncio.Handle) -> str:
    """The source file and name of the task that this callback advances; empty if not ours."""
    task = getattr(getattr(handle, "_callback", None), "__self__", None)
    if not isinstance(task, asyncio.Task):
        return ""
    coroutine: Any = task.get_coro()
    while getattr(coroutine, "cr_await", None) is not None:
        inner = coroutine.cr_await
        if getattr(inner, "cr_code", None) is None:
            break
        coroutine = inner
    code = getattr(coroutine, "cr_code", None)
    if code is None or not code.co_filename.startswith(_OURS):
        return ""
    return f"{code.co_qualname} ({code.co_filename})"


def _run(handle: asyncio.Handle) -> Any:
    owner = _owner(handle)
    if not owner:
        return _original(handle)
    wall, cpu, collected = time.perf_counter(), time.thread_time(), _collecting[1]
    waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    result = _original(handle)
    busy = time.thread_time() - cpu
    blocked = time.perf_counter() - wall - busy
    waited = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw > waits
    if busy - (_collecting[1] - collected) > LIMIT_SECONDS:
        _stalls.append(f"{owner} computed for {busy * 1000:.0f} ms")
    elif blocked > LIMIT_SECONDS * 4 and waited:
        _stalls.append(f"{owner} waited for {blocked * 1000:.0f} ms in a blocking call")
    return result


def pytest_configure() -> None:
    """Watch from the first callback on."""
    asyncio.Handle._run = _run  # type: ignore[method-assign]
    gc.callbacks.append(_collector)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail the test that saw a stall."""
    _stalls.clear()
    result = yield
    if _stalls and item.get_closest_marker("may_stall") is None:
        pytest.fail("the event loop was blocked: " + "; ".join(_stalls[:5]), pytrace=False)
    return result
