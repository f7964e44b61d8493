"""The file of the journal: who owns it, whether it is ours, and which schema it has."""

import fcntl
import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from healer.errors import ConfigError, StoreUnavailable
from healer.store.sqlite.statements import SQL, migrations, split

#: Written into the file's header (`PRAGMA application_id`): "heal" in ASCII.
APPLICATION_ID = 0x6865616C
#: RETURNING, generated columns and upserts on several rows need it.
OLDEST_SQLITE = (3, 35, 0)
#: How long another process may hold the file before a write is given up, milliseconds. Nobody
#: should hold it at all; an administrator's `sqlite3` shell might, for a moment.
_BUSY_MS = 40
#: Pages in the write-ahead log after which a commit moves them into the file, even under load.
_CHECKPOINT_PAGES = 4000
_WAL_KEPT_BYTES = 64 * 1024 * 1024
#: A last fact this much later than now is no set-back of the clock.
_SKEW_SECONDS = 5.0

_log = logging.getLogger(__name__)


class FileLock:
    """An exclusive lock on `<db>.lock`, held until released or the process ends.

    Raises ConfigError when another process holds it.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot be opened ({error.strerror}); the folder of the journal must "
                "exist and be writable for healer"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise ConfigError(
                f"{database}: another healer (process {holder}) owns this journal; run one replica "
                "on SQLite with strategy Recreate, or use PostgreSQL for more"
            ) from error
        os.truncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let another process have it. The lock file stays: removing it would let two in."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def prepare(path: Path, at: float) -> None:
    """Make the file, or check that it is ours and bring its schema up to date.

    Raises ConfigError, having changed nothing, for a file of anything else or of a newer healer.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ConfigError(
            f"SQLite {sqlite3.sqlite_version} is too old; healer needs "
            f"{'.'.join(map(str, OLDEST_SQLITE))} or later: use a newer Python build"
        )
    try:
        with closing(_connect(path, "rwc")) as connection:
            _check_ours(connection, path)
            _migrate(connection, path, at)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") in {"SQLITE_NOTADB", "SQLITE_CORRUPT"}:
            raise ConfigError(
                f"{path}: not a healer journal, or damaged ({error}); name another file, or "
                "restore this one from a backup"
            ) from error
        if getattr(error, "sqlite_errorname", "") in {"SQLITE_FULL", "SQLITE_BUSY"}:
            raise StoreUnavailable(f"{path}: the journal cannot be opened now ({error})") from error
        raise ConfigError(
            f"{path}: the journal cannot be opened ({error}); the file and its folder must be "
            "readable and writable for healer, on a local disk"
        ) from error


def _check_ours(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (application or tables):
        raise ConfigError(
            f"{path}: an SQLite file of another application (id {application:#x}, {tables} "
            "objects); name a file of healer's own"
        )


def _migrate(connection: sqlite3.Connection, path: Path, at: float) -> None:
    known = migrations()
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise ConfigError(
            f"{path}: this file system does not support a write-ahead log (got {mode}); put the "
            "journal on a local disk, never on NFS"
        )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    new = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    version = (
        0 if new else connection.execute("SELECT max(version) FROM schema_version").fetchone()[0]
    )
    if version > len(known):
        connection.execute("ROLLBACK")
        raise ConfigError(
            f"{path}: written by a newer healer (schema {version}, this one knows {len(known)}); "
            "install that version again, or name another file"
        )
    for number, script in known[version:]:
        for statement in split(script):
            connection.execute(statement)
        connection.execute("INSERT INTO schema_version (version, at) VALUES (?, ?)", (number, at))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    # Whoever held a lease died with its process: this one owns the file now.
    connection.execute(SQL["leases_end"])
    _come_back(connection, at)
    connection.execute("COMMIT")


def _come_back(connection: sqlite3.Connection, now: float) -> None:
    """The clock was set back since the last fact: what was to come moves back by as much.

    Otherwise everything would wait for the old time to come again. Intents keep their time: it is
    part of what they asked the API server for.
    """
    row = connection.execute(SQL["future_by"], {"now": now}).fetchone()
    if row is None or row[0] <= _SKEW_SECONDS:
        return
    _log.warning("the clock was set back while nobody served", extra={"seconds": row[0]})
    for name in (
        "future_episodes", "future_runs", "future_verifications", "future_buckets",
        "future_messages",
    ):  # fmt: skip
        connection.execute(SQL[name], {"now": now, "ahead": row[0]})


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes and moves the log into the file; it never makes the file."""
    connection = _connect(path, "rw")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA recursive_triggers = ON")  # REPLACE would slip past the triggers
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
    connection.execute("PRAGMA cache_size = -16000")
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that can neither write nor checkpoint.

    Two connections that do either at once can corrupt a file with SQLite before 3.51.3 (the
    "WAL reset" bug), so every reader is read-only by its open mode and by `query_only`.
    """
    connection = _connect(path, "ro")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=1024,
    )
    try:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        connection.execute("PRAGMA trusted_schema = OFF")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
