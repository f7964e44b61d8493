"""Every engine of the Store port, behind one way to open it.

An engine is an async function of a folder and a clock. Called again on the same folder after the
store was closed, it opens what the first one wrote.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from healer.kernel.clock import Clock
from healer.ports import Store
from healer.store.sqlite import SqliteStore
from healer.testing.store import MemoryStore
from healer.testing.store_journal import MemoryJournal

OpenStore = Callable[[Path, Clock], Awaitable[Store]]


async def _sqlite(folder: Path, clock: Clock) -> Store:
    return await SqliteStore.open(folder / "journal.db", clock=clock, accept_seconds=10.0)


_MEMORY: dict[Path, MemoryJournal] = {}  #: what a folder would hold


async def _memory(folder: Path, clock: Clock) -> Store:
    journal = _MEMORY.setdefault(folder, MemoryJournal())
    return MemoryStore(journal, clock=clock, alone=True)


ENGINES: dict[str, OpenStore] = {"memory": _memory, "sqlite": _sqlite}
