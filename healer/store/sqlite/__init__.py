"""The embedded journal: one SQLite file, one thread that writes it, one process that owns it."""

from healer.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
