"""T11: a process frozen in the middle of a statement holds up the others for seconds only."""

from __future__ import annotations

import asyncio
import sys

import pytest

from healer.domain.episode import fold
from healer.errors import StoreUnavailable
from healer.store.postgres import PostgresStore
from healer.testing.builders import an_alert
from tests.postgres import Server
from tests.replicas.house import CLOCK, until

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]

#: Takes the turn to fold, then stops between two messages of the next statement.
_FROZEN = """
import asyncio, asyncpg, os, signal, sys
async def main():
    connection = await asyncpg.connect(sys.argv[1])
    await connection.execute("BEGIN")
    await connection.fetchrow(
        "SELECT pg_current_xact_id(), set_config('idle_in_transaction_session_timeout', '1s', true)"
    )
    await connection.fetch("SELECT 1 FROM fold_turn FOR UPDATE")
    await connection.prepare("SELECT 7")
    print("holding", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
asyncio.run(main())
"""


async def test_a_writer_frozen_between_two_messages_is_put_out(postgres: Server) -> None:
    """Folding goes on although a frozen process has the turn in a statement that never ends."""
    dsn = await asyncio.to_thread(postgres.new_database)
    store = await PostgresStore.open(dsn)
    frozen = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _FROZEN, dsn, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert frozen.stdout is not None
        assert await frozen.stdout.readline() == b"holding\n"
        await store.accept([an_alert()], [], CLOCK.now())

        async def folded() -> int:
            try:
                return len(await store.fold(fold, CLOCK.now(), 100))
            except StoreUnavailable:
                return 0

        await until(folded, "the alert to be folded", seconds=40)
    finally:
        frozen.kill()
        await frozen.wait()
        await store.close()
