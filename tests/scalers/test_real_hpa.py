"""The real HPA controller and `scalers.hpa`, step by step on the same inputs."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from scalers.hpa_object import manifest
from scalers.policy import ScalingPolicy, Workload
from scalers.ports import Metric, Reason, Refused
from tests.apiserver.plane import Town, town
from tests.bed.api import Api
from tests.bed.errors import UnavailableError
from tests.bed.waiting import until
from tests.scalers.recorded import SCENARIOS, Scenario, Sync, disagreements, save, saved

SYNCS = 20
REPLICA_SETS = "/apis/apps/v1/namespaces/shop/replicasets"
MISSING = Refused(Reason.STALE, "left out by the test")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_ours_did_what_the_controller_did(scenario: Scenario) -> None:
    """On the kept recording every sync of the real controller ends with the replicas of ours."""
    syncs = saved()[scenario.name]
    assert len(syncs) >= SYNCS
    assert len({sync.current for sync in syncs}) > 1
    assert disagreements(scenario, syncs) == []


def test_another_autoscaler_would_be_told_apart() -> None:
    """The recordings are no place where anything agrees: each scenario refutes another's rules."""
    recording = saved()
    others = SCENARIOS[1:] + SCENARIOS[:1]
    for scenario, other in zip(SCENARIOS, others, strict=True):
        posing = Scenario(scenario.name, other.up, other.down, other.written)
        assert disagreements(posing, recording[scenario.name]), (scenario.name, other.name)


class Recorder:
    """A metric that gives the next input at each sync, and writes down what the sync saw."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.syncs: dict[str, list[Sync]] = {one.name: [] for one in SCENARIOS}
        self._inputs = {
            one.name: list(inputs(one)) for one in SCENARIOS
        }  # fmt: skip

    def external(self, namespace: str, name: str) -> Sequence[Metric]:
        """`MetricReader.external`: the first metric of an autoscaler begins its next sync."""
        owner, _, index = name.rpartition("-")
        syncs = self.syncs[owner]
        if index == "0":
            found = self._api.get(f"{REPLICA_SETS}/{owner}")["spec"]["replicas"]
            syncs.append(Sync(time.time(), found))  # noqa: TID251 - the controller's clock
        row = self._inputs[owner][min(len(syncs), len(self._inputs[owner])) - 1]
        value = row[int(index)]
        syncs[-1].values.append(value)
        return [Metric(name, namespace, {}, MISSING if value is None else value, syncs[-1].at)]

    def complete(self) -> bool:
        """Whether every autoscaler has been through its inputs."""
        return all(len(syncs) > SYNCS for syncs in self.syncs.values())


def inputs(scenario: Scenario) -> Iterator[list[float | None]]:
    """Up and down, near the tolerance, and now and then nothing; by a seed."""
    dice = random.Random(scenario.name)
    level = 40.0
    for step in range(SYNCS + 1):
        if step % 5 == 0:
            level = dice.choice([20.0, 60.0, 120.0, 180.0, 250.0])
        yield [
            None if dice.random() < 0.12 else round(level * dice.uniform(0.8, 1.25), 3)
            for _ in range(scenario.metrics)
        ]


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A control plane of its own: its HPAs look every two seconds."""
    try:
        with town(tmp_path_factory.mktemp("hpa")) as made:
            yield made
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.cluster
def test_the_api_server_takes_our_object(scaled: Town) -> None:
    """What `manifest` makes is accepted as it is: no field is dropped or changed."""
    workload = Workload("shop", "Deployment", "web")
    policy = ScalingPolicy("web", workload, "sum(x)", 50.0, 2, 40, "web-demand")
    ours = manifest(policy, 50.0)
    scaled.plane.apply(ours)
    path = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/web"
    theirs = Api(scaled.plane.kubeconfig).get(path)["spec"]
    assert theirs["metrics"] == ours["spec"]["metrics"]
    assert theirs["behavior"]["scaleUp"] == ours["spec"]["behavior"]["scaleUp"]


def _obey(api: Api, ended: threading.Event) -> None:
    """Stands in for the controller of replica sets: status follows spec."""
    while not ended.wait(0.1):
        for one in api.get(REPLICA_SETS)["items"]:
            wanted = one["spec"]["replicas"]
            if one.get("status", {}).get("replicas", 0) != wanted:
                name = one["metadata"]["name"]
                api.merge(f"{REPLICA_SETS}/{name}/status", {"status": {"replicas": wanted}})


@pytest.mark.cluster
@pytest.mark.slow
def test_the_real_controller_does_what_ours_does(scaled: Town) -> None:
    """Eight autoscalers of a real controller, twenty syncs each: not one ends otherwise.

    With HPA_RECORD=1 the recording is kept for the fast ring.
    """
    kubeconfig = scaled.plane.kubeconfig
    recorder = Recorder(Api(kubeconfig))
    scaled.shelf.external = recorder.external  # type: ignore[method-assign]
    for one in SCENARIOS:
        labels = {"app": one.name}
        scaled.plane.apply(
            {"apiVersion": "apps/v1", "kind": "ReplicaSet",
             "metadata": {"name": one.name, "namespace": "shop"},
             "spec": {"replicas": 4, "selector": {"matchLabels": labels},
                      "template": {"metadata": {"labels": labels}, "spec": {
                          "containers": [{"name": "main", "image": "none"}]}}}},
            one.manifest(),
        )  # fmt: skip
    ended = threading.Event()
    obeying = threading.Thread(target=_obey, args=(Api(kubeconfig), ended))
    obeying.start()
    try:
        scaled.plane.start_scaling()
        until(recorder.complete, "every autoscaler to go through its inputs", timeout=100)
    finally:
        ended.set()
        obeying.join()
    recording = {name: syncs[: SYNCS + 1] for name, syncs in recorder.syncs.items()}
    if os.environ.get("HPA_RECORD"):
        save(recording)
    late = (0.0, 0.25, 0.5, 1.0)  # on a machine that is busy, too
    found = [d for one in SCENARIOS for d in disagreements(one, recording[one.name], late=late)]
    assert found == []
