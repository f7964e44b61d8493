"""The journal of a segment on either engine: how healer is told of it, and how it is read after."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from healer.kernel.clock import SystemClock
from healer.store.postgres import PostgresStore
from healer.store.sqlite import SqliteStore
from healer.testing.history import History
from healer.testing.history.reading import read_store
from tests.postgres import Server


class Engine(Protocol):
    """Where the journal of one segment is."""

    replicas: int  #: healers that share it
    longest: float  #: the longest life between two kills: some starts, some work. Seconds

    def settings(self) -> Mapping[str, Any]:
        """The `store` section of healer's settings."""
        ...

    async def read(self) -> History:
        """All that the journal says; nobody writes to it meanwhile, and nothing is changed."""
        ...

    async def discard(self) -> None:
        """It was checked and is not needed any more."""
        ...


@dataclass
class Sqlite:
    """One file; one healer."""

    folder: Path
    replicas: int = 1
    longest: float = 0.5

    @property
    def _path(self) -> Path:
        return self.folder / "journal" / "healer.db"

    def settings(self) -> Mapping[str, Any]:
        """The file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return {"path": str(self._path)}

    async def read(self) -> History:
        """From a copy, because opening a journal ends every lease in it."""
        copy = self.folder / "read"
        shutil.copytree(self._path.parent, copy, dirs_exist_ok=True)
        path = copy / self._path.name
        clock = SystemClock()
        store = await SqliteStore.open(path, clock=clock)
        try:
            facts, runs, episodes = await read_store(store)
        finally:
            await store.close()
        with closing(sqlite3.connect(path)) as connection:
            whole = connection.execute("PRAGMA integrity_check").fetchone()[0]
            if whole != "ok":
                raise RuntimeError(f"{path}: {whole}")
            ids = connection.execute("SELECT id FROM event UNION SELECT id FROM rejected")
            kept = frozenset(row[0].hex() for row in ids)
        shutil.rmtree(copy)
        return History(clock.now(), facts, runs, episodes, kept=kept)

    async def discard(self) -> None:
        """Remove the file."""
        shutil.rmtree(self._path.parent)


@dataclass
class Postgres:
    """A database of its own on a private server; two healers."""

    server: Server
    name: str
    replicas: int = 2
    longest: float = 2.0

    def settings(self) -> Mapping[str, Any]:
        """Its URL; over a Unix socket there is no password in it."""
        return {"url": self.server.new_database(self.name), "connections": 4}

    async def read(self) -> History:
        """As any replica reads it."""
        url = self.server.dsn(self.name)
        clock = SystemClock()
        store = await PostgresStore.open(url, clock=clock, connections=3)
        try:
            facts, runs, episodes = await read_store(store)
        finally:
            await store.close()
        ids = self.server.sql(
            "SELECT encode(id, 'hex') FROM event UNION SELECT encode(id, 'hex') FROM rejected",
            self.name,
        )
        kept = frozenset(row[0] for row in ids)
        return History(clock.now(), facts, runs, episodes, kept=kept)

    async def discard(self) -> None:
        """Remove the database."""
        self.server.sql(f'DROP DATABASE "{self.name}" WITH (FORCE)')
