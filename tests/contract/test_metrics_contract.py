"""One suite for what is promised of `healer.ports.Metrics`: the fake and a real Prometheus."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from healer.clients.prometheus import Prometheus
from healer.errors import Blind, Refused, Unreachable
from healer.kernel.clock import SystemClock
from healer.kernel.ids import label_fingerprint
from healer.ports import AlertingRule, Metrics
from healer.testing.metrics import FakeMetrics
from tests.bed.builds import binary
from tests.bed.ports import free_port
from tests.bed.processes import launch
from tests.bed.waiting import until

LABELLED = 'label_replace(vector(3), "pod", "a", "", "")'
TWO = f'{LABELLED} or label_replace(vector(4), "pod", "b", "", "")'
RULES = {"groups": [{"name": "g", "interval": "1s", "rules": [
    {"alert": "Always", "expr": "vector(1)", "labels": {"severity": "page"},
     "keep_firing_for": "90s"},
    {"alert": "Later", "expr": "vector(1)", "for": "1h"},
    {"record": "a:b:sum", "expr": "vector(1)"},
]}]}  # fmt: skip
CONFIG = {
    "global": {
        "evaluation_interval": "1s",
        "external_labels": {"cluster": "c1", "prometheus_replica": "0"},
    },
    "alerting": {"alert_relabel_configs": [{"regex": "prometheus_replica", "action": "labeldrop"}]},
}


@pytest.fixture(scope="module")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus with two alerting rules."""
    folder: Path = tmp_path_factory.mktemp("prometheus")
    (folder / "rules.yml").write_text(json.dumps(RULES))
    config = {**CONFIG, "rule_files": [str(folder / "rules.yml")]}
    (folder / "prometheus.yml").write_text(json.dumps(config))
    url = f"http://127.0.0.1:{free_port()}"
    process = launch(
        "prometheus",
        [
            str(binary("prometheus")),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
        ],
        log=folder / "log",
    )

    def evaluated() -> bool:
        assert process.alive(), process.tail()
        try:
            # ALERTS is written from the second evaluation on.
            with urllib.request.urlopen(f"{url}/api/v1/query?query=ALERTS", timeout=2) as answer:
                return bool(json.load(answer)["data"]["result"])
        except urllib.error.URLError:
            return False

    try:
        until(evaluated, "the rules to be evaluated", timeout=60)
        yield url
    finally:
        process.stop()


@pytest.fixture(params=["fake", "real"])
async def metrics(request: pytest.FixtureRequest) -> Any:
    """The fake, told what the real one knows, and the real one."""
    if request.param == "real":
        client = Prometheus(request.getfixturevalue("prometheus_url"), clock=SystemClock())
        yield client
        await client.close()
        return
    fake = FakeMetrics(SystemClock(), external_labels={"cluster": "c1"})
    fake.set("vector(1)", 1)
    fake.set("1 + 1", 2)
    fake.set("vector(1) # why", 1)
    fake.set(LABELLED, ({"pod": "a"}, 3))
    fake.set(TWO, ({"pod": "a"}, 3), ({"pod": "b"}, 4))
    fake.fail("vector(0) / 0", Blind("prometheus: {} is NaN"))
    fake.fail("-vector(1) / 0", Blind("prometheus: {} is -Inf"))
    fake.fail("up[5m]", Refused("prometheus: the expression gives a matrix"))
    fake.fail("nosuchfunction(up)", Refused("prometheus: unknown function"))
    fake.alerting_rules = [
        AlertingRule("Always", "vector(1)", 0, 90, {"severity": "page"}, 1.0),
        AlertingRule("Later", "vector(1)", 3600, 0, {}, 1.0),
    ]
    fake.fire({"alertname": "Always", "severity": "page"})
    yield fake


async def test_a_vector_has_labels_value_and_time(metrics: Metrics) -> None:
    """Each series of a vector is a sample taken now."""
    found = {s.labels["pod"]: s for s in await metrics.query(TWO)}
    assert {pod: s.value for pod, s in found.items()} == {"a": 3.0, "b": 4.0}
    assert abs(found["a"].at - SystemClock().now()) < 5


async def test_a_scalar_is_one_sample_without_labels(metrics: Metrics) -> None:
    """A scalar expression answers with one unlabelled sample."""
    (sample,) = await metrics.query("1 + 1")
    assert (sample.labels, sample.value) == ({}, 2.0)


async def test_nothing_found_is_empty(metrics: Metrics) -> None:
    """A metric nobody exports is an empty answer and no error."""
    assert list(await metrics.query("nobody_exports_this")) == []


@pytest.mark.parametrize("expr", ["vector(0) / 0", "-vector(1) / 0"])
async def test_what_is_not_finite_is_blind(metrics: Metrics, expr: str) -> None:
    """NaN and infinity never come back as numbers."""
    with pytest.raises(Blind):
        await metrics.query(expr)


@pytest.mark.parametrize("expr", ["up{", "up)", "up[5m]", "nosuchfunction(up)", ""])
async def test_a_wrong_expression_is_refused(metrics: Metrics, expr: str) -> None:
    """What cannot be evaluated is refused in Prometheus' own words."""
    with pytest.raises(Refused, match="prometheus"):
        await metrics.query(expr)


async def test_many_answers_are_those_of_single_queries(metrics: Metrics) -> None:
    """Asked together, each expression answers, or fails, as it does alone."""
    exprs = [
        "vector(1)", "1 + 1", TWO, "nobody_exports_this", "vector(0) / 0", "up{", "up[5m]",
        LABELLED, "vector(1) # why", "nosuchfunction(up)",
    ]  # fmt: skip
    together = await metrics.query_many(exprs)
    assert together.keys() == set(exprs)
    for expr, answer in together.items():
        if isinstance(answer, Exception):
            with pytest.raises(type(answer)):
                await metrics.query(expr)
        else:
            alone = await metrics.query(expr)
            assert [(s.labels, s.value) for s in answer] == [(s.labels, s.value) for s in alone]
    assert sum(isinstance(answer, Exception) for answer in together.values()) == 4


async def test_alerting_rules_come_with_their_times(metrics: Metrics) -> None:
    """Every alerting rule and no recording rule is listed, times in seconds."""
    found = {rule.name: rule for rule in await metrics.rules()}
    assert found == {
        "Always": AlertingRule("Always", "vector(1)", 0, 90, {"severity": "page"}, 1.0),
        "Later": AlertingRule("Later", "vector(1)", 3600, 0, {}, 1.0),
    }


async def test_firing_alerts_are_as_alertmanager_gets_them(metrics: Metrics) -> None:
    """Pending alerts are left out, and the fingerprint is that of the labels that are sent."""
    (alert,) = await metrics.firing()
    labels = {"alertname": "Always", "severity": "page", "cluster": "c1"}
    assert alert.labels == labels
    assert alert.fingerprint == label_fingerprint(labels)
    assert alert.polled_at is not None


async def test_it_is_ready(metrics: Metrics) -> None:
    """Ready returns when queries are answered."""
    await metrics.ready()


@pytest.fixture
async def reaching() -> Any:
    """Makes clients for URLs, and closes them."""
    made: list[Prometheus] = []

    def make(url: str) -> Prometheus:
        made.append(Prometheus(url, clock=SystemClock(), timeout=5.0))
        return made[-1]

    yield make
    for client in made:
        await client.close()


async def test_real_samples_survive_being_joined(prometheus_url: str, reaching: Any) -> None:
    """Series that differ only in their name, in two joined queries, all come back from both."""
    exprs = ['{__name__=~"ALERTS.*"}', '{__name__=~"ALERTS.*"} > 0', "sum(ALERTS)", "count(ALERTS)"]
    found = await reaching(prometheus_url).query_many(exprs)
    assert {expr: len(answer) for expr, answer in found.items()} == dict(
        zip(exprs, (4, 4, 1, 1), strict=True)
    )
    everything, above_zero = (sorted(str(s.labels) for s in found[e]) for e in exprs[:2])
    assert everything == above_zero
    assert "__healer_q__" not in str(found)


async def test_a_stopped_prometheus_is_unreachable(reaching: Any) -> None:
    """Without anybody listening, every method raises Unreachable and none answers empty."""
    fake = FakeMetrics(SystemClock())
    fake.down = Unreachable("prometheus: no connection", sent=False)
    subjects: list[Metrics] = [reaching(f"http://127.0.0.1:{free_port()}"), fake]
    for subject in subjects:
        for call in (
            subject.query("up"), subject.rules(), subject.firing(), subject.ready(),
        ):  # fmt: skip
            with pytest.raises(Unreachable):
                await call
        many = await subject.query_many(["up", "down"])
        assert {type(answer) for answer in many.values()} == {Unreachable}
