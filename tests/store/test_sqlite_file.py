"""Which files the embedded journal opens, and which it refuses without touching them."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from healer.domain.episode import fold
from healer.errors import ConfigError
from healer.store.sqlite import SqliteStore, file
from healer.store.sqlite.statements import SQL, insert_rows, migrations, split
from healer.testing.clock import START, FakeClock
from tests.store.values import alert


async def open_at(path: Path) -> SqliteStore:
    return await SqliteStore.open(path, clock=FakeClock(), accept_seconds=20)


async def test_a_text_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A file that is no database is refused by name, and not one byte of it changes."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look like one " * 40)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"notes\.txt.*name another file"):
        await open_at(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("application", [0, 77])
async def test_another_applications_file_is_refused(tmp_path: Path, application: int) -> None:
    """An SQLite file with tables of another application is refused and not one byte changes."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
        connection.execute(f"PRAGMA application_id = {application}")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"other\.db.*another application"):
        await open_at(path)
    assert path.read_bytes() == before


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A journal of a newer healer is refused with both schema numbers."""
    path = tmp_path / "journal.db"
    await (await open_at(path)).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO schema_version VALUES (99, 0)")
    with pytest.raises(ConfigError, match=r"schema 99.*knows 2"):
        await open_at(path)


async def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """A path whose folder does not exist is refused with the remedy."""
    with pytest.raises(ConfigError, match="must exist and be writable"):
        await open_at(tmp_path / "nowhere" / "journal.db")


async def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python built with an SQLite before 3.35 is refused before a file is made."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(ConfigError, match=r"too old.*3\.35\.0"):
        await open_at(tmp_path / "journal.db")
    assert not (tmp_path / "journal.db").exists()


async def test_a_second_opener_in_the_process_is_refused(tmp_path: Path) -> None:
    """The journal has one owner even within a process, and is free again after close."""
    first = await open_at(tmp_path / "journal.db")
    with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
        await open_at(tmp_path / "journal.db")
    await first.close()
    await (await open_at(tmp_path / "journal.db")).close()


async def test_a_second_process_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    """Another process's lock refuses us by its number, and ends with that process."""
    path = tmp_path / "journal.db"
    script = (
        "import sys, time; from pathlib import Path; from healer.store.sqlite.file import FileLock;"
        f"lock = FileLock(Path({str(path)!r})); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {other.pid}"):
            await open_at(path)
        other.send_signal(signal.SIGKILL)
        other.wait()
    await (await open_at(path)).close()


async def test_the_files_settings(tmp_path: Path) -> None:
    """The writer is durable at every commit, and a reader can neither write nor checkpoint."""
    store = await open_at(tmp_path / "journal.db")
    try:
        with closing(file.open_writer(tmp_path / "journal.db")) as writer:
            assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert writer.execute("PRAGMA synchronous").fetchone() == (2,)
        with closing(file.open_reader(tmp_path / "journal.db")) as reader:
            assert reader.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader.execute("DELETE FROM event")
    finally:
        await store.close()


async def test_reopening_ends_every_lease(tmp_path: Path) -> None:
    """What a dead process held is claimed at once by the next owner of the file."""
    first = await open_at(tmp_path / "journal.db")
    await first.accept([alert("a")], (), START)
    await first.fold(fold, START, 10)
    [held] = await first.claim("old", START, 3600.0, 10)
    await first.close()
    second = await open_at(tmp_path / "journal.db")
    try:
        [taken] = await second.claim("new", START + 1, 30.0, 10)
        assert (taken.episode, taken.epoch) == (held.episode, held.epoch + 1)
    finally:
        await second.close()


def test_statements_are_complete() -> None:
    """Every named statement and migration is one complete SQL text, numbered without a gap."""
    assert all(sqlite3.complete_statement(text + ";") for text in SQL.values())
    assert [number for number, _ in migrations()] == [1, 2]
    for _, script in migrations():
        assert "".join("".join(split(script)).split()) == "".join(script.split())


def test_every_statement_fits_the_schema() -> None:
    """SQLite can prepare every named statement against the migrated schema."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for _, script in migrations():
            connection.executescript(script)
        names = (
            "ahead",
            "episode",
            "firing",
            "limit",
            "now",
            "playbook",
            "source",
            "states",
            "text",
            "zone",
        )
        for text in SQL.values():
            places = text.count("?")
            values: Any = [None] * places if places else dict.fromkeys(names)
            assert connection.execute(f"EXPLAIN {text}", values).fetchone() is not None


@pytest.mark.parametrize("count", [0, 1, 2, 3, 127, 128, 129, 5000])
def test_many_rows_arrive_in_order(count: int) -> None:
    """Rows inserted many at a time arrive all, once and in order."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for _, script in migrations():
            connection.executescript(script)
        rows = [(str(n).encode(), "s", f"{n}", 0, 0.0, "{}") for n in range(count)]
        assert insert_rows(connection, "event_add", rows) == count
        assert insert_rows(connection, "event_add", rows[: count // 2]) == 0
        stored = connection.execute("SELECT fingerprint FROM event ORDER BY seq").fetchall()
        assert stored == [(str(n),) for n in range(count)]
