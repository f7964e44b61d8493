"""A real API server with controllers and simulated kubelets, for the faults of the network."""

from collections.abc import Iterator

import pytest

from tests.bed.cluster import Options
from tests.bed.errors import UnavailableError
from tests.bed.simulated import SimulatedCluster


@pytest.fixture(scope="session")
def plane() -> Iterator[SimulatedCluster]:
    """A control plane of this ring's own: what is done to it, nobody else feels."""
    cluster = SimulatedCluster(
        # A busy machine must not make the controllers take the nodes for dead.
        Options(nodes=2, node_monitor_grace="300s", toleration_seconds=600)
    )
    try:
        cluster.start()
    except UnavailableError as error:
        pytest.skip(str(error))
    yield cluster
    cluster.stop()
