"""The test bed as a pytest plugin: `pytest_plugins = ["tests.bed.fixtures"]`.

It must be loaded from tests/conftest.py, so that its options are known in time.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.bed.alertmanager import Alertmanager
from tests.bed.builds import binary
from tests.bed.cache import say
from tests.bed.choose import KINDS, choose, running
from tests.bed.cluster import Cluster, Options
from tests.bed.errors import UnavailableError
from tests.bed.exporter import StateMetrics
from tests.bed.images import app_archive
from tests.bed.prometheus import Prometheus, Scrape

PROGRAMS = {"prometheus": "prometheus", "alertmanager": "alertmanager"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options that say which cluster to test on."""
    group = parser.getgroup("test bed")
    group.addoption("--cluster", default="auto", help=f"cluster to use: {' | '.join(KINDS)}")
    group.addoption("--own-cluster", action="store_true", help="leave a cluster that is up alone")
    group.addoption("--nodes", type=int, default=3, help="nodes of a cluster started for the run")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build before the first test, so that no test's time limit meets a compiler."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "cluster" not in wanted or _left_running(session.config) is not None:
        return
    try:
        cluster = choose(session.config.getoption("cluster")).cluster
        cluster.prepare()
        for fixture, program in PROGRAMS.items():
            if fixture in wanted:
                binary(program)
    except UnavailableError:
        return  # the fixture says so again, as the reason of a skip


def _left_running(config: pytest.Config) -> Cluster | None:
    """The cluster `up` left running, when it will do."""
    found = None if config.getoption("own_cluster") else running()
    if found is None or config.getoption("cluster") not in {"auto", found.kind}:
        return None
    return found


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """One cluster for the whole run: the one `up` left running, or one of our own."""
    wanted = pytestconfig.getoption("cluster")
    found = _left_running(pytestconfig)
    if found is not None:
        say(f"bed: using the cluster that is up ({found.kind})")
        yield found
        return
    try:
        choice = choose(wanted, Options(nodes=pytestconfig.getoption("nodes")))
        say(f"bed: taking a {choice.cluster.kind} cluster: {choice.reason}")
        choice.cluster.start()
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        if choice.cluster.kind == "kind":
            choice.cluster.import_image(app_archive())
        yield choice.cluster
    finally:
        choice.cluster.stop()


@pytest.fixture(scope="session")
def real_cluster(cluster: Cluster, pytestconfig: pytest.Config) -> Cluster:
    """The cluster, for tests that need containers that truly run."""
    if not cluster.real_nodes:
        reason = "--cluster or HEALER_BED_CLUSTER asks for it"
        if pytestconfig.getoption("cluster") == "auto":
            reason = choose().reason
        pytest.skip(f"needs real nodes, and this is a {cluster.kind} cluster: {reason}")
    return cluster


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of this test's own, deleted after it."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40]
    name = f"{words.strip('-')}-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def state_metrics(cluster: Cluster) -> Iterator[StateMetrics]:
    """The stand-in for kube-state-metrics; its `target` is what Prometheus is told."""
    exporter = StateMetrics(cluster).start()
    yield exporter
    exporter.stop()


@pytest.fixture
def prometheus(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """Start a Prometheus of this test's own: `prometheus(Scrape(...))`."""
    started: list[Prometheus] = []

    def start(scrape: Scrape | None = None) -> Prometheus:
        name = f"prometheus-{uuid.uuid4().hex[:6]}"
        it = Prometheus(cluster, tmp_path / name, scrape or Scrape(), name)
        started.append(it)
        return it.start()

    yield start
    for it in started:
        it.stop()


@pytest.fixture
def alertmanager(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., Alertmanager]]:
    """Start an Alertmanager of this test's own: `alertmanager(webhook_config(url, token))`."""
    started: list[Alertmanager] = []

    def start(config: Mapping[str, Any]) -> Alertmanager:
        name = f"alertmanager-{uuid.uuid4().hex[:6]}"
        it = Alertmanager(cluster, tmp_path / name, config, name)
        started.append(it)
        return it.start()

    yield start
    for it in started:
        it.stop()
