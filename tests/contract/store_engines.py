"""Every engine of the Store port, behind one way to open it.

An engine is an async function of a folder and a clock. Called again on the same folder after the
store was closed, it opens what the first one wrote.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from healer.kernel.clock import Clock
from healer.ports import Store
from healer.store.sqlite import SqliteStore

OpenStore = Callable[[Path, Clock], Awaitable[Store]]


async def _sqlite(folder: Path, clock: Clock) -> Store:
    return await SqliteStore.open(folder / "journal.db", clock=clock, accept_seconds=10.0)


ENGINES: dict[str, OpenStore] = {"sqlite": _sqlite}
