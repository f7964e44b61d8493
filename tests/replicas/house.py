"""Several real healers on one journal and one real API server, and what may befall them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from healer.kernel.clock import SystemClock, rfc3339
from healer.kernel.ids import label_fingerprint
from tests.bed.ports import free_port
from tests.crash.plane import PlaneOnly
from tests.postgres import Server
from tests.replicas.relay import Relay

ROOT = Path(__file__).resolve().parent.parent.parent
CLOCK = SystemClock()
TOKEN = "0123456789abcdef0123456789abcdef"
NAMESPACE = "town"
#: Whatever is awaited comes by then, on a busy machine too. Seconds.
PATIENCE = 60.0

_PLAYBOOK = """\
apiVersion: healer.dev/v1alpha1
kind: Playbook
metadata: {{name: {name}}}
spec:
  summary: Mend what is broken in the town.
  mode: auto
  when:
    alert: '{{alertname="{name}"}}'
  target: {{kind: ConfigMap, namespace: '${{labels.namespace}}', name: '${{labels.flag}}'}}
  guards:
    cooldown: 1s
    storm: {{maxInFlight: 1000}}
    breaker: {{failures: 100, for: 1s}}
    budgets:
      {{target: 100000/1h, owner: 100000/1h, playbook: 100000/1h, action_class: 100000/1h,
       namespace: 100000/1h, zone: 100000/1h, cluster: 100000/1h}}
  steps:
    - name: step
      action: {action}
      timeout: 2s
      with: {parameters}
      verify:
        within: 10m
        every: 1s
        probes:
          - alert_resolved: {{}}
"""


def playbooks(folder: Path, server: str) -> Path:
    """One whose effect can be looked up, and one whose effect nobody can look up."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, action, parameters in (
        ("flag", "patch_config_map", "{key: colour, value: blue}"),
        ("once", "http_call", f"{{url: '{server}/once', json: {{n: '${{labels.flag}}'}}}}"),
    ):
        text = _PLAYBOOK.format(name=name, action=action, parameters=parameters)
        (folder / f"{name}.yaml").write_text(text)
    return folder


class Counted:
    """An HTTP server that counts what it was asked for, and plays Alertmanager's API."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.firing: dict[str, dict[str, Any]] = {}  #: by flag, as Alertmanager's API says it
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Counted]:
        application = web.Application()
        application.router.add_post("/once", self._once)
        application.router.add_get("/api/v2/alerts", self._alerts)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def say(self, alert: dict[str, Any]) -> None:
        """Alertmanager knows of this alert, or that it ended."""
        fingerprint = label_fingerprint(alert["labels"])
        self.firing.pop(fingerprint, None)
        if alert["status"] == "firing":
            self.firing[fingerprint] = {
                **alert, "fingerprint": fingerprint, "status": {"state": "active"},
                "receivers": [{"name": "healer"}],
            }  # fmt: skip

    async def _alerts(self, request: web.Request) -> web.Response:
        """Alertmanager's API: whatever was delivered fires."""
        return web.json_response(list(self.firing.values()))

    async def _once(self, request: web.Request) -> web.Response:
        self.calls[(await request.json())["n"]] += 1
        return web.json_response({})


@dataclass
class Replica:
    """One `healer serve` process."""

    name: str
    folder: Path
    settings: dict[str, Any]
    http: aiohttp.ClientSession
    counted: Counted
    module: str = "healer"
    process: subprocess.Popen[bytes] | None = None
    spawned_at: float = 0.0

    async def start(self, *, crash: str = "", wait: bool = True) -> Replica:
        """Start it, and return when it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "healer.yaml"
        config.write_text(yaml.safe_dump(self.settings))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if crash:
            environment["HEALER_CRASH_POINT"] = crash
        with (self.folder / "log").open("ab") as log:
            self.spawned_at = CLOCK.now()
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "serve", "--config", str(config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=environment,
            )  # fmt: skip
        if wait:
            await until(self.ready, f"{self.name} to be ready")
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def port(self, name: str) -> int:
        found: int = self.settings["listen"][name]["port"]
        return found

    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    @property
    def stopped(self) -> bool:
        """Whether it is frozen."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def dead(self) -> bool:
        """Whether it has ended."""
        assert self.process is not None
        return self.process.poll() is not None

    async def ended(self) -> tuple[int, float]:
        """Its exit code, and how long it took from now."""
        began = CLOCK.monotonic()
        await until(self.dead, f"{self.name} to end")
        assert self.process is not None
        return self.process.returncode, CLOCK.monotonic() - began

    def kill(self) -> None:
        """End it for good, whatever its state."""
        if self.process is not None and not self.dead():
            self.process.kill()
            self.process.wait()

    async def status_of(self, page: str, seconds: float = 5.0) -> int:
        """HTTP status of a page of the health listener; 0 when nobody answers."""
        url = f"http://127.0.0.1:{self.port('health')}{page}"
        try:
            async with asyncio.timeout(seconds), self.http.get(url) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def ready(self) -> bool:
        """Whether it takes alerts."""
        assert not self.dead(), f"{self.name} ended:\n{self.log()[-3000:]}"
        return await self.status_of("/readyz") == 200

    async def ask(self, path: str, seconds: float = 10.0) -> Any:
        """A JSON answer of its API."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"http://127.0.0.1:{self.port('api')}{path}"
        async with asyncio.timeout(seconds), self.http.get(url, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def leads(self) -> bool:
        """Whether it says that it leads."""
        return bool((await self.ask("/v1/status"))["leads"])

    async def deliver(self, name: str, *flags: str, resolved: bool = False) -> tuple[int, float]:
        """One delivery with an alert for each flag; status (0: no answer) and seconds."""
        alerts = [
            {
                "status": "resolved" if resolved else "firing",
                "labels": {"alertname": name, "namespace": NAMESPACE, "flag": flag},
                "annotations": {}, "startsAt": rfc3339(CLOCK.now()),
                "endsAt": rfc3339(CLOCK.now()) if resolved else "0001-01-01T00:00:00Z",
                "generatorURL": "", "fingerprint": "",
            }
            for flag in flags
        ]  # fmt: skip
        for alert in alerts:
            self.counted.say(alert)
        body = json.dumps({"version": "4", "receiver": "healer", "alerts": alerts}).encode()
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.port('webhook')}/v1/alertmanager"
        began = CLOCK.monotonic()
        try:
            async with (
                asyncio.timeout(PATIENCE),
                self.http.post(url, data=body, headers=headers) as answer,
            ):
                return answer.status, CLOCK.monotonic() - began
        except (aiohttp.ClientError, TimeoutError):
            return 0, CLOCK.monotonic() - began

    async def delivered(self, name: str, *flags: str) -> None:
        """Deliver until it is taken, as Alertmanager does, or the replica has died of it."""

        async def taken() -> bool:
            return (await self.deliver(name, *flags))[0] == 200 or self.dead()

        await until(taken, f"{self.name} to take {name} {flags[:3]}")


@dataclass
class House:
    """The API server, the journal, the counting server, and the replicas on them."""

    folder: Path
    plane: PlaneOnly
    http: aiohttp.ClientSession
    counted: Counted
    stack: AsyncExitStack
    postgres: Server | None = None
    database: str = ""
    replicas: list[Replica] = field(default_factory=list)
    lease: float = 4.0  #: of claims; the election's are half of it and shorter

    @property
    def audit_log(self) -> Path:
        assert self.plane.audit_log is not None
        return self.plane.audit_log

    def store(self, name: str) -> dict[str, Any]:
        """The `store` section: the shared database, or a file of its own."""
        if self.postgres is None:
            return {"path": str(self.folder / name / "healer.db")}
        return {"url": self.postgres.dsn(self.database)}

    def replica(self, name: str, **more: Any) -> Replica:
        """A replica that is not started yet; `more` is laid over its settings."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text(TOKEN + "\n")
        settings: dict[str, Any] = {
            "store": self.store(name),
            "pause_file": str(folder / "pause"),
            "listen": {kind: {"port": free_port()} for kind in ("webhook", "api", "health")},
            "sources": {"alertmanager": {"token_files": [str(folder / "token")]}},
            "people": {"test": {"token_files": [str(folder / "token")], "role": "operator"}},
            "kubernetes": {"kubeconfig": str(self.plane.kubeconfig)},
            "playbooks": {"paths": [str(self.folder / "playbooks")]},
            "http": {"allow": [f"internal+{self.counted.url}"]},
            "alertmanager": {"urls": [self.counted.url]},
            "worker": {"lease_seconds": self.lease, "replica": name},
            "election": {
                "lease_name": f"healer-{self.folder.name.lower().replace('_', '-')}"[:60],
                "lease_seconds": 3.0, "renew_deadline_seconds": 2.0, "retry_seconds": 0.5,
            },
            "log": {"format": "json"},
        }  # fmt: skip
        settings |= more
        made = Replica(name, folder, settings, self.http, self.counted)
        self.replicas.append(made)
        self.stack.callback(made.kill)
        return made

    async def flags(self, *names: str) -> None:
        """Make ConfigMaps that can be mended."""
        items = [
            {"apiVersion": "v1", "kind": "ConfigMap",
             "metadata": {"name": name, "namespace": NAMESPACE}, "data": {"colour": "red"}}
            for name in names
        ]  # fmt: skip
        await asyncio.to_thread(self.plane.apply, *items)

    async def api_relay(self, name: str) -> tuple[Relay, dict[str, Any]]:
        """A relay to the API server for one replica, and the `kubernetes` section that takes it."""
        content = yaml.safe_load(self.plane.kubeconfig.read_text())
        server = content["clusters"][0]["cluster"]["server"]
        host, _, port = server.removeprefix("https://").partition(":")
        relay = await Relay.tcp(host, int(port))
        self.stack.push_async_callback(relay.close)
        content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return relay, {"kubeconfig": str(path)}

    async def database_relay(self, name: str) -> tuple[Relay, dict[str, Any]]:
        """A relay to PostgreSQL for one replica, and the `store` section that takes it."""
        assert self.postgres is not None
        folder = self.postgres.folder / name
        folder.mkdir()
        socket = ".s.PGSQL.5432"
        relay = await Relay.unix(folder / socket, self.postgres.folder / socket)
        self.stack.push_async_callback(relay.close)
        url = self.postgres.dsn(self.database).replace(str(self.postgres.folder), str(folder))
        return relay, {"url": url}

    # ------------------------------------------------------------------ what can be seen

    def patches(self) -> Counter[str]:
        """Successful patches of flags by healer, by name: the API server's own record."""
        found: Counter[str] = Counter()
        for line in self.audit_log.read_text().splitlines():
            if '"patch"' not in line or '"configmaps"' not in line:
                continue
            event = json.loads(line)
            about = event.get("objectRef") or {}
            ours = str(event.get("userAgent", "")).startswith("healer/")
            if ours and event["verb"] == "patch" and about.get("resource") == "configmaps":
                found[about["name"]] += event["responseStatus"]["code"] == 200
        return found

    async def mended(self, *flags: str) -> None:
        """Wait until each was patched; once, or this fails."""

        async def all_once() -> bool:
            # In a thread: what Alertmanager says is asked of this loop meanwhile.
            found = await asyncio.to_thread(self.patches)
            assert all(found[flag] <= 1 for flag in flags), found
            return all(found[flag] for flag in flags)

        await until(all_once, f"{flags[:3]} to be mended")

    async def story(self, of: Replica, flag: str) -> dict[str, Any]:
        """Episode, runs and facts of a flag, as `of` tells them; empty while there is none."""
        found = (await of.ask("/v1/episodes?limit=500"))["episodes"]
        ids = [e["id"] for e in found if e["labels"]["flag"] == flag]
        return await of.ask(f"/v1/episodes/{ids[0]}") if ids else {}

    async def facts(self, of: Replica, flag: str, kind: str) -> list[dict[str, Any]]:
        """The flag's facts of one kind."""
        story = await self.story(of, flag)
        return [s["fact"] for s in story.get("facts", ()) if s["fact"]["kind"] == kind]


async def until(true: Callable[[], Any], what: str, seconds: float = PATIENCE) -> float:
    """Wait until it is so, asking again and again; returns how long it took."""
    began = CLOCK.monotonic()
    while True:
        answer = true()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return CLOCK.monotonic() - began
        assert CLOCK.monotonic() - began < seconds, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.02)  # noqa: TID251 - other processes give no events


@asynccontextmanager
async def a_house(
    folder: Path, plane: PlaneOnly, postgres: Server | None, **more: Any
) -> AsyncIterator[House]:
    """A house with a journal of its own; every replica in it is ended with it."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        )
        counted = await stack.enter_async_context(Counted().serving())
        house = House(folder, plane, http, counted, stack, postgres, **more)
        if postgres is not None:
            dsn = await asyncio.to_thread(postgres.new_database)
            house.database = dsn.partition("@/")[2].partition("?")[0]
        playbooks(folder / "playbooks", counted.url)
        yield house


def furnish(plane: PlaneOnly) -> None:
    """The namespaces that a house needs."""
    plane.apply(
        *(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            for name in (NAMESPACE, "healer")
        )
    )
