"""Facts cannot be changed through SQL, and whoever goes around that is found out."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from healer.domain.pause import Pause
from healer.store.chain import verify_chain
from healer.store.sqlite import SqliteStore
from healer.testing.clock import START, FakeClock


async def written(path: Path, facts: int = 1200) -> SqliteStore:
    store = await SqliteStore.open(path, clock=FakeClock())
    for number in range(facts):
        await store.set_pause(Pause(f"p{number % 3}", "why", "ann", START + number))
    return store


@pytest.mark.parametrize(
    "attempt",
    [
        "UPDATE fact SET detail = 'nothing happened' WHERE seq = 2",
        "DELETE FROM fact WHERE seq = 3",
        "INSERT INTO fact SELECT 9, kind, at, '', '', '', '', data, hash, hash FROM fact",
        "PRAGMA recursive_triggers = ON; REPLACE INTO fact SELECT * FROM fact WHERE seq = 2",
    ],
)
async def test_the_file_refuses_to_change_facts(tmp_path: Path, attempt: str) -> None:
    """The file itself refuses to update, delete or replace facts, or to leave a gap in them."""
    await (await written(tmp_path / "j.db", 3)).close()
    with closing(sqlite3.connect(tmp_path / "j.db")) as connection:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.executescript(attempt)
        assert connection.execute("SELECT count(*) FROM fact").fetchone() == (3,)


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE fact SET detail = 'nothing happened' WHERE seq = 700", 700),
        ("UPDATE fact SET at = at + 1 WHERE seq = 1", 1),
        ("DELETE FROM fact WHERE seq = 1199", 1199),
        ("UPDATE fact SET hash = previous WHERE seq = 1200", 1200),
        ("SELECT 1", None),
    ],
)
async def test_tampering_is_found(tmp_path: Path, tampering: str, found: int | None) -> None:
    """Whoever removes the triggers and edits a fact is found at the first fact that is wrong."""
    await (await written(tmp_path / "j.db")).close()
    with closing(sqlite3.connect(tmp_path / "j.db")) as connection:
        for trigger in ("fact_stays", "fact_remains"):
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(tampering)
        connection.commit()
    store = await SqliteStore.open(tmp_path / "j.db", clock=FakeClock())
    try:
        assert await verify_chain(store) == found
    finally:
        await store.close()
