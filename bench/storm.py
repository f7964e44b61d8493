"""A storm: 10,000 alerts at once, and what healer does about them.

    python -m bench.storm [--alerts 10000] [--seconds 20]

One `healer serve` process, a journal with fsync, a real API server. The alerts come in groups of
500, name 50 Deployments, and have one playbook with the default budgets. After
all are matched it is watched for a while: whatever is done must be paid by a budget, as the history
checker finds, and whatever waits must say until when. The last line is one JSON object with `ok`.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web

from bench.ingest import Client
from bench.machine import Usage
from bench.react import CLOCK, NAMESPACE, TOKEN, deployment, settings
from bench.report import Bars, tell
from healer.kernel.clock import rfc3339
from healer.kernel.ids import label_fingerprint
from healer.store.sqlite import SqliteStore
from healer.testing.history import History, Tolerance, check
from healer.testing.history.reading import audit_effects, read_store
from tests.bed.api import Api
from tests.crash.plane import PlaneOnly
from tests.demo.stack import Healer

BARS: Bars = {
    "accepted_seconds": (5.0, True),
    "matched_seconds": (10.0, True),
    "peak_mebibytes": (512.0, True),
    "budgets_overdrawn": (0, True),
    "effects_without_intent_or_repeated": (0, True),
    "waiting_without_expected_time": (0, True),
}
DEPLOYMENTS = 50
STARTED = rfc3339(CLOCK.now())
GROUP = 500
#: Waiting episodes whose explanation is looked at.
SAMPLE = 40
PLAYBOOK = """\
apiVersion: healer.dev/v1alpha1
kind: Playbook
metadata: {name: bench-restart}
spec:
  summary: Restart the Deployment that the alert names.
  mode: auto
  when:
    alert: '{alertname="BenchStorm"}'
  target: {kind: Deployment, namespace: '${labels.namespace}', name: '${labels.deployment}'}
  guards: {allowDuringRollout: true}
  steps:
    - name: restart
      action: restart_rollout
      verify: {within: 20m, every: 15s, probes: [{workload_ready: {}}]}
"""


def alerts_of(numbers: range) -> list[dict[str, Any]]:
    """These alerts, as Alertmanager writes them."""
    found = []
    for number in numbers:
        labels = {
            "alertname": "BenchStorm", "namespace": NAMESPACE, "severity": "warning",
            "deployment": f"web-{number % DEPLOYMENTS}", "pod": f"pod-{number}",
        }  # fmt: skip
        found.append({
            "status": "firing", "labels": labels, "startsAt": STARTED,
            "annotations": {"summary": f"pod-{number} is sick"},
            "endsAt": "0001-01-01T00:00:00Z", "fingerprint": label_fingerprint(labels),
        })  # fmt: skip
    return found


async def _alertmanager(count: int) -> tuple[web.AppRunner, int]:
    """Says that all of them fire, whenever it is asked."""
    body = json.dumps(alerts_of(range(count))).encode()

    async def level(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    application = web.Application()
    application.router.add_get("/api/v2/alerts", level)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, runner.addresses[0][1]


def delivery(numbers: range) -> bytes:
    """A webhook with these new alerts, head and body."""
    alerts = alerts_of(numbers)
    body = json.dumps({"version": "4", "receiver": "healer", "alerts": alerts}).encode()
    head = (
        "POST /v1/alertmanager HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def measure(folder: Path, cluster: PlaneOnly, count: int, watch: float) -> dict[str, Any]:
    """Send, wait until all are matched, watch, and read every record."""
    api = Api(cluster.kubeconfig)
    api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    for number in range(DEPLOYMENTS):
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
        api.create(path, deployment(f"web-{number}"))
    given = settings(folder, cluster.kubeconfig)
    level, port = await _alertmanager(count)
    given["alertmanager"] = {"urls": [f"http://127.0.0.1:{port}"]}
    (folder / "playbooks" / "bench-restart.yaml").write_text(PLAYBOOK)
    healer = Healer(cluster, folder / "healer", given, TOKEN).start()
    assert healer.process is not None
    try:
        usage = Usage.of(healer.process.pid)
        client = Client(given["listen"]["webhook"]["port"])
        messages = [delivery(range(at, min(count, at + GROUP))) for at in range(0, count, GROUP)]
        began = CLOCK.now()

        while messages:  # one after the other; what is refused is sent again, as Alertmanager does
            known = client.statuses.get(200, 0)
            await client.send(messages[-1])
            if client.statuses.get(200, 0) > known:
                messages.pop()
        accepted = CLOCK.now() - began
        client.close()
        matched = await _matched(healer, count, began)
        await CLOCK.sleep(watch)
        waiting = await asyncio.to_thread(_waiting, healer)
        used = usage.since()
    finally:
        healer.stop()
        await level.cleanup()
    figures = {
        "alerts": count,
        "accepted_seconds": round(accepted, 2),
        "matched_seconds": round(matched, 2),
        "peak_mebibytes": round(used.peak_mebibytes),
        "healer_cpu_seconds": round(used.cpu_seconds, 1),
        "answers": client.statuses,
        **waiting,
    }
    return figures | await _judged(folder / "healer.db", cluster)


async def _matched(healer: Healer, count: int, began: float) -> float:
    """Seconds until every alert has an episode that was looked at and has a verdict or a run."""
    while CLOCK.now() - began < 120:
        counts = (await asyncio.to_thread(healer.get, "/v1/status"))["counts"]
        known = sum(n for name, n in counts.items() if name.startswith("episodes/"))
        if known >= count and not counts["inbox"] and not counts.get("episodes/open"):
            return CLOCK.now() - began
        await CLOCK.sleep(0.1)
    return 999.0  # not within two minutes


def _waiting(healer: Healer) -> dict[str, Any]:
    held = healer.episodes("state=blocked&limit=1000")
    without_time = without_place = 0
    for episode in held[:: max(1, len(held) // SAMPLE)]:
        told = healer.story(episode["id"])["explanation"]
        without_time += told["next_look_at"] is None
        without_place += told["queue_place"] is None
    return {
        "why_they_wait": dict(Counter(episode["reason"] for episode in held)),
        "waiting_looked_at": min(SAMPLE, len(held)),
        "waiting_without_expected_time": without_time,
        "waiting_without_place": without_place,
    }


async def _judged(path: Path, cluster: PlaneOnly) -> dict[str, Any]:
    store = await SqliteStore.open(path, clock=CLOCK)
    facts, runs, episodes = await read_store(store)
    await store.close()
    assert cluster.audit_log is not None
    effects = tuple(audit_effects(cluster.audit_log.read_text().splitlines()))
    history = History(CLOCK.now(), facts, runs, episodes, effects, tolerance=Tolerance(stuck=1e9))
    report = check(replace(history, firing=None))
    kinds = Counter(str(found.kind) for found in report.violations)
    return {
        "actions": report.effects,
        "budgets_overdrawn": kinds.pop("budget_exceeded", 0),
        "effects_without_intent_or_repeated": kinds.total(),
    }


def main() -> int:
    """Measure, print a table, then one JSON line; the exit code is 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="bench.storm")
    parser.add_argument("--alerts", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="watch it for so long after")
    given = parser.parse_args()
    cluster = PlaneOnly()
    cluster.start()
    try:
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
            figures = asyncio.run(measure(Path(folder), cluster, given.alerts, given.seconds))
    finally:
        cluster.stop()
    return tell(figures, BARS)


if __name__ == "__main__":
    sys.exit(main())
