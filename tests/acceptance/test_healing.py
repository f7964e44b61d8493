"""The main job on the real cluster: alerts in, the workload healed once, also after a kill.

Effects are counted in the API server's audit log, not in healer's own journal.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bed.api import ready
from tests.bed.cluster import Cluster
from tests.bed.errors import BedError
from tests.bed.exporter import StateMetrics
from tests.bed.service import Service, poke
from tests.bed.waiting import until
from tests.demo.stack import ROOT, Stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

DEMO = ROOT / "tests" / "demo"
Starter = Callable[..., Stack]
#: A slow machine's kubelet alone may take a minute to tell of a crash loop. Seconds.
PATIENCE = 200


@pytest.fixture(scope="module")
def surroundings(
    real_cluster: Cluster, state_metrics: StateMetrics, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """One Prometheus and Alertmanager for all tests here, with the demo's rules and playbooks."""
    it = Stack(
        real_cluster, tmp_path_factory.mktemp("stack"), playbooks=[DEMO / "playbooks"],
        rules=[DEMO / "rules.yml"], state_metrics=state_metrics,
    )  # fmt: skip
    yield it.start_surroundings()
    it.stop()


@pytest.fixture
def stack(surroundings: Stack) -> Iterator[Starter]:
    """Put a fresh healer with an empty journal into it: `stack(environment={...})`."""

    def start(environment: dict[str, str] | None = None) -> Stack:
        # What the last test broke must have ended everywhere, or this healer would hear of it.
        # An empty answer means nothing before Prometheus has seen the cluster once.
        until(lambda: sees_cluster(surroundings), "Prometheus to see the cluster", timeout=120)
        until(
            lambda: not surroundings.prometheus.alerts() and not surroundings.alertmanager.alerts(),
            "the alerts of the last test to end",
            timeout=180,
        )
        surroundings.another_healer(environment)
        return surroundings

    yield start
    surroundings.healer.stop()


def sees_cluster(stack: Stack) -> bool:
    """Whether Prometheus has read the state of the nodes."""
    return bool(stack.prometheus.query("count(kube_node_info) > 0"))


def await_healed(stack: Stack, pod: str) -> dict[str, Any]:
    """The pod's healed episode; if it does not come, the error tells how far the alert got."""
    try:
        found = until(lambda: healed(stack, pod), "the pod to be healed", timeout=PATIENCE)
    except BedError as error:
        raise BedError(f"{error}\n{how_far(stack)}") from error
    assert found is not None
    return found


def how_far(stack: Stack) -> str:
    """What each station between fault and effect knows, one line each."""
    episodes = stack.healer.episodes()
    facts = [
        [f["fact"]["kind"] for f in stack.healer.story(one["id"])["facts"]] for one in episodes
    ]
    return "\n".join(
        (
            f"Prometheus: {stack.prometheus.alerts()}",
            f"Alertmanager: {stack.alertmanager.alerts()}",
            f"healer: {episodes}",
            f"facts: {facts}",
            f"log: {stack.healer.process.tail() if stack.healer.process else ''}",
        )
    )


def sicken(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Deploy six pods, poison one so that no container restart helps, and return it."""
    cluster.apply(*Service("web", namespace, replicas=6).objects())
    until(lambda: all_ready(cluster, namespace, 6), "six pods to be Ready", timeout=120)
    victim: dict[str, Any] = cluster.get("pods", "-n", namespace)["items"][0]
    poke(cluster, namespace, victim["metadata"]["name"], "/poison")
    return victim


def all_ready(cluster: Cluster, namespace: str, count: int) -> bool:
    items = cluster.get("pods", "-n", namespace)["items"]
    living = [item for item in items if "deletionTimestamp" not in item["metadata"]]
    return len(living) == count and all(ready(item) for item in living)


def deletes(cluster: Cluster, namespace: str, pod: str) -> list[dict[str, Any]]:
    """Successful deletions of this pod by healer, as the API server recorded them."""
    assert cluster.audit_log is not None
    found = []
    for line in cluster.audit_log.read_text().splitlines():
        event = json.loads(line)
        about = event.get("objectRef", {})
        if (
            event["verb"] == "delete"
            and event["stage"] == "ResponseComplete"
            and about.get("namespace") == namespace
            and about.get("name") == pod
            and event.get("userAgent", "").startswith("healer/")
            and event["responseStatus"]["code"] < 300
        ):
            found.append(event)
    return found


def healed(stack: Stack, pod: str) -> dict[str, Any] | None:
    """The healed episode of the pod, if there is one."""
    found = [e for e in stack.healer.episodes() if e["labels"].get("pod") == pod]
    return next((e for e in found if e["result"] == "healed"), None)


def test_one_alert_heals_one_pod_once(
    stack: Starter, real_cluster: Cluster, namespace: str
) -> None:
    """Prometheus fires, Alertmanager posts, healer replaces the pod once and sees it recover."""
    it = stack()
    victim = sicken(real_cluster, namespace)
    name = victim["metadata"]["name"]
    episode = await_healed(it, name)
    assert len(deletes(real_cluster, namespace, name)) == 1
    assert all_ready(real_cluster, namespace, 6)
    story = it.healer.story(episode["id"])
    kinds = [one["fact"]["kind"] for one in story["facts"]]
    order = ["accepted", "planned", "evidence", "intent", "outcome", "verified"]
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
    events = real_cluster.get("events", "-n", namespace)["items"]
    reasons = {e["reason"] for e in events if e["involvedObject"]["name"] == name}
    assert {"HealerActs", "HealerVerified"} <= reasons


@pytest.mark.parametrize(
    "point", ["after:accept-commit", "before:intent", "after:intent", "before:effect",
              "after:effect", "before:outcome", "after:outcome"],
)  # fmt: skip
def test_a_kill_at_any_point_loses_nothing_and_does_nothing_twice(
    stack: Starter, real_cluster: Cluster, namespace: str, point: str
) -> None:
    """Killed at this point and started again, healer heals the pod with exactly one deletion."""
    it = stack(environment={"HEALER_CRASH_POINT": point})
    victim = sicken(real_cluster, namespace)
    name = victim["metadata"]["name"]
    process = it.healer.process
    assert process is not None
    try:
        until(lambda: not process.alive(), f"healer to die at {point}", timeout=PATIENCE)
    except BedError as error:
        raise BedError(f"{error}\n{how_far(it)}") from error
    it.healer.environment = {}
    it.healer.start()
    await_healed(it, name)
    assert len(deletes(real_cluster, namespace, name)) == 1
    assert all_ready(real_cluster, namespace, 6)


def test_sigterm_hands_over_and_the_next_one_goes_on(
    stack: Starter, real_cluster: Cluster, namespace: str
) -> None:
    """Ended by SIGTERM while it verifies, healer goes on verifying after a restart."""
    it = stack()
    victim = sicken(real_cluster, namespace)
    name = victim["metadata"]["name"]
    until(lambda: deletes(real_cluster, namespace, name), "the deletion", timeout=PATIENCE)
    process = it.healer.process
    assert process is not None
    os.kill(process.identity.pid, signal.SIGTERM)
    until(lambda: not process.alive(), "healer to end", timeout=25)
    it.healer.start()
    until(lambda: healed(it, name), "the pod to be healed", timeout=PATIENCE)
    assert len(deletes(real_cluster, namespace, name)) == 1


def test_paused_by_a_file_it_stays_paused_over_a_restart(
    stack: Starter, real_cluster: Cluster, namespace: str
) -> None:
    """While the pause file exists nothing is deleted, before and after a restart."""
    it = stack()
    pause = Path(it.healer.settings["pause_file"])
    pause.write_text("release day\n")
    victim = sicken(real_cluster, namespace)
    name = victim["metadata"]["name"]

    def held() -> bool:
        found = [e for e in it.healer.episodes() if e["labels"].get("pod") == name]
        return any(e["reason"] == "paused" for e in found)

    until(held, "the episode to be held", timeout=60)
    it.healer.stop()
    it.healer.start()
    until(held, "the episode to be held again", timeout=60)
    assert deletes(real_cluster, namespace, name) == []
    pause.unlink()
    until(lambda: healed(it, name), "the pod to be healed", timeout=PATIENCE)
    assert len(deletes(real_cluster, namespace, name)) == 1
