"""The whole daemon in the test's own process: `healer.app.start`, real sockets, a journal on disk.

What it commits is heard as it becomes durable, so a test waits for facts and not for time.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from healer import app as healer_app
from healer.domain.episode import Episode
from healer.domain.journal import Fact, FactKind
from healer.domain.run import Run
from healer.kernel.clock import Clock, SystemClock, rfc3339
from healer.ports import Cluster, EpisodeFilter, Message
from healer.settings import Settings
from tests.faults.fast import REAL

#: Whatever a test waits for comes by then, on a busy machine too. Real seconds.
PATIENCE = 60.0
#: Budgets that never bind, for tests in which other things must.
SCOPES = ("target", "owner", "playbook", "action_class", "namespace", "zone", "cluster")
PLENTY = dict.fromkeys(SCOPES, "100000/1h")


class Pager:
    """A notifier that remembers."""

    name = "pager"

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)


class Heard:
    """Every committed fact, in order, and a way to wait for the next."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self._news = asyncio.Event()

    def heard(self, episode: Episode, run: Run | None, facts: Sequence[Fact]) -> None:
        """Called by the daemon after each commit."""
        self.facts += facts
        self._news.set()

    def of(self, kind: FactKind, episode: str = "") -> list[Fact]:
        """Facts of this kind, of one episode when named."""
        return [
            f for f in self.facts if f.kind is kind and (not episode or f.episode_id == episode)
        ]

    async def until(self, true: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
        """Wait until `true`, looked at after each commit and now and then."""
        ends = REAL.monotonic() + seconds
        while not true():
            left = ends - REAL.monotonic()
            assert left > 0, f"not within {seconds:g} s: {what}; last facts: {self.facts[-8:]}"
            self._news.clear()
            try:
                async with asyncio.timeout(min(left, 0.1)):
                    await self._news.wait()
            except TimeoutError:
                continue


@dataclass
class Daemon:
    """A running healer, and how to speak to it."""

    app: healer_app.App
    clock: Clock
    http: aiohttp.ClientSession
    heard: Heard
    pager: Pager
    answers: list[tuple[int, float]] = field(default_factory=list)  #: status, seconds

    @property
    def url(self) -> str:
        """Where Alertmanager posts."""
        return f"http://127.0.0.1:{self.app.ports['webhook']}/v1/alertmanager"

    async def deliver(self, *alerts: Mapping[str, Any], **group: Any) -> int:
        """One delivery, sent again after a 503 as Alertmanager does; its status."""
        body = json.dumps({"version": "4", "receiver": "healer", "alerts": alerts, **group})
        ends = REAL.monotonic() + PATIENCE
        while (status := await self.post(body.encode())) == 503 and REAL.monotonic() < ends:
            await REAL.sleep(0.1)
        return status

    async def post(self, body: bytes) -> int:
        """Any body; its status."""
        began = REAL.monotonic()
        async with self.http.post(self.url, data=body) as answer:
            await answer.read()
        self.answers.append((answer.status, REAL.monotonic() - began))
        return answer.status

    def alert(
        self, labels: Mapping[str, str], *, since: float | None = None, resolved: bool = False
    ) -> dict[str, Any]:
        """An alert as Alertmanager writes it; `since` defaults to now."""
        start = self.clock.now() if since is None else since
        end = rfc3339(self.clock.now()) if resolved else "0001-01-01T00:00:00Z"
        return {
            "status": "resolved" if resolved else "firing", "labels": dict(labels),
            "annotations": {}, "startsAt": rfc3339(start), "endsAt": end, "generatorURL": "",
            "fingerprint": "",
        }  # fmt: skip

    async def episodes(self) -> list[Episode]:
        """All of them, newest first."""
        found = await self.app.world.store.episodes(EpisodeFilter(limit=100_000))
        return list(found)


def playbook(
    name: str, when: Mapping[str, Any], target: Mapping[str, Any], **changes: Any
) -> dict[str, Any]:
    """A playbook in mode auto whose budgets never bind, restarting its target."""
    spec: dict[str, Any] = {
        "summary": f"{name} for the fault matrix.",
        "mode": "auto",
        "when": dict(when),
        "target": dict(target),
        "guards": {"budgets": dict(PLENTY)},
        "steps": [{
            "name": "restart", "action": "restart_rollout", "timeout": "30s",
            "verify": {
                "within": "2m", "every": "1s", "stableFor": "1s",
                "probes": [{"workload_ready": {}}],
            },
        }],
    }  # fmt: skip
    guards = changes.pop("guards", {})
    budgets = {**PLENTY, **guards.get("budgets", {})}
    spec |= changes
    spec["guards"] = {**guards, "budgets": budgets}
    return {
        "apiVersion": "healer.dev/v1alpha1",
        "kind": "Playbook",
        "metadata": {"name": name},
        "spec": spec,
    }


@asynccontextmanager
async def daemon(
    folder: Path,
    playbooks: Sequence[Mapping[str, Any]],
    *,
    cluster: Cluster,
    clock: Clock | None = None,
    settings: Mapping[str, Any] | None = None,
) -> AsyncIterator[Daemon]:
    """A whole healer over this cluster; drained at the end. A folder used before is a restart."""
    clock = clock or SystemClock()
    (folder / "playbooks").mkdir(parents=True, exist_ok=True)
    for content in playbooks:
        name = content["metadata"]["name"]
        (folder / "playbooks" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    base = {
        "store": {"path": str(folder / "healer.db")},
        "pause_file": str(folder / "pause"),
        "listen": {name: {"port": 0} for name in ("webhook", "api", "health")},
        "playbooks": {"paths": [str(folder / "playbooks")]},
    }
    given = Settings.model_validate({**base, **(settings or {})})
    heard, pager = Heard(), Pager()
    async with AsyncExitStack() as stack:
        app = await healer_app.start(
            given, stack, clock=clock, cluster=cluster, notifiers={"pager": pager}
        )
        app.world.listeners.append(heard)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        try:
            yield Daemon(app, clock, http, heard, pager)
        finally:
            await app.drain()
