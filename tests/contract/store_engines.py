"""Every engine of the Store port, behind one way to open it.

An engine is an async function of a folder and a clock. Called again on the same folder after the
store was closed, it opens what the first one wrote.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from healer.kernel.clock import Clock
from healer.ports import Store
from healer.store.postgres import PostgresStore
from healer.store.sqlite import SqliteStore
from healer.testing.store import MemoryStore
from healer.testing.store_journal import MemoryJournal
from tests.bed.errors import UnavailableError
from tests.postgres import shared
from tests.postgres.pooler import shared_pooler

OpenStore = Callable[[Path, Clock], Awaitable[Store]]


async def _sqlite(folder: Path, clock: Clock) -> Store:
    return await SqliteStore.open(folder / "journal.db", clock=clock, accept_seconds=10.0)


_MEMORY: dict[Path, MemoryJournal] = {}  #: what a folder would hold


async def _memory(folder: Path, clock: Clock) -> Store:
    journal = _MEMORY.setdefault(folder, MemoryJournal())
    return MemoryStore(journal, clock=clock, alone=True)


def _database(folder: Path) -> str:
    """What the folder stands for in PostgreSQL: a database of its own."""
    try:
        return shared().database(str(folder))
    except UnavailableError as error:
        pytest.skip(f"no PostgreSQL: {error}")


async def _postgres(folder: Path, clock: Clock) -> Store:
    url = shared().dsn(_database(folder))
    return await PostgresStore.open(url, clock=clock, accept_seconds=10.0)


async def _postgres_pooled(folder: Path, clock: Clock) -> Store:
    name = _database(folder)
    try:
        url = shared_pooler().dsn(name)
    except UnavailableError as error:
        pytest.skip(f"no transaction-pooling proxy: {error}")
    return await PostgresStore.open(url, clock=clock, accept_seconds=10.0)


ENGINES: dict[str, OpenStore] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "postgres": _postgres,
    "pooled": _postgres_pooled,
}
