"""`healer doctor` beside a journal in PostgreSQL: it looks, and leaves everything as it was."""

import json
from pathlib import Path

import asyncpg

from tests.cli.test_commands import healer
from tests.postgres.server import shared


async def test_doctor_looks_at_postgres_and_changes_nothing(tmp_path: Path) -> None:
    """An empty database stays empty; one that is not there is told as bad; a newer schema too."""
    url = shared().dsn(shared().database(str(tmp_path)))

    async def journal(at: str) -> dict[str, str]:
        said = await healer("doctor", "-o", "json", env={"HEALER_STORE__URL": at})
        (found,) = [one for one in json.loads(said.out)["checks"] if one["check"] == "journal"]
        return dict(found)

    assert (await journal(url))["detail"].endswith("healer makes one when it starts")
    connection = await asyncpg.connect(url)
    try:
        assert not await connection.fetchval(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        )
        migrated = await healer("store", "migrate", "--store", url)
        assert migrated.code == 0, migrated.err
        assert (await journal(url))["detail"].endswith("its schema is up to date")
        await connection.execute("INSERT INTO healer_schema (version) VALUES (900)")
        newer = await journal(url)
        assert newer["state"] == "bad"
        assert "newer healer" in newer["detail"]
    finally:
        await connection.close()
    nowhere = await journal("postgresql://localhost:1/none")
    assert nowhere["state"] == "bad"
    assert "cannot be reached" in nowhere["detail"]
