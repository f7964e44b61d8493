"""The named SQL of this package, read once at import, and how to run much of it at once."""

import re
import sqlite3
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from healer.store import sql_files

_HERE = Path(__file__).parent
_VALUES = re.compile(r"^VALUES (\(.*\))$", re.MULTILINE)
#: SQLite's own limit is 32,766 parameters a statement (since 3.32); this leaves room.
_MOST_PARAMETERS = 8192
#: Up to so many rows a statement has exactly as many as there are.
_EXACT = 64


#: Every statement of `queries.sql` by name.
SQL = sql_files.statements(_HERE / "queries.sql")


def migrations() -> tuple[tuple[int, str], ...]:
    """All migrations as (number, SQL), in order, numbered from 1 without a gap."""
    return sql_files.migrations(_HERE / "migrations")


def split(script: str) -> list[str]:
    """The single statements of a script; a trigger's inner semicolons do not end it."""
    statements: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending.strip())
            pending = ""
    return statements


def insert_rows(connection: sqlite3.Connection, name: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run a statement marked "rows" for all `rows`, in order; returns how many rows it changed.

    Many rows go into one statement, above `_EXACT` in powers of two so that few texts are ever
    prepared. Each step of a statement hands the interpreter lock over, so one step a row would be
    slow beside a busy event loop.
    """
    changed = 0
    start = 0
    while start < len(rows):
        width = len(rows[start])
        most = min(len(rows) - start, _MOST_PARAMETERS // width)
        count = most if most <= _EXACT else 1 << (most.bit_length() - 1)
        values = [value for row in rows[start : start + count] for value in row]
        changed += connection.execute(_repeated(name, count), values).rowcount
        start += count
    return changed


def select_rows(
    connection: sqlite3.Connection, name: str, rows: Sequence[Sequence[Any]]
) -> list[tuple[Any, ...]]:
    """What a SELECT marked "rows" answers for all `rows`, of which there are at most `_EXACT`."""
    values = [value for row in rows for value in row]
    return connection.execute(_repeated(name, len(rows)), values).fetchall()


@cache
def _repeated(name: str, count: int) -> str:
    def widen(match: re.Match[str]) -> str:
        return "VALUES " + ", ".join([match[1]] * count)

    text, found = _VALUES.subn(widen, SQL[name])
    if found != 1:
        raise ValueError(f"statement {name} in queries.sql needs one line of VALUES (…)")
    return text
