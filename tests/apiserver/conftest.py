"""One real control plane for the ring."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apiserver.plane import Town, town
from tests.bed.errors import UnavailableError


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A real API server that has our metrics API behind it."""
    try:
        with town(tmp_path_factory.mktemp("town")) as made:
            yield made
    except UnavailableError as error:
        pytest.skip(str(error))
