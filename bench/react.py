"""Webhook to patch: from the moment an alert is sent to the API server's answer to healer's patch.

    python -m bench.react [--rate 20] [--seconds 30] [--controllers]

A real API server, a journal with fsync and a `healer serve` process; every episode restarts a
Deployment of its own. Open loop: an alert is due at its time whether or not earlier ones were
answered, and is measured from when it was due. The end is the API server's own: the moment, in its
audit log, at which it had answered the patch. What happens between is told from the journal.

The Deployments are rolled out by the real controllers beforehand. While it measures, these are
stopped, because in a cluster the rollouts that follow burn other machines' cores and not healer's;
`--controllers` lets them run. Healer goes on looking whether its earlier restarts helped.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from bench.ingest import Client
from bench.machine import Usage
from bench.report import Bars, load, spread, tell
from healer.domain.journal import FactKind
from healer.kernel.clock import SystemClock, rfc3339
from healer.store.sqlite import SqliteStore
from tests.bed.cluster import Options
from tests.bed.ports import free_port
from tests.bed.simulated import CAPACITY, SimulatedCluster
from tests.bed.waiting import until
from tests.demo.stack import Healer

BARS: Bars = {"patch_p99_ms": (250.0, True)}
NAMESPACE = "bench"
CLOCK = SystemClock()
#: Not measured: the first episodes meet cold connections and caches.
WARM = 40
APPLY_AT_ONCE = 100
TOKEN = "0123456789abcdef0123456789abcdef"  # of a daemon that lives for a minute

#: Budgets that allow every episode; every guard is asked all the same.
PLAYBOOK = """\
apiVersion: healer.dev/v1alpha1
kind: Playbook
metadata: {name: bench-restart}
spec:
  summary: Restart the Deployment that the alert names.
  mode: auto
  when:
    alert: '{alertname="BenchDeploymentSick", namespace!="", deployment!=""}'
  target:
    kind: Deployment
    namespace: ${labels.namespace}
    name: ${labels.deployment}
  guards:
    budgets:
      playbook: 100000/1h
      action_class: 100000/1h
      namespace: 100000/1h
      cluster: 100000/1h
    unless:
      - cel: 'pods.exists(p, p.reason == "ImagePullBackOff")'
        because: a restart does not bring an image
  steps:
    - name: restart
      action: restart_rollout
      verify:
        within: 20m
        every: 15s
        probes:
          - workload_ready: {}
"""


def deployment(name: str) -> dict[str, Any]:
    """A small Deployment of one replica."""
    labels = {"app": name}
    container = {"name": "app", "image": "localhost/app:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
        },
    }


def deploy(cluster: SimulatedCluster, names: list[str]) -> None:
    """Create them, and wait until the controllers have rolled all of them out."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    for start in range(0, len(names), APPLY_AT_ONCE):
        items = [deployment(name) for name in names[start : start + APPLY_AT_ONCE]]
        content = {"apiVersion": "v1", "kind": "List", "items": items}
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(content), timeout=120)
    until(lambda: _rolled_out(cluster) == len(names), "the rollouts", timeout=300, interval=1.0)


def _rolled_out(cluster: SimulatedCluster) -> int:
    whole = 0
    for one in cluster.get("deployments", "-n", NAMESPACE)["items"]:
        status = one.get("status") or {}
        seen = status.get("observedGeneration") == one["metadata"]["generation"]
        whole += seen and status.get("readyReplicas") == 1
    return whole


def rest(cluster: SimulatedCluster) -> None:
    """Stop what would roll out again."""
    for name in ("kube-scheduler", "kube-controller-manager", "kwok"):
        process = cluster.run.process(name)
        if process is not None:
            process.stop()


def settings(folder: Path, kubeconfig: Path) -> dict[str, Any]:
    """The daemon's defaults, with files in `folder` and free ports."""
    playbook = folder / "playbooks" / "bench-restart.yaml"
    playbook.parent.mkdir()
    playbook.write_text(PLAYBOOK)
    (folder / "token").write_text(TOKEN + "\n")
    return {
        "store": {"path": str(folder / "healer.db")},
        "pause_file": str(folder / "pause"),
        "listen": {name: {"port": free_port()} for name in ("webhook", "api", "health")},
        "sources": {"alertmanager": {"token_files": [str(folder / "token")]}},
        "people": {"bench": {"token_files": [str(folder / "token")], "role": "operator"}},
        "kubernetes": {"kubeconfig": str(kubeconfig)},
        "playbooks": {"paths": [str(playbook.parent)]},
    }


def delivery(name: str) -> bytes:
    """A webhook with one new alert on one Deployment, head and body."""
    labels = {
        "alertname": "BenchDeploymentSick", "namespace": NAMESPACE, "deployment": name,
        "severity": "warning", "job": "kube-state-metrics", "instance": "10.1.0.7:8080",
    }  # fmt: skip
    alert = {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": f"{name} is sick", "runbook_url": "https://runbooks.example/"},
        "startsAt": rfc3339(CLOCK.now()),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph?g0.expr=up",
        "fingerprint": "",
    }
    body = json.dumps({
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing",
        "receiver": "healer", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://alertmanager.example", "alerts": [alert],
    }).encode()  # fmt: skip
    head = (
        "POST /v1/alertmanager HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(frozen=True)
class Sent:
    """When one alert was due, and how long its 200 took. Unix seconds; seconds."""

    due: float
    answered: float


async def send(port: int, names: list[str], rate: float) -> tuple[dict[str, Sent], dict[int, int]]:
    """One alert on each Deployment, `rate` a second; also how many answers had which status."""
    client = Client(port)
    sent: dict[str, Sent] = {}

    async def one(name: str, due: float) -> None:
        await client.send(delivery(name))
        sent[name] = Sent(due, CLOCK.now() - due)

    start = CLOCK.now() + 0.05
    async with asyncio.TaskGroup() as group:
        for number, name in enumerate(names):
            due = start + number / rate
            wait = due - CLOCK.now()
            if wait > 0:
                await asyncio.sleep(wait)  # the open loop's own beat
            group.create_task(one(name, due))
    client.close()
    return sent, client.statuses


@dataclass(frozen=True)
class Patch:
    """One patch of healer's, by the API server's own clock. Unix seconds."""

    asked: float
    answered: float
    code: int


def patches(audit_log: Path) -> dict[str, list[Patch]]:
    """Healer's patches of Deployments by name, as the API server recorded them."""
    found: dict[str, list[Patch]] = {}
    for line in audit_log.read_text().splitlines():
        if '"patch"' not in line:
            continue
        event = json.loads(line)
        about = event.get("objectRef") or {}
        ours = str(event.get("userAgent", "")).startswith("healer/")
        if event["verb"] != "patch" or not ours or about.get("resource") != "deployments":
            continue
        found.setdefault(about["name"], []).append(
            Patch(
                _seconds(event["requestReceivedTimestamp"]), _seconds(event["stageTimestamp"]),
                event["responseStatus"]["code"],
            )
        )  # fmt: skip
    return found


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


@dataclass(frozen=True)
class Journal:
    """What healer wrote down."""

    first: dict[str, dict[FactKind, float]]  #: by Deployment: when each kind of fact first was
    held: dict[str, int]  #: why episodes were not acted on, and how many

    @classmethod
    async def read(cls, path: Path) -> Self:
        """All of it, from a journal that nobody has open any more."""
        target: dict[str, str] = {}
        first: dict[str, dict[FactKind, float]] = {}
        last: dict[str, str] = {}
        store = await SqliteStore.open(path, clock=CLOCK)
        after = 0
        while some := await store.facts(after=after, limit=5000):
            after = some[-1].seq
            for fact in (sealed.fact for sealed in some):
                first.setdefault(fact.episode_id, {}).setdefault(fact.kind, fact.at)
                if fact.kind is FactKind.PLANNED:
                    target[fact.episode_id] = str(fact.data["target"]).rpartition("/")[2]
                if fact.kind in {FactKind.VERDICT, FactKind.DECIDED}:
                    last[fact.episode_id] = str(fact.reason)
        await store.close()
        held = Counter(last.get(id_, "nothing said") for id_, at in first.items() if not _acted(at))
        return cls({target[id_]: at for id_, at in first.items() if id_ in target}, dict(held))


def _acted(at: Mapping[FactKind, float]) -> bool:
    return FactKind.INTENT in at


def figures_of(
    sent: Mapping[str, Sent], found: Mapping[str, list[Patch]], journal: Journal
) -> tuple[dict[str, Any], list[str]]:
    """Latencies of the episodes that were patched, and what is wrong with the others."""
    good = {n: p[0] for n, p in found.items() if n in sent and p[0].code == 200}
    missing = len(sent) - len(good)
    twice = sorted(n for n in sent if len(found.get(n, ())) > 1)
    problems = []
    if missing:
        problems.append(f"{missing} of {len(sent)} were never patched; held: {journal.held}")
    if twice:
        problems.append(f"{len(twice)} were patched more than once, {twice[0]} first")
    parts: dict[str, list[float]] = {
        "sent_to_folded": [], "folded_to_intent": [], "intent_to_ack": [],
    }  # fmt: skip
    for name, patch in good.items():
        folded, intent = (
            journal.first[name][kind] for kind in (FactKind.ACCEPTED, FactKind.INTENT)
        )
        parts["sent_to_folded"].append(folded - sent[name].due)
        parts["folded_to_intent"].append(intent - folded)
        parts["intent_to_ack"].append(patch.answered - intent)
    figures: dict[str, Any] = {
        "episodes": len(sent),
        "patched": len(good),
        **spread("patch", [patch.answered - sent[name].due for name, patch in good.items()]),
        **spread("webhook_answer", [one.answered for one in sent.values()]),
    }
    for part, spent in parts.items():
        figures |= spread(part, spent)
    asked = [patch.answered - patch.asked for patch in good.values()]
    return figures | spread("api_server_patch", asked), problems


async def measure(
    folder: Path, rate: float, seconds: float, *, controllers: bool, cluster: SimulatedCluster
) -> tuple[dict[str, Any], list[str]]:
    """Send the alerts, wait for the last patch, and read both records."""
    names = [f"web-{number}" for number in range(WARM + round(rate * seconds))]
    deploy(cluster, names)
    if not controllers:
        rest(cluster)
    given = settings(folder, cluster.kubeconfig)
    healer = Healer(cluster, folder / "healer", given, TOKEN).start()
    try:
        port = given["listen"]["webhook"]["port"]
        assert cluster.audit_log is not None
        assert healer.process is not None
        log = cluster.audit_log
        await send(port, names[:WARM], rate)
        await _settled(log, WARM)
        usage, before = Usage.of(healer.process.pid), load()
        sent, statuses = await send(port, names[WARM:], rate)
        await _settled(log, len(names))
        used = usage.since()
    finally:
        healer.stop()
    figures, problems = figures_of(sent, patches(log), await Journal.read(folder / "healer.db"))
    figures |= {
        "healer_cpu_ms_per_episode": round(1000 * used.cpu_seconds / len(sent), 1),
        "healer_rss_mebibytes": round(used.rss_mebibytes),
        "load_before": before,
        "load_after": load(),
        "answers": statuses,
    }
    if set(statuses) != {200}:
        problems.append(f"answers other than 200: {statuses}")
    return figures, problems


async def _settled(log: Path, wanted: int) -> None:
    """Until every episode was patched, or nothing more was for a while."""
    last, since = 0, CLOCK.monotonic()
    while last < wanted and CLOCK.monotonic() - since < 20:
        now = len(await asyncio.to_thread(patches, log))
        if now > last:
            last, since = now, CLOCK.monotonic()
        await asyncio.sleep(0.5)  # a file has no event to await


async def run(
    rate: float, seconds: float, *, controllers: bool
) -> tuple[dict[str, Any], list[str]]:
    """Bring up a cluster of simulated nodes, measure, and take everything down."""
    async with AsyncExitStack() as stack:
        place = tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-")
        folder = Path(stack.enter_context(place))
        pods = WARM + round(rate * seconds)
        nodes = 1 + pods // (int(CAPACITY["pods"]) - 10)
        cluster = SimulatedCluster(
            # A busy machine must not make the controllers take the nodes for dead.
            Options(nodes=nodes, node_monitor_grace="300s", toleration_seconds=600)
        )
        stack.callback(cluster.stop)
        await asyncio.to_thread(cluster.start)
        return await measure(folder, rate, seconds, controllers=controllers, cluster=cluster)


def main() -> int:
    """Measure, print a table, then one JSON line; the exit code is 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="bench.react")
    parser.add_argument("--rate", type=float, default=20.0, help="episodes a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--controllers", action="store_true", help="let the controllers run")
    given = parser.parse_args()
    figures, problems = asyncio.run(run(given.rate, given.seconds, controllers=given.controllers))
    return tell(figures, BARS, problems)


if __name__ == "__main__":
    sys.exit(main())
