"""A real `healer serve` process, and an Alertmanager that posts to it and remembers every answer.

Its API server is an address where nobody listens: what is accepted is kept and waits for sight.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

ROOT = Path(__file__).parents[2]
#: Whatever a test waits for comes by then, on a busy machine too. Seconds.
PATIENCE = 60.0
_numbers = count(1)

PLAYBOOK = {
    "apiVersion": "healer.dev/v1alpha1",
    "kind": "Playbook",
    "metadata": {"name": "replace"},
    "spec": {
        "summary": "Replaces a pod.",
        "mode": "auto",
        "when": {"alert": '{alertname="Down"}'},
        "target": {"kind": "Pod", "namespace": "${labels.namespace}", "name": "${labels.pod}"},
        "steps": [{
            "name": "again", "action": "delete_pod",
            "verify": {"within": "1m", "probes": [{"workload_ready": {}}]},
        }],
    },
}  # fmt: skip
KUBECONFIG = {
    "apiVersion": "v1", "kind": "Config", "current-context": "nowhere",
    "clusters": [{"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "nobody", "user": {"token": "none"}}],
    "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}],
}  # fmt: skip


def now() -> float:
    """Monotonic seconds of this machine."""
    return time.monotonic()  # noqa: TID251


@dataclass
class Served:
    """One `healer serve` process; its files other than the journal are in `folder`."""

    folder: Path
    store: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()  #: words before the command, as `prlimit --fsize=…`
    process: subprocess.Popen[bytes] | None = None
    ports: Mapping[str, int] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        """Start it and wait until its servers listen."""
        (self.folder / "playbooks").mkdir(parents=True, exist_ok=True)
        (self.folder / "playbooks" / "replace.yaml").write_text(yaml.safe_dump(PLAYBOOK))
        (self.folder / "kubeconfig").write_text(yaml.safe_dump(KUBECONFIG))
        settings = {
            "store": dict(self.store),
            "pause_file": str(self.folder / "pause"),
            "listen": {name: {"port": 0} for name in ("webhook", "api", "health")},
            "playbooks": {"paths": [str(self.folder / "playbooks")]},
            "kubernetes": {"kubeconfig": str(self.folder / "kubeconfig")},
            "log": {"format": "json"},
        }
        (self.folder / "healer.yaml").write_text(yaml.safe_dump(settings))
        said = self.folder / f"healer-{next(_numbers)}.log"
        with said.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.limits, sys.executable, "-m", "healer", "serve",
                 "--config", str(self.folder / "healer.yaml")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                env={**os.environ, **self.environment},
            )  # fmt: skip
        ends = now() + PATIENCE
        while not (serving := _serving(said.read_text())):
            if self.process.poll() is not None or now() > ends:
                raise AssertionError(f"healer does not serve:\n{said.read_text()[-4000:]}")
            await asyncio.sleep(0.05)  # noqa: TID251 - the log of another process
        self.ports = serving

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def _serving(log: str) -> dict[str, int]:
    """The ports, from the line that says them."""
    for line in log.splitlines():
        if '"serving"' in line:
            ports: dict[str, int] = json.loads(line)["ports"]
            return ports
    return {}


@dataclass
class Answer:
    """What one delivery was told."""

    status: int
    seconds: float
    at: float  #: monotonic, when it came
    text: str = ""  #: the beginning of the body: why it was refused


class Sender:
    """Posts alerts, one each, and remembers what was acknowledged."""

    def __init__(self, served: Served, http: aiohttp.ClientSession) -> None:
        self._served = served
        self._http = http
        self.answers: list[Answer] = []
        self.acknowledged: list[bytes] = []  #: bodies answered with 2xx
        self.refused: list[bytes] = []

    async def post(self, body: bytes) -> Answer:
        """One delivery. A connection that breaks is an answer of 0: Alertmanager sends again."""
        began = now()
        url = f"http://127.0.0.1:{self._served.ports['webhook']}/v1/alertmanager"
        try:
            async with self._http.post(url, data=body) as response:
                text = (await response.text())[:200]
                status = response.status
        except aiohttp.ClientConnectionError as error:
            status, text = 0, repr(error)
        answer = Answer(status, now() - began, now(), text)
        self.answers.append(answer)
        (self.acknowledged if status == 200 else self.refused).append(body)
        return answer

    async def ready(self) -> int:
        """The status of `/readyz`."""
        url = f"http://127.0.0.1:{self._served.ports['health']}/readyz"
        async with self._http.get(url) as response:
            await response.read()
            return response.status

    async def until_ready(self, status: int) -> float:
        """Wait until `/readyz` answers so; how long that took."""
        began = now()
        while await self.ready() != status:
            assert now() - began < PATIENCE, f"/readyz never answers {status}"
            await asyncio.sleep(0.05)  # noqa: TID251 - another process
        return now() - began

    async def flow(self, rate: float, stop: asyncio.Event) -> None:
        """Post at `rate`, whether or not the last was answered, until told to stop."""
        sent: set[asyncio.Task[Answer]] = set()
        while not stop.is_set():
            task = asyncio.create_task(self.post(body()))
            sent.add(task)
            task.add_done_callback(sent.discard)
            await asyncio.sleep(1 / rate)  # noqa: TID251 - the rate
        await asyncio.gather(*sent)


def body(size: int = 200) -> bytes:
    """One delivery of one new alert."""
    number = next(_numbers)
    labels = {"alertname": "Down", "namespace": "shop", "pod": f"web-{os.getpid()}-{number}"}
    alert = {
        "status": "firing", "labels": labels, "annotations": {"summary": "x" * size},
        "startsAt": "2026-01-05T10:48:17.123Z", "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "", "fingerprint": f"{number:016x}",
    }  # fmt: skip
    return json.dumps({"version": "4", "receiver": "healer", "alerts": [alert]}).encode()


def recovered(answers: Sequence[Answer], since: float, *, row: int = 20) -> float:
    """Seconds from `since` until the first of `row` answers in a row that were all 200 and fast."""
    good = 0
    first = since
    for answer in sorted(answers, key=lambda each: each.at):
        if answer.at < since:
            continue
        if answer.status != 200 or answer.seconds > 0.1:
            good = 0
            continue
        good += 1
        if good == 1:
            first = answer.at
        if good == row:
            return first - since
    return float("inf")
