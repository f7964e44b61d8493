"""The named SQL of this package, read once at import."""

from pathlib import Path

from healer.store import sql_files

_HERE = Path(__file__).parent

#: Every statement of `queries.sql` by name.
SQL = sql_files.statements(_HERE / "queries.sql")


def migrations() -> tuple[tuple[int, str], ...]:
    """All migrations as (number, SQL), in order, numbered from 1 without a gap."""
    return sql_files.migrations(_HERE / "migrations")
