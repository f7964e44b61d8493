"""What each probe answers, on fakes: recovered, not recovered, or unknown, never a guess."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from healer.domain.outcome import Recovery
from healer.domain.target import Kind, TargetRef
from healer.errors import Blind, HealerError, TimedOut, Unreachable
from healer.kernel.clock import rfc3339
from healer.kernel.ids import label_fingerprint
from healer.ports import HttpAnswer
from healer.probes.contract import ProbeContext
from healer.probes.registry import PROBES
from healer.probes.workload_ready import _workload_problem
from healer.testing.alerts import FakeAlerts
from healer.testing.builders import a_pod, an_observation
from healer.testing.clock import FakeClock
from healer.testing.cluster import FakeCluster
from healer.testing.metrics import FakeMetrics
from healer.testing.objects import a_node, a_workload, an_object, crashing_status, ready_status

RECOVERED, NOT, UNKNOWN = Recovery.RECOVERED, Recovery.NOT_RECOVERED, Recovery.UNKNOWN
LABELS = {"alertname": "Down", "namespace": "shop", "pod": "web-1"}


class Answers:
    """Outgoing HTTP with one answer."""

    def __init__(self, answer: HttpAnswer | HealerError) -> None:
        self.answer = answer
        self.urls: list[str] = []

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout: float = 10.0,  # noqa: ASYNC109 - the port's own
    ) -> HttpAnswer:
        self.urls.append(f"{method} {url}")
        if isinstance(self.answer, HealerError):
            raise self.answer
        return self.answer


class World:
    """Everything a probe may look at."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.cluster = FakeCluster(self.clock)
        self.metrics = FakeMetrics(self.clock)
        self.alerts = FakeAlerts(self.clock)

    async def ask(
        self, probe: str, params: dict[str, Any], target: TargetRef, **changes: Any
    ) -> Recovery:
        """The probe's answer for a step on the target that acted right now."""
        values: dict[str, Any] = {
            "cluster": self.cluster, "metrics": self.metrics, "alerts": self.alerts,
            "http": None, "target": target, "lock": target, "labels": LABELS,
            "fingerprint": label_fingerprint(LABELS), "episode_firing": False,
            "acted_at": self.clock.now(), "now": self.clock.now(),
        }  # fmt: skip
        known = PROBES[probe]
        given = known.params.model_validate(params)
        found = await known.look(ProbeContext(**{**values, **changes}), given)
        assert found.probe == probe
        assert found.detail
        return found.recovery


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def web(world: World) -> TargetRef:
    return world.cluster.add(a_workload(Kind.DEPLOYMENT, "web", replicas=3))


# ----------------------------------------------------------------------------- workload_ready


async def test_workload_ready(world: World, web: TargetRef) -> None:
    """A workload is recovered while all its pods are current and ready, and not when one is not."""
    assert await world.ask("workload_ready", {}, web) is RECOVERED
    world.cluster.change(world.cluster.pods_of(web)[0], {"status": crashing_status()})
    assert await world.ask("workload_ready", {}, web) is NOT


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"generation": 2, "observed_generation": 1}, "not been looked at"),
        ({"paused": True}, "paused"),
        ({"updated": 2}, "2 of 3 pods are of the newest"),
        ({"ready": 2}, "2 of 3 pods are ready"),
        ({"pods": tuple(a_pod(f"web-{n}", ready=True) for n in range(4))}, "4 pods are there"),
    ],
)
def test_what_is_wrong_with_a_workload(changes: dict[str, Any], problem: str) -> None:
    """A rollout that was not seen, is paused, half done or still has old pods is not recovered."""
    pods = tuple(a_pod(f"web-{number}", ready=True) for number in range(3))
    seen = an_observation(pods=pods, ready=3)
    found = _workload_problem(replace(seen, **changes))
    assert problem in found
    assert bool(problem) is bool(found)


async def test_workload_ready_of_nothing(world: World) -> None:
    """A workload without replicas is unknown, one that is gone is not recovered, and a node is no
    workload."""
    none = world.cluster.add(a_workload(Kind.DEPLOYMENT, "none", replicas=0))
    assert await world.ask("workload_ready", {}, none) is UNKNOWN
    world.cluster.remove(none)
    assert await world.ask("workload_ready", {}, none) is NOT
    assert await world.ask("workload_ready", {}, world.cluster.add(a_node("n"))) is UNKNOWN


async def test_workload_ready_when_the_api_server_is_away(world: World, web: TargetRef) -> None:
    """An API server that cannot be reached is unknown."""
    world.cluster.fail_next("observe", Unreachable("away"))
    assert await world.ask("workload_ready", {}, web) is UNKNOWN


@pytest.mark.parametrize(("ago", "wanted"), [(60.0, RECOVERED), (-1.0, NOT)])
async def test_restarts(world: World, web: TargetRef, ago: float, wanted: Recovery) -> None:
    """A container that restarted before the step does not count; one that did since, does."""
    acted = world.clock.now() + 100
    world.clock.advance(200)
    status = ready_status()
    ended = {"exitCode": 1, "finishedAt": rfc3339(acted - ago)}
    status["containerStatuses"][0] |= {"restartCount": 1, "lastState": {"terminated": ended}}
    world.cluster.change(world.cluster.pods_of(web)[0], {"status": status})
    assert await world.ask("workload_ready", {}, web, acted_at=acted) is wanted


async def test_a_replaced_pod(world: World, web: TargetRef) -> None:
    """For a pod that was replaced its successor is enough, though a sibling was ill before."""
    first, second, _ = world.cluster.pods_of(web)
    world.clock.advance(600)
    world.cluster.change(second, {"status": crashing_status()})
    assert await world.ask("workload_ready", {}, first, lock=web) is NOT
    world.cluster.remove(first)
    assert await world.ask("workload_ready", {}, first, lock=web) is RECOVERED
    old = {first.uid, second.uid}
    fresh = [
        pod
        for pod in world.cluster.pods_of(web)
        if pod.uid not in old
        and world.cluster.object(pod)["metadata"]["creationTimestamp"] == rfc3339(world.clock.now())
    ]
    world.cluster.change(fresh[0], {"status": crashing_status()})
    assert await world.ask("workload_ready", {}, first, lock=web) is NOT


async def test_an_old_sibling_is_no_successor(world: World, web: TargetRef) -> None:
    """A ready pod that was there before the step does not stand in for the one that is missing."""
    first = world.cluster.pods_of(web)[0]
    world.clock.advance(600)
    world.cluster.pods_start = False
    world.cluster.remove(first)
    assert await world.ask("workload_ready", {}, first, lock=web) is NOT


async def test_replicas_at_least(world: World, web: TargetRef) -> None:
    """Counts ready pods."""
    assert await world.ask("replicas_at_least", {"count": 3}, web) is RECOVERED
    assert await world.ask("replicas_at_least", {"count": 4}, web) is NOT
    world.cluster.fail_next("observe", TimedOut("late"))
    assert await world.ask("replicas_at_least", {"count": 1}, web) is UNKNOWN


# ----------------------------------------------------------------------------- alert_resolved


async def test_alert_resolved(world: World, web: TargetRef) -> None:
    """Resolved by the journal and not found firing is recovered; either alone is not."""
    assert await world.ask("alert_resolved", {}, web) is RECOVERED
    assert await world.ask("alert_resolved", {}, web, episode_firing=True) is NOT
    world.metrics.fire(LABELS)
    assert await world.ask("alert_resolved", {}, web) is NOT


async def test_alert_resolved_knows_relabelled_alerts(world: World, web: TargetRef) -> None:
    """An alert with a label more is the same; one that disagrees in a label is another."""
    world.metrics.fire({**LABELS, "cluster": "eu"})
    assert await world.ask("alert_resolved", {}, web) is NOT
    world.metrics.end({**LABELS, "cluster": "eu"})
    world.metrics.fire({**LABELS, "pod": "web-2"})
    assert await world.ask("alert_resolved", {}, web) is RECOVERED


async def test_alert_resolved_falls_back(world: World, web: TargetRef) -> None:
    """Without Prometheus, Alertmanager is asked; without both, it is unknown."""
    world.alerts.fire(LABELS)
    assert await world.ask("alert_resolved", {}, web, metrics=None) is NOT
    world.alerts.end(LABELS)
    assert await world.ask("alert_resolved", {}, web, metrics=None) is RECOVERED
    world.alerts.down = Unreachable("away")
    assert await world.ask("alert_resolved", {}, web, metrics=None) is UNKNOWN
    assert await world.ask("alert_resolved", {}, web, metrics=None, alerts=None) is UNKNOWN
    assert await world.ask("alert_resolved", {}, web, labels={}) is UNKNOWN


# ------------------------------------------------------------------------------------- promql


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        ({"below": 0.5}, RECOVERED), ({"below": 0.2}, NOT), ({"at_most": 0.2}, RECOVERED),
        ({"above": 0.1}, RECOVERED), ({"above": 0.2}, NOT), ({"at_least": 0.2}, RECOVERED),
        ({"equal": 0.2}, RECOVERED), ({"above": 0.1, "below": 0.15}, NOT),
    ],
)  # fmt: skip
async def test_promql(
    world: World, web: TargetRef, bounds: dict[str, float], wanted: Recovery
) -> None:
    """A value is recovered when it is within all of its bounds."""
    world.metrics.set("rate", 0.2)
    assert await world.ask("promql", {"expr": "rate", "is": bounds}, web) is wanted


async def test_promql_needs_every_series(world: World, web: TargetRef) -> None:
    """One series out of bounds is enough to be not recovered."""
    world.metrics.set("rate", ({"pod": "a"}, 0.1), ({"pod": "b"}, 0.9))
    assert await world.ask("promql", {"expr": "rate", "is": {"below": 0.5}}, web) is NOT


async def test_promql_is_never_guessed(world: World, web: TargetRef) -> None:
    """No series, NaN, staleness and no Prometheus are unknown; empty is recovered only when the
    playbook says so."""
    rule: dict[str, Any] = {"expr": "rate", "is": {"below": 0.5}}
    world.metrics.set("rate")
    assert await world.ask("promql", rule, web) is UNKNOWN
    assert await world.ask("promql", {**rule, "empty": "recovered"}, web) is RECOVERED
    world.metrics.set("rate", 0.1)
    assert await world.ask("promql", rule, web, now=world.clock.now() + 301) is UNKNOWN
    world.metrics.fail("rate", Blind("NaN"))
    assert await world.ask("promql", {**rule, "empty": "recovered"}, web) is UNKNOWN
    assert await world.ask("promql", rule, web, metrics=None) is UNKNOWN


def test_promql_without_bounds() -> None:
    """A query without any bound proves nothing and is refused."""
    with pytest.raises(ValidationError, match="give `below`"):
        PROBES["promql"].params.model_validate({"expr": "up", "is": {}})


# ----------------------------------------------------------------------------------- http_get


@pytest.mark.parametrize(
    ("answer", "params", "wanted"),
    [
        (HttpAnswer(204, b"", 0.1), {}, RECOVERED),
        (HttpAnswer(500, b"", 0.1), {}, NOT),
        (HttpAnswer(301, b"", 0.1), {}, NOT),
        (HttpAnswer(418, b"", 0.1), {"status": [418]}, RECOVERED),
        (HttpAnswer(200, b"all good", 0.1), {"body": "go+d"}, RECOVERED),
        (HttpAnswer(200, b"ill", 0.1), {"body": "go+d"}, NOT),
        (Unreachable("refused"), {}, UNKNOWN),
    ],
)
async def test_http_get(
    world: World,
    web: TargetRef,
    answer: HttpAnswer | HealerError,
    params: dict[str, Any],
    wanted: Recovery,
) -> None:
    """A good status and body are recovered; no answer at all is unknown."""
    given = {"service": "web", "port": 8080, "path": "/healthz", **params}
    http = Answers(answer)
    assert await world.ask("http_get", given, web, http=http) is wanted
    assert http.urls == ["GET http://web.shop.svc:8080/healthz"]


async def test_http_get_of_a_pod(world: World, web: TargetRef) -> None:
    """A pod is asked by its IP; one without an IP is unknown, one that is gone not recovered."""
    pod = world.cluster.pods_of(web)[0]
    http = Answers(HttpAnswer(200, b"", 0.1))
    given = {"pod": "target", "port": 80}
    assert await world.ask("http_get", given, pod, http=http) is UNKNOWN
    world.cluster.change(pod, {"status": {"podIP": "fd00::7"}})
    assert await world.ask("http_get", given, pod, http=http) is RECOVERED
    assert http.urls == ["GET http://[fd00::7]:80/"]
    gone = {"pod": "gone", "port": 80}
    assert await world.ask("http_get", gone, pod, http=http) is NOT
    assert await world.ask("http_get", given, pod) is UNKNOWN


# ------------------------------------------------------------------- node_ready, job_complete


async def test_node_ready(world: World) -> None:
    """A node is recovered when it is Ready and under no pressure; one that is gone is not."""
    node = world.cluster.add(a_node("n1"))
    assert await world.ask("node_ready", {}, node) is RECOVERED
    pressed = [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]
    world.cluster.change(node, {"status": {"conditions": pressed}})
    assert await world.ask("node_ready", {}, node) is NOT
    world.cluster.change(node, {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
    assert await world.ask("node_ready", {}, node) is NOT
    world.cluster.change(node, {"status": {"conditions": []}})
    assert await world.ask("node_ready", {}, node) is UNKNOWN
    world.cluster.remove(node)
    assert await world.ask("node_ready", {}, node) is NOT


async def test_job_complete(world: World, web: TargetRef) -> None:
    """The Job that the step made is looked at; only Complete is recovered, and gone is unknown."""
    job = world.cluster.add(a_workload(Kind.JOB, "r-1-s0", replicas=1))
    before = {"manifest": {"metadata": {"name": "r-1-s0", "namespace": "shop"}}}
    assert await world.ask("job_complete", {}, web, before=before) is NOT
    done = [{"type": "Complete", "status": "True"}]
    world.cluster.change(job, {"status": {"conditions": done}})
    assert await world.ask("job_complete", {}, web, before=before) is RECOVERED
    failed = [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]
    world.cluster.change(job, {"status": {"conditions": failed}})
    assert await world.ask("job_complete", {"job": "r-1-s0"}, web) is NOT
    assert await world.ask("job_complete", {}, job) is NOT
    world.cluster.remove(job)
    assert await world.ask("job_complete", {}, job) is UNKNOWN
    assert await world.ask("job_complete", {}, web) is UNKNOWN


# ------------------------------------------------------------------------------- object_field


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"path": "/data/mode", "equals": "full"}, RECOVERED),
        ({"path": "/data/mode", "equals": "off"}, NOT),
        ({"path": "/data/mode", "differs": "off"}, RECOVERED),
        ({"path": "/data/mode", "matches": "f.ll"}, RECOVERED),
        ({"path": "/data/mode", "matches": "f"}, NOT),
        ({"path": "/data/size", "at_least": 1024}, RECOVERED),
        ({"path": "/data/size", "at_most": 1}, NOT),
        ({"path": "/data/mode", "at_least": 1}, UNKNOWN),
        ({"path": "/data/none", "equals": "full"}, UNKNOWN),
        ({"path": "/data/none", "exists": False}, RECOVERED),
        ({"path": "/data/mode", "exists": False}, NOT),
        ({"path": "/data/none", "exists": True}, NOT),
        ({"path": "/data/x", "equals": 1, "kind": "Node", "name": "gone"}, UNKNOWN),
        ({"path": "/data/x", "exists": False, "kind": "Node", "name": "gone"}, RECOVERED),
    ],
)
async def test_object_field(world: World, params: dict[str, Any], wanted: Recovery) -> None:
    """A field is compared by what it is; one that is missing or no number is unknown."""
    flags = an_object(Kind.CONFIG_MAP, "flags", data={"mode": "full", "size": "2Gi"})
    assert await world.ask("object_field", params, world.cluster.add(flags)) is wanted


def test_rights_are_of_the_kind() -> None:
    """A probe asks for the rights of the kind it reads, and for nothing when it reads none."""
    params = PROBES["object_field"].params.model_validate({"path": "/x", "exists": True})
    rights = PROBES["object_field"].needs(params, Kind.CONFIG_MAP)
    assert [str(right) for right in rights] == ["get configmaps"]
    assert PROBES["promql"].needs(None) == ()
