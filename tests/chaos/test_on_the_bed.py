"""One real experiment with its control run: cluster, Prometheus, Alertmanager, healer, toolkit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.cluster import Cluster
from tests.bed.exporter import StateMetrics
from tests.chaos.__main__ import experiments
from tests.chaos.ground import Ground

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def ground(real_cluster: Cluster, state_metrics: StateMetrics, tmp_path: Path) -> Iterator[Ground]:
    it = Ground(real_cluster, tmp_path / "ground", state_metrics)
    try:
        yield it.start()
    finally:
        it.stop()


def test_a_crash_loop_is_healed_by_healer_and_by_nobody_else(
    ground: Ground, tmp_path: Path
) -> None:
    """The real toolkit sees it deviate and return with healer, and not return without."""
    report = tmp_path / "report"
    code = experiments(ground, ["--only", "crash-loop", "--report", str(report)])
    content = json.loads((report / "report.json").read_text())
    verdict = content["experiments"][0]["verdict"]
    assert verdict["status"] == "passed", verdict["problems"]
    assert code == 0
    assert verdict["credit"] == "healer"
    assert verdict["actions"] == [
        f"delete_pod Pod/{name}" for name in {a.rsplit("/", 1)[1] for a in verdict["actions"]}
    ]
    assert verdict["control"]["deviated"] is not None
    assert verdict["control"]["returned"] is None
    assert "with healer" in (report / "index.html").read_text()
    # Whatever a campaign leaves must not break the next one.
    left = ground.cluster.get("deployments", "-n", "chaos")["items"]
    assert left == []
