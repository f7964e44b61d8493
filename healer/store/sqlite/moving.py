"""All rows of the journal out of a file, also of a running daemon, and into a new one."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from healer.domain.alert import Alert
from healer.domain.episode import Episode
from healer.errors import ConfigError, Refused
from healer.kernel.ids import digest
from healer.store.portable import COLUMNS, Row, Tally, tally
from healer.store.rows import decode_episode, decode_run, decode_step
from healer.store.sqlite import runs
from healer.store.sqlite.file import FileLock, open_reader, open_writer, prepare
from healer.store.sqlite.statements import SQL, migrations

_decode_alert = msgspec.json.Decoder(Alert).decode
_SELECT = {
    "event": (
        "SELECT lower(hex(id)), seq <= (SELECT seq FROM folded), received_at, body "
        "FROM event ORDER BY seq"
    ),
    "rejected": "SELECT source, problem, payload, received_at FROM rejected ORDER BY seq",
    "episode": "SELECT doc, zone, owner, epoch, lease_until, wake_at FROM episode ORDER BY seq",
    "run": "SELECT doc FROM run ORDER BY seq",
    "step": "SELECT run_id, doc FROM step ORDER BY seq",
    "approval": "SELECT episode_id, plan_digest, asked_at, doc, run_id FROM approval ORDER BY seq",
    "outbox": "SELECT id, channel, body, attempts, due_at, done FROM outbox ORDER BY seq",
}


def version(path: Path) -> tuple[int, int]:
    """The schema the file has (0: there is none), and the one this healer makes of it."""
    if not path.exists():
        return 0, len(migrations())
    try:
        with closing(open_reader(path)) as connection:
            found = connection.execute("SELECT max(version) FROM schema_version").fetchone()[0]
    except sqlite3.Error as error:
        raise ConfigError(f"{path}: is no journal that can be read: {error}") from error
    return found, len(migrations())


def migrate(path: Path, at: float) -> None:
    """Bring the schema up to date. Raises ConfigError while a daemon has the file."""
    lock = FileLock(path)
    try:
        prepare(path, at)
    finally:
        lock.release()


def damage(path: Path) -> list[str]:
    """What SQLite itself finds wrong with the file."""
    try:
        with closing(open_reader(path)) as connection:
            said = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            lost = connection.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.Error as error:
        return [str(error)]
    return [*(line for line in said if line != "ok"), *(f"{row[0]}: dangling" for row in lost)]


def rows(path: Path) -> Iterator[Row]:
    """Every row as of one moment; a daemon may be running. Raises ConfigError for no journal."""
    if not path.exists():
        raise ConfigError(f"{path}: there is no journal; name the file with --store")
    try:
        with closing(open_reader(path)) as connection:
            connection.execute("BEGIN")
            for table, columns in COLUMNS.items():
                sql = _SELECT.get(table, f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1")  # noqa: S608 - names of our own
                for row in connection.execute(sql):
                    yield table, list(row)
    except sqlite3.Error as error:
        raise ConfigError(f"{path}: the journal cannot be read: {error}") from error


def fill(path: Path, source: Iterable[Row], at: float, expected: Tally) -> Tally:
    """Make a journal at `path` of all rows; every claim in it is over (epoch + 1).

    It has its name only when it is complete. Raises Refused when there is a file already.
    """
    if path.exists():
        raise Refused(f"{path}: there is a journal already; move it away first")
    part = path.with_name(path.name + ".part")
    for leftover in (part, *(part.with_name(part.name + end) for end in ("-wal", "-shm"))):
        leftover.unlink(missing_ok=True)
    lock = FileLock(path)
    try:
        prepare(part, at)
        with closing(open_writer(part)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for table, group in groupby(source, key=lambda row: row[0]):
                _insert(connection, table, (values for _, values in group))
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        found = tally(rows(part))
        found.require_whole(str(path))
        expected.require_same(found, str(path))
        for end in ("-wal", "-shm"):
            part.with_name(part.name + end).unlink(missing_ok=True)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
        lock.release()
    return found


def _insert(connection: sqlite3.Connection, table: str, values: Iterable[list[Any]]) -> None:
    if table == "run":
        made = (runs.row(decode_run(doc)) for (doc,) in values)
        connection.executemany(SQL["run_write"], made)
    elif table == "step":
        steps = (runs.step_row(run_id, decode_step(doc)) for run_id, doc in values)
        connection.executemany(SQL["step_write"], steps)
    elif table == "event":
        for id_, folded, received_at, body in values:
            alert = _decode_alert(body)
            row = (bytes.fromhex(id_), alert.source, alert.fingerprint, alert.polled_at is not None)
            connection.execute(SQL["event_add"], (*row, received_at, body))
            if folded:
                connection.execute("UPDATE folded SET seq = (SELECT max(seq) FROM event)")
    elif table == "rejected":
        for source, problem, payload, received_at in values:
            id_ = bytes.fromhex(digest(source, problem, payload))
            connection.execute(SQL["rejected_add"], (id_, source, problem, payload, received_at))
    elif table == "episode":
        made_of = (_episode(decode_episode(row[0]), row) for row in values)
        connection.executemany(_EPISODE, made_of)
    else:
        columns = COLUMNS[table]
        places = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - names of our own
        connection.executemany(sql, values)


_EPISODE = """
INSERT INTO episode (
    id, source, fingerprint, ordinal, name, state, firing, severity_rank, opened_at, next_at,
    playbook, target, doc, zone, owner, epoch, lease_until, wake_at
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def _episode(episode: Episode, row: list[Any]) -> tuple[Any, ...]:
    doc, zone, owner, epoch, _, wake_at = row
    return (
        episode.id, episode.source, episode.fingerprint, episode.ordinal, episode.name,
        episode.state, episode.firing, episode.severity_rank, episode.opened_at, episode.next_at,
        episode.playbook, episode.target, doc, zone, owner, epoch + 1, 0.0, wake_at,
    )  # fmt: skip
