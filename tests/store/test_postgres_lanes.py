"""What goes wrong in a group reaches those who wait for it, and no later group."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from healer.errors import StoreUnavailable
from healer.store.postgres import PostgresStore
from healer.store.postgres.connections import Database, Transaction, View
from healer.store.postgres.lanes import Lane
from healer.store.postgres.looks import Looks
from tests.bed.errors import UnavailableError
from tests.postgres import shared


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    try:
        url = shared().dsn(shared().database(str(tmp_path)))
    except UnavailableError as error:
        pytest.skip(f"no PostgreSQL: {error}")
    store = await PostgresStore.open(url)
    yield store._database
    await store.close()


async def echo(_: Transaction | View, arguments: Sequence[Any]) -> Sequence[Any]:
    """Each argument is its answer; an exception is raised, and what is None has no answer."""
    for each in arguments:
        if isinstance(each, Exception):
            raise each
    return [each for each in arguments if each is not None]


async def test_a_lane_outlives_what_goes_wrong_in_a_group(database: Database) -> None:
    """After an error nobody expected, and after a missing answer, the waiting are told at once and
    the lane's only worker does the next group."""
    lane = Lane(
        database, echo, workers=1, group_weight=1, queue_weight=10, seconds=20.0,
        given=lambda: None,
    )  # fmt: skip

    async def submit(argument: object) -> Any:
        return await lane.submit("write", argument, 1, 20.0, abandon=False)

    async with asyncio.timeout(60):
        with pytest.raises(RuntimeError, match="planted"):
            await submit(RuntimeError("planted"))
        with pytest.raises(StoreUnavailable, match="may or may not"):
            await submit(None)
        assert await submit("after") == "after"
        await lane.close()


async def test_questions_outlive_what_goes_wrong_in_a_group(database: Database) -> None:
    """After an error nobody expected, and after a missing answer, those who asked are told at once
    and the next question is answered."""
    looks: Looks[Any, Any] = Looks(database, echo)
    async with asyncio.timeout(60):
        with pytest.raises(RuntimeError, match="planted"):
            await looks.ask(RuntimeError("planted"))
        with pytest.raises(ValueError, match="shorter"):
            await looks.ask(None)
        assert await asyncio.gather(looks.ask(1), looks.ask(2)) == [1, 2]
        await looks.close()
