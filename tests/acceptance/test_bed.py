"""The test bed itself: what the other acceptance tests stand on is true."""

from __future__ import annotations

import json
import queue
import threading
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.bed.alertmanager import Alertmanager, webhook_config
from tests.bed.api import ready
from tests.bed.cluster import Cluster
from tests.bed.exporter import StateMetrics
from tests.bed.prometheus import Prometheus, Scrape
from tests.bed.service import Service, poke
from tests.bed.waiting import now, pause, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

TOKEN = "only-for-this-test"


def pods(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = cluster.get("pods", "-n", namespace)["items"]
    return [item for item in items if "deletionTimestamp" not in item["metadata"]]


def names(cluster: Cluster, namespace: str) -> set[str]:
    return {item["metadata"]["name"] for item in pods(cluster, namespace)}


def ready_pods(cluster: Cluster, namespace: str) -> int:
    return sum(map(ready, pods(cluster, namespace)))


def serve(cluster: Cluster, namespace: str, **settings: Any) -> list[str]:
    """Deploy the service, wait until it is whole, and return its pods."""
    service = Service("app", namespace, **settings)
    cluster.apply(*service.objects())
    until(
        lambda: ready_pods(cluster, namespace) == service.replicas,
        "the service to be Ready",
        timeout=60,
    )
    return sorted(names(cluster, namespace))


@pytest.fixture
def webhook() -> Iterator[tuple[int, queue.Queue[tuple[str, dict[str, Any]]]]]:
    """A receiver on our own loopback: its port, and what it was sent."""
    received: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.put((self.headers.get("Authorization", ""), json.loads(body)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, received
        server.shutdown()


def test_cluster_is_ready(cluster: Cluster) -> None:
    """Every node is Ready and the nodes stand in more than one zone."""
    nodes = cluster.get("nodes")["items"]
    workers = [node for node in nodes if node["metadata"]["name"] in cluster.nodes]
    assert len(workers) == len(cluster.nodes)
    assert all(map(ready, workers))
    zones = {node["metadata"]["labels"].get("topology.kubernetes.io/zone") for node in workers}
    assert len(zones) == min(3, len(workers))


def test_deployment_becomes_ready_in_three_zones(real_cluster: Cluster, namespace: str) -> None:
    """A Deployment of three becomes Ready by real probes, one pod a zone, and serves."""
    chosen = serve(real_cluster, namespace)
    places = {item["spec"]["nodeName"] for item in pods(real_cluster, namespace)}
    assert len(places) == min(3, len(real_cluster.nodes))
    assert "version 1" in poke(real_cluster, namespace, chosen[0], "/")


def test_service_address_works_inside_pods(real_cluster: Cluster, namespace: str) -> None:
    """A pod reaches pods by a Service's ClusterIP, its own included, and the API server."""
    chosen = serve(real_cluster, namespace)
    service = real_cluster.get("service", "app", "-n", namespace)["spec"]["clusterIP"]
    server = real_cluster.get("service", "kubernetes")["spec"]["clusterIP"]
    route = f"/call?url=http://{service}/"
    until(lambda: poke(real_cluster, namespace, chosen[0], route), "an answer")
    seen = {poke(real_cluster, namespace, chosen[0], route) for _ in range(25)}
    assert {name for name in chosen if any(name in text for text in seen)} == set(chosen)
    assert "" not in seen
    version = poke(real_cluster, namespace, chosen[0], f"/call?url=https://{server}/version")
    assert "gitVersion" in version


def test_service_names_resolve_inside_pods(real_cluster: Cluster, namespace: str) -> None:
    """A pod finds a Service by its short and its full name, and an unknown name by neither."""
    chosen = serve(real_cluster, namespace, replicas=1)[0]
    for name in ("app", f"app.{namespace}", f"app.{namespace}.svc.cluster.local"):
        route = f"/call?url=http://{name}/"
        until(partial(poke, real_cluster, namespace, chosen, route), f"an answer of {name}")
    assert poke(real_cluster, namespace, chosen, "/call?url=http://nobody/") == ""


def test_pod_is_reached_from_outside(real_cluster: Cluster, namespace: str) -> None:
    """A relay leads from this machine to a pod, and the pod's answer comes back."""
    if real_cluster.kind != "local":
        pytest.skip(f"pods of a {real_cluster.kind} cluster have no address we can reach")
    chosen = serve(real_cluster, namespace, replicas=1)[0]
    address = real_cluster.get("pod", chosen, "-n", namespace)["status"]["podIP"]
    host, port = real_cluster.expose(8080, host=address)
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as answer:
        assert chosen in answer.read().decode()


def test_poison_is_healed_by_a_new_pod_only(real_cluster: Cluster, namespace: str) -> None:
    """Poisoned scratch state crash-loops across container restarts and ends with the pod."""
    victim = serve(real_cluster, namespace)[0]
    poke(real_cluster, namespace, victim, "/poison")

    def restarts() -> int:
        status = real_cluster.get("pod", victim, "-n", namespace)["status"]
        return int(status["containerStatuses"][0]["restartCount"])

    until(lambda: restarts() >= 2, "the container to be restarted twice", timeout=60)
    assert not ready(real_cluster.get("pod", victim, "-n", namespace))
    real_cluster.kubectl("delete", "pod", victim, "-n", namespace, "--wait=false")
    until(
        lambda: (
            victim not in names(real_cluster, namespace)
            and ready_pods(real_cluster, namespace) == 3
        ),
        "a new pod in its place",
        timeout=30,
    )


def test_hang_is_not_healed_by_the_kubelet(real_cluster: Cluster, namespace: str) -> None:
    """A hanging process without a liveness probe turns unready and is never restarted."""
    victim = serve(real_cluster, namespace)[0]
    poke(real_cluster, namespace, victim, "/hang")
    until(
        lambda: not ready(real_cluster.get("pod", victim, "-n", namespace)),
        "the hanging pod to be unready",
        timeout=30,
    )
    pause(6)
    status = real_cluster.get("pod", victim, "-n", namespace)["status"]["containerStatuses"][0]
    assert status["restartCount"] == 0
    assert "running" in status["state"]


def test_leak_is_killed_for_its_memory(real_cluster: Cluster, namespace: str) -> None:
    """A container that takes more than its limit is OOMKilled with exit code 137."""
    victim = serve(real_cluster, namespace, replicas=1, limits={"memory": "48Mi"})[0]

    def killed() -> dict[str, Any] | None:
        status = real_cluster.get("pod", victim, "-n", namespace)["status"]
        last = status["containerStatuses"][0].get("lastState", {})
        found: dict[str, Any] | None = last.get("terminated")
        return found

    poke(real_cluster, namespace, victim, "/leak?mb=64")
    terminated = until(killed, "the container to be killed", timeout=30)
    assert terminated is not None
    assert (terminated["reason"], terminated["exitCode"]) == ("OOMKilled", 137)


def test_bad_version_stalls_the_rollout(real_cluster: Cluster, namespace: str) -> None:
    """A rollout to a version that exits at start stalls while the old pods go on serving."""
    old = set(serve(real_cluster, namespace))
    bad = Service("app", namespace, environment={"BAD": "1", "VERSION": "2"})
    real_cluster.apply(bad.deployment())

    def crashing() -> bool:
        new = [it for it in pods(real_cluster, namespace) if it["metadata"]["name"] not in old]
        return any(s["restartCount"] for it in new for s in it["status"]["containerStatuses"])

    until(crashing, "the new version to crash", timeout=30)
    assert ready_pods(real_cluster, namespace) == 3


def test_alert_reaches_the_webhook(
    real_cluster: Cluster,
    namespace: str,
    state_metrics: StateMetrics,
    prometheus: Callable[[Scrape], Prometheus],
    alertmanager: Callable[[dict[str, Any]], Alertmanager],
    webhook: tuple[int, queue.Queue[tuple[str, dict[str, Any]]]],
    tmp_path: Path,
) -> None:
    """Prometheus scrapes the pods, and an alert arrives at the webhook with its token."""
    port, received = webhook
    host, inner = real_cluster.admit(port)
    sender = alertmanager(webhook_config(f"http://{host}:{inner}/", TOKEN))
    rules = tmp_path / "rules.yml"
    expression = f'kube_pod_status_ready{{namespace="{namespace}",condition="true"}} == 0'
    rule = {"alert": "PodNotReady", "expr": expression, "for": "1s"}
    rules.write_text(json.dumps({"groups": [{"name": "test", "rules": [rule]}]}))
    watcher = prometheus(
        Scrape(
            rules=[rules],
            jobs={"kube-state-metrics": [state_metrics.target]},
            alertmanagers=[sender.target],
        )
    )
    victim = serve(real_cluster, namespace)[0]
    query = f'sum(app_up{{namespace="{namespace}"}})'
    until(lambda: watcher.value(query) == 3, "three pods to be scraped", timeout=30)
    poke(real_cluster, namespace, victim, "/unready")

    def told_of_victim() -> bool:
        authorization, message = received.get(timeout=1)
        assert authorization == f"Bearer {TOKEN}"
        return any(alert["labels"]["pod"] == victim for alert in message["alerts"])

    until(lambda: not received.empty() and told_of_victim(), "the alert", timeout=40)
    assert any(it["labels"]["alertname"] == "PodNotReady" for it in sender.alerts())


def test_audit_log_names_the_write(cluster: Cluster, namespace: str) -> None:
    """The audit log holds each write with who did it, as soon as the write is answered."""
    if cluster.audit_log is None:
        pytest.skip(f"a {cluster.kind} cluster's audit log is not ours to read")
    cluster.kubectl("create", "configmap", "trace", "-n", namespace)
    events = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    written = [
        event
        for event in events
        if event.get("objectRef", {}).get("name") == "trace"
        and event["objectRef"]["namespace"] == namespace
    ]
    assert [(event["verb"], event["user"]["username"]) for event in written] == [
        ("create", "admin")
    ]
    assert not [event for event in events if event["verb"] == "list"]


@pytest.mark.timeout(180)
def test_lost_node_is_seen_and_comes_back(real_cluster: Cluster, namespace: str) -> None:
    """A node without power turns NotReady, its pods move, and it is Ready again after."""
    if real_cluster.kind == "named":
        pytest.skip("a named cluster's nodes are not ours to kill")
    serve(real_cluster, namespace)
    victim = real_cluster.nodes[-1]
    real_cluster.kill_node(victim)
    try:
        until(
            lambda: not ready(real_cluster.get("node", victim)),
            "NotReady",
            timeout=40,
            interval=0.5,
        )

        def moved() -> bool:
            living = [it for it in pods(real_cluster, namespace) if ready(it)]
            return len(living) == 3 and victim not in {it["spec"]["nodeName"] for it in living}

        until(moved, "the pods to be elsewhere", timeout=60, interval=0.5)
    finally:
        real_cluster.restore_node(victim)
    until(lambda: ready(real_cluster.get("node", victim)), "Ready again", timeout=40)


def test_frozen_kubelet_is_a_silent_node(real_cluster: Cluster, namespace: str) -> None:
    """A frozen kubelet makes its node NotReady while its containers go on serving."""
    if real_cluster.kind == "named":
        pytest.skip("a named cluster's kubelets are not ours to freeze")
    serve(real_cluster, namespace)
    victim = real_cluster.nodes[0]
    here = [it for it in pods(real_cluster, namespace) if it["spec"]["nodeName"] == victim]
    real_cluster.freeze_kubelet(victim)
    try:
        until(lambda: not ready(real_cluster.get("node", victim)), "NotReady", timeout=40)
        assert "version 1" in poke(real_cluster, namespace, here[0]["metadata"]["name"], "/")
    finally:
        real_cluster.thaw_kubelet(victim)
    until(lambda: ready(real_cluster.get("node", victim)), "Ready again", timeout=40)


def test_api_server_outage_ends(cluster: Cluster) -> None:
    """A restarted API server answers again in seconds, at the same address."""
    if cluster.kind not in {"local", "simulated"}:
        pytest.skip(f"the API server of a {cluster.kind} cluster is not ours to restart")
    began = now()
    cluster.restart_apiserver()
    assert cluster.kubectl("get", "--raw", "/readyz") == "ok"
    assert now() - began < 30
