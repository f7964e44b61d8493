"""The journals that are killed, damaged and compared: where each is, and what is in it really."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from healer.ports import Store
from healer.store.postgres import PostgresStore
from healer.store.sqlite import SqliteStore
from healer.testing.clock import FakeClock
from tests.bed.errors import UnavailableError
from tests.postgres import Server, shared


class Journal(Protocol):
    """Where a journal is, and what an eye that is not healer's sees in it."""

    place: str  #: what `crash_worker` is given

    async def open(self) -> Store:
        """As healer opens it."""
        ...

    def check(self, told: dict[str, set[str]]) -> None:
        """All that was told is in it, and it is whole."""
        ...


def compare(
    told: dict[str, set[str]],
    events: set[str],
    steps: list[str],
    closed: set[str],
    intents: list[str],
    locked: list[str],
) -> None:
    """What a worker was told, against what is there."""
    outcomes = {step["key"]: step["outcome"] for step in map(json.loads, steps)}
    assert told["accepted"] <= events
    assert told["intent"] <= outcomes.keys()
    assert told["outcome"] <= {key for key, outcome in outcomes.items() if outcome == "applied"}
    assert told["closed"] <= closed
    assert set(intents) == outcomes.keys()  # both or neither: they were one transaction
    assert not set(locked) & closed


@dataclass
class SqliteJournal:
    """One file."""

    path: Path

    @property
    def place(self) -> str:
        return str(self.path)

    async def open(self) -> Store:
        return await SqliteStore.open(self.path, clock=FakeClock(), accept_seconds=20)

    def check(self, told: dict[str, set[str]]) -> None:
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=rw", uri=True)) as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert file.execute("PRAGMA foreign_key_check").fetchall() == []

            def column(query: str) -> list[str]:
                return [row[0] for row in file.execute(query)]

            compare(
                told,
                {row.lower() for row in column("SELECT hex(id) FROM event")},
                column("SELECT doc FROM step"),
                set(column("SELECT id FROM episode WHERE state = 'closed'")),
                [json.loads(d)["key"] for d in column("SELECT data FROM fact WHERE kind='intent'")],
                column("SELECT episode_id FROM target_lock"),
            )


@dataclass
class PostgresJournal:
    """One database of a private server."""

    server: Server
    name: str

    @property
    def place(self) -> str:
        return self.server.dsn(self.name)

    async def open(self) -> Store:
        return await PostgresStore.open(self.place, clock=FakeClock(), accept_seconds=20)

    def check(self, told: dict[str, set[str]]) -> None:
        def column(query: str) -> list[str]:
            return [row[0] for row in self.server.sql(query, self.name)]

        compare(
            told,
            set(column("SELECT encode(id, 'hex') FROM event")),
            column("SELECT doc FROM step_all"),
            set(column("SELECT id FROM episode WHERE state = 'closed'")),
            [
                json.loads(body)["data"]["key"]
                for body in column("SELECT body FROM fact WHERE kind = 'intent'")
            ],
            column("SELECT episode_id FROM target_lock"),
        )
        stranded = "SELECT run_id FROM step WHERE run_id NOT IN (SELECT id FROM run)"
        assert column(stranded) == []
        assert column("SELECT id FROM run WHERE id IN (SELECT id FROM run_history)") == []


def a_journal(engine: str, folder: Path) -> Journal:
    """An empty journal of `engine`."""
    if engine == "sqlite":
        return SqliteJournal(folder / "journal.db")
    try:
        return PostgresJournal(shared(), shared().database(str(folder)))
    except UnavailableError as error:
        pytest.skip(f"no PostgreSQL: {error}")
