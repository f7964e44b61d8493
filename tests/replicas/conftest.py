"""One API server and one PostgreSQL for the ring; a journal and replicas for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.bed.errors import UnavailableError
from tests.crash.plane import PlaneOnly
from tests.postgres import Server, shared
from tests.replicas.house import House, a_house, furnish


@pytest.fixture(scope="session")
def plane() -> Iterator[PlaneOnly]:
    """An API server and its audit log."""
    made = PlaneOnly()
    try:
        made.prepare()
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        made.start()
        furnish(made)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def postgres() -> Server:
    """A private PostgreSQL."""
    try:
        return shared()
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
async def house(tmp_path: Path, plane: PlaneOnly, postgres: Server) -> AsyncIterator[House]:
    """Replicas on one PostgreSQL."""
    async with a_house(tmp_path, plane, postgres) as made:
        yield made


@pytest.fixture
async def alone(tmp_path: Path, plane: PlaneOnly) -> AsyncIterator[House]:
    """One replica on SQLite."""
    async with a_house(tmp_path, plane, None) as made:
        yield made
