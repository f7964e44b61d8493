"""From a load to replicas through everything that is real, and what faults do on that way.

The bar is the HPA's: never scaled down for lack of data, and right again by itself.
"""

from __future__ import annotations

import json
import signal
import time
import urllib.error
from collections.abc import Iterator

import pytest

from scalers.policy import Prediction, ScalingPolicy, Workload
from tests.bed.errors import UnavailableError
from tests.bed.waiting import until
from tests.scalers.daemon import Scene, policy_text, scene

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

#: What each workload's load becomes, and the reason with which its metric is refused then.
FAULTS = {
    "nan": ("NaN", "NotFinite"),
    "infinite": ("+Inf", "NotFinite"),
    "negative": ("-5", "Negative"),
    "dropped": ("", "EmptyResult"),
    "several": ("", "SeveralSeries"),
}
GOOD = "well"
#: 62 at 10 a replica, of which the HPA's tolerance needs 9.09: seven replicas.
LOAD, SCALED = "62", 7
LOW, SHRUNK = "15", 2


def policy(name: str, query: str = "") -> ScalingPolicy:
    """A young, quick policy."""
    return ScalingPolicy(
        name, Workload("shop", "Deployment", name), query or f'load{{service="{name}"}}', 10.0,
        1, 20, f"{name}_demand", utilisation=1.0, prediction=Prediction(),
        max_age_seconds=20.0, hold_seconds=30.0,
    )  # fmt: skip


POLICIES = {name: policy(name) for name in (GOOD, *FAULTS)}
POLICIES["absent"] = policy("absent", "nosuch")


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The scene, at its load."""
    loads = dict.fromkeys((GOOD, *FAULTS), LOAD)
    try:
        with scene(tmp_path_factory.mktemp("way"), POLICIES, loads) as made:
            yield made
    except UnavailableError as error:
        pytest.skip(str(error))


def scaled(it: Scene, count: int = SCALED, names: tuple[str, ...] = (GOOD, *FAULTS)) -> bool:
    """Whether all of them have so many replicas."""
    return all(it.replicas(name) == count for name in names)


def served(it: Scene, name: str) -> object:
    """What the policy's metric is; None: it is refused, or was not looked at yet."""
    return it.daemon.told().get(name, {}).get("served")


def told(it: Scene) -> str:
    """For a failure: everything that is known."""
    return json.dumps(it.daemon.told(), indent=1) + it.daemon.log()[-3000:]


def eventually(it: Scene, what: str, condition: object, timeout: float = 120) -> None:
    """`until`, with all that is known when it is in vain."""
    assert callable(condition)
    try:
        until(condition, what, timeout=timeout)
    except Exception as error:
        raise AssertionError(f"{error}\n{told(it)}") from error


def test_the_hpa_follows_the_demand(it: Scene) -> None:
    """Each workload gets the replicas that its load needs, by external metrics through the API
    server; one whose query never gave anything keeps what it has, and is told why."""
    eventually(it, "seven replicas each", lambda: scaled(it))
    assert it.replicas("absent") == 1
    assert "EmptyResult" in it.active("absent")["message"]
    path = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/deployments.apps/well/well_demand"
    found = json.loads(it.plane.kubectl("get", "--raw", path))
    assert found["items"][0]["value"] == LOAD
    shown = it.plane.kubectl("-n", "shop", "get", "hpa", GOOD)
    assert "/9090m (avg)" in shown
    assert "<unknown>" not in shown
    assert it.daemon.get("/v1/scaling/shop/well_demand")["value"] == float(LOAD)


def test_no_value_scales_nothing_down(it: Scene) -> None:
    """NaN, Inf, a negative, a dropped and a doubled series: refused by name, replicas stay, and
    what is well goes on; then all are right again by themselves."""
    eventually(it, "seven replicas each", lambda: scaled(it))
    for name, (value, _) in FAULTS.items():
        if value:
            it.exporter.give(name, value)
        else:
            del it.exporter.lines[name]
    for cell in ("a", "b"):
        it.exporter.lines[f"several-{cell}"] = f'load{{service="several",cell="{cell}"}} 3'
    it.exporter.give(GOOD, LOW)
    for name, (_, reason) in FAULTS.items():
        eventually(
            it, f"{name} to be refused",
            lambda name=name, reason=reason: reason in it.active(name).get("message", ""),
        )  # fmt: skip
        assert it.active(name)["status"] == "False"
    eventually(it, "the good one to follow", lambda: it.replicas(GOOD) == SHRUNK)
    assert scaled(it, names=tuple(FAULTS))
    for cell in ("a", "b"):
        del it.exporter.lines[f"several-{cell}"]
    for name in (GOOD, *FAULTS):
        it.exporter.give(name, LOW)
    eventually(it, "all to follow again", lambda: scaled(it, SHRUNK), 400)
    for name in (GOOD, *FAULTS):
        it.exporter.give(name, LOAD)
    eventually(it, "seven replicas each", lambda: scaled(it))


@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGKILL], ids=["hung", "dead"])
def test_a_prometheus_that_is_away_scales_nothing_down(it: Scene, fault: signal.Signals) -> None:
    """Values stand in for their time, then are refused; replicas stay; it comes back by itself."""
    eventually(it, "seven replicas each", lambda: scaled(it))
    it.prometheus.send(fault)
    eventually(
        it, "the source to be named",
        lambda: "SourceUnavailable" in it.active(GOOD).get("message", ""), 180,
    )  # fmt: skip
    conditions = {one["name"] for one in it.daemon.get("/v1/status")["conditions"]}
    assert "scaling_source_unavailable" in conditions
    assert scaled(it)
    it.exporter.give(GOOD, LOW)
    if fault is signal.SIGSTOP:
        it.prometheus.send(signal.SIGCONT)
    else:
        it.prometheus.start()
    eventually(it, "the good one to follow", lambda: it.replicas(GOOD) == SHRUNK, 180)
    it.exporter.give(GOOD, LOAD)
    eventually(it, "seven replicas each", lambda: scaled(it), 180)


def test_a_killed_adapter_scales_nothing_down(it: Scene) -> None:
    """While healer is gone the HPA says so and stays; a new process, with a new certificate, is
    found and serves."""
    eventually(it, "seven replicas each", lambda: scaled(it))
    it.daemon.stop(signal.SIGKILL)
    eventually_away = time.monotonic() + 180  # noqa: TID251 - the controller's time
    while it.active(GOOD)["status"] != "False":
        assert time.monotonic() < eventually_away, it.active(GOOD)  # noqa: TID251
    assert scaled(it)
    it.daemon.start()
    it.exporter.give(GOOD, LOW)
    eventually(it, "the good one to follow", lambda: it.replicas(GOOD) == SHRUNK, 180)
    assert scaled(it, names=tuple(FAULTS))
    it.exporter.give(GOOD, LOAD)
    eventually(it, "seven replicas each", lambda: scaled(it), 180)


def test_a_second_scaler_is_refused_and_named(it: Scene) -> None:
    """Another HPA on the same Deployment: the metric is refused with both names, until it goes."""
    eventually(it, "seven replicas each", lambda: scaled(it))
    rival = {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "rival", "namespace": "shop"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": GOOD},
            "minReplicas": 1, "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}],
        },
    }  # fmt: skip
    it.plane.apply(rival)
    eventually(
        it, "the rival to be named",
        lambda: "SeveralScalers" in (it.daemon.told()[GOOD]["refused"] or ""),
    )  # fmt: skip
    assert "rival" in it.daemon.told()[GOOD]["refused"]
    it.plane.kubectl("-n", "shop", "delete", "hpa", "rival")
    eventually(it, "it to be served again", lambda: served(it, GOOD) is not None)


def test_policies_are_read_again_and_a_faulty_set_is_not_taken(it: Scene) -> None:
    """A changed file counts within two rounds; a faulty one is a condition, and the last set
    serves on; `pause` rests prediction."""
    file = it.daemon.policies / "absent.yaml"
    good = file.read_text()
    file.write_text(good.replace("nosuch", "vector(12)"))
    eventually(it, "the new query", lambda: served(it, "absent") == 12.0)
    file.write_text(good.replace("max: 20", "max: 0"))
    eventually(
        it, "the condition",
        lambda: "scaling_policies_rejected"
        in {one["name"] for one in it.daemon.get("/v1/status")["conditions"]},
    )  # fmt: skip
    assert served(it, "absent") == 12.0
    file.write_text(policy_text(policy("absent", "vector(13)")))
    eventually(it, "the mended file", lambda: served(it, "absent") == 13.0)
    (it.daemon.folder / "pause").write_text("we look first\n")
    eventually(it, "the pause", lambda: "we look first" in it.daemon.told()["absent"]["why"])
    (it.daemon.folder / "pause").unlink()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        it.daemon.get("/v1/scaling/shop/unheard_of")


def test_it_ends_in_time(it: Scene) -> None:
    """SIGTERM ends healer with exit code 0, its forecaster's process included."""
    assert it.daemon.stop() == 0
    it.daemon.start()
