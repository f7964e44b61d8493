"""Which schema the database has, and whether this healer can work with it."""

from typing import Any

import asyncpg

from healer.errors import ConfigError
from healer.store.postgres.commits import LOCK_SPACE
from healer.store.postgres.statements import migrations

#: `pg_current_xact_id` and `pg_xact_status(xid8)` are needed.
_OLDEST_SERVER = 130000
#: How many steps a schema may be ahead of this healer: migrations only add, see docs/adr/0004.
_AHEAD = 1
_MIGRATING = 1  #: second half of the advisory lock's key
_MAKE = """
CREATE TABLE IF NOT EXISTS healer_schema (
    version integer PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


async def check_server(connection: Any, name: str) -> bool:
    """Whether a proxy that pools transactions stands in between.

    Raises ConfigError for a server that is too old, or that acknowledges what is not on disk.
    """
    async with connection.transaction():
        pid, fsync, synchronous, version, encoding = await connection.fetchrow(_WHOSE)
    if version < _OLDEST_SERVER:
        raise ConfigError(f"{name}: PostgreSQL {version // 10000} is too old; use 13 or later")
    if encoding != "UTF8":
        raise ConfigError(f"{name}: the database is encoded in {encoding}; make one in UTF8")
    for setting, value in (("fsync", fsync), ("synchronous_commit", synchronous)):
        if value == "off":
            raise ConfigError(
                f"{name}: {setting} is off, so what is acknowledged may be lost; set it to on "
                "(ALTER ROLE … SET, or postgresql.conf)"
            )
    # A proxy gives the client a number of its own instead of the server process's.
    return bool(pid != connection.get_server_pid())


async def migrate(connection: Any, name: str) -> None:
    """Bring the schema up to date; replicas that start together do so one after the other.

    Raises ConfigError, having changed nothing, for the schema of a healer that is newer by more
    than one step, or when we may not make tables.
    """
    known = migrations()
    try:
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK_SPACE}, {_MIGRATING})")
            there = await connection.fetchval("SELECT to_regclass('healer_schema') IS NOT NULL")
            if not there:
                await connection.execute(_MAKE)
            version = await connection.fetchval(
                "SELECT coalesce(max(version), 0) FROM healer_schema"
            )
            if version > len(known) + _AHEAD:
                raise ConfigError(
                    f"{name}: written by a newer healer (schema {version}, this one knows "
                    f"{len(known)}); install that version again, or name another database"
                )
            for number, script in known[version:]:
                await connection.execute(script)
                await connection.execute("INSERT INTO healer_schema (version) VALUES ($1)", number)
    except (asyncpg.SyntaxOrAccessError, asyncpg.InvalidSchemaNameError) as error:
        raise ConfigError(
            f"{name}: the journal's tables cannot be made: {error}; give healer a database of its "
            "own, and its role the right to create tables there"
        ) from error


_WHOSE = """
SELECT pg_backend_pid(), current_setting('fsync'), current_setting('synchronous_commit'),
    current_setting('server_version_num')::int, current_setting('server_encoding')
"""
