"""The town that healer heals: workloads at the API server, alerts, and a server that counts calls.

It plays Alertmanager's API (what fires now, truthfully), the controllers (an effect that is seen
ends its alert, most of the time) and the person who mends what nobody else did. Whatever it knows
is written down as it happens, for the history checker.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from healer.domain.alert import AlertStatus
from healer.kernel.clock import SystemClock, parse_rfc3339, rfc3339
from healer.kernel.ids import label_fingerprint
from healer.testing.history import Effect, Firing
from tests.bed.api import Api
from tests.crash.remedies import NAMESPACE, Remedy, remedies

CLOCK = SystemClock()
SOURCE = "alertmanager"
#: A workload is broken this often, then replaced: healer stops at what keeps coming back.
USES = 3
#: A person mends what still fires after this. Seconds.
PATIENCE = 15.0
RUN = "healer.dev/run"
SETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


@dataclass(eq=False)
class Trouble:
    """One firing period of one alert."""

    number: int
    remedy: Remedy
    app: str
    labels: dict[str, str]
    since: float
    until: float | None = None
    cured: bool = False

    @property
    def fingerprint(self) -> str:
        """As Alertmanager computes it."""
        return label_fingerprint(self.labels)

    def alert(self) -> dict[str, Any]:
        """As Alertmanager writes it now, in a delivery or in its API."""
        over = self.until is not None
        return {
            "status": str(AlertStatus.RESOLVED if over else AlertStatus.FIRING),
            "labels": self.labels,
            "annotations": {"summary": f"{self.app} is broken"},
            "startsAt": rfc3339(self.since),
            "endsAt": rfc3339(self.until) if self.until is not None else "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example/graph",
            "fingerprint": self.fingerprint,
        }


@dataclass
class Town:
    """Start it with `open`; `tell` is called with every trouble that began or ended."""

    chance: random.Random
    tell: Callable[[Trouble], None] = lambda _: None
    rate: float = 6.0  #: new troubles a second
    most: int = 40  #: that fire at the same time
    open_for_trouble: bool = False
    firing: dict[str, Trouble] = field(default_factory=dict)  #: by fingerprint
    history: list[Trouble] = field(default_factory=list)
    calls: list[Effect] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    port: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _number: int = 0
    _free: list[str] = field(default_factory=list)  #: workloads that nothing is wrong with
    _uses: Counter[str] = field(default_factory=Counter)
    _uids: dict[str, str] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)  #: what the counting server has done, by label n
    _keys: set[str] = field(default_factory=set)
    _seen: dict[str, tuple[str, int]] = field(default_factory=dict)
    _later: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self, stack: AsyncExitStack, kubeconfig: Path) -> None:
        """Make the namespace, start the servers and the watches."""
        api = Api(kubeconfig)
        await asyncio.to_thread(api.create, "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        self._api = f"https://{api._host}:{api._port}"
        self._session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=api._tls), read_bufsize=2**20,
                timeout=aiohttp.ClientTimeout(total=20),
            )
        )  # fmt: skip
        self._remedies: tuple[Remedy, ...] = ()
        application = web.Application()
        application.router.add_get("/api/v2/alerts", self._level)
        application.router.add_post("/page", self._page)
        application.router.add_post("/{kind:once|looked|keyed|vain}", self._call)
        application.router.add_get("/looked", self._look)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._remedies = remedies(self.url)
        self.tasks = tasks = [
            asyncio.create_task(body)
            for body in (self._break(), self._mend(), self._watch(PODS), self._watch(SETS))
        ]
        stack.push_async_callback(self._end, tasks)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in (*tasks, *self._later):
            task.cancel()
        for result in await asyncio.gather(*tasks, *self._later, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    @property
    def url(self) -> str:
        """Where the servers are."""
        return f"http://127.0.0.1:{self.port}"

    def check(self) -> None:
        """Raises what ended a part of the town: without it nothing that follows means anything."""
        for task in self.tasks:
            if task.done():
                task.result()

    def forget(self) -> None:
        """Begin a new history; nothing fires."""
        self.history.clear()
        self.calls.clear()
        self.counts.clear()

    def periods(self) -> tuple[Firing, ...]:
        """What fired, and when."""
        return tuple(Firing(SOURCE, one.fingerprint, one.since, one.until) for one in self.history)

    # ------------------------------------------------------------------ to break and to mend

    async def _break(self) -> None:
        while True:
            await CLOCK.sleep(self.chance.expovariate(self.rate))
            if self.open_for_trouble and len(self.firing) < self.most:
                weights = [remedy.share for remedy in self._remedies]
                [remedy] = self.chance.choices(self._remedies, weights)
                await self._trouble(remedy)

    async def _trouble(self, remedy: Remedy) -> None:
        self._number += 1
        app = await self._workload()
        labels = {
            "alertname": remedy.name, "namespace": NAMESPACE, "app": app, "severity": "warning",
            "n": f"n{self._number}",
        }  # fmt: skip
        if remedy.pod:
            labels["pod"] = f"{app}-{self._number}"
            await self._ask("POST", PODS, _pod(labels["pod"], app, self._uids[app]))
        self._fire(Trouble(self._number, remedy, app, labels, _now()))

    def _fire(self, trouble: Trouble) -> None:
        self.firing[trouble.fingerprint] = trouble
        self.history.append(trouble)
        self.counts[trouble.remedy.name] += 1
        self.tell(trouble)

    async def _mend(self) -> None:
        """The person: what fires for too long is mended by hand."""
        while True:
            await CLOCK.sleep(0.5)
            for trouble in list(self.firing.values()):
                if CLOCK.now() - trouble.since > PATIENCE:
                    self.resolve(trouble)

    def resolve(self, trouble: Trouble) -> None:
        """The alert ends now. The same one may come back in a while."""
        if trouble.until is not None:
            return
        trouble.until = _now()
        del self.firing[trouble.fingerprint]
        self.tell(trouble)
        if trouble.remedy.again and self.open_for_trouble and self.chance.random() < 0.25:
            self._soon(self._again(trouble))
        else:
            self._free.append(trouble.app)

    async def _again(self, trouble: Trouble) -> None:
        await CLOCK.sleep(self.chance.uniform(0.5, 2.0))
        if not self.open_for_trouble:
            self._free.append(trouble.app)
        else:
            self._uses[trouble.app] += 1
            again = Trouble(trouble.number, trouble.remedy, trouble.app, trouble.labels, _now())
            self._fire(again)

    def _cure(self, trouble: Trouble | None) -> None:
        """An effect was seen: mostly it helps, a moment later."""
        if trouble is None or trouble.cured:
            return
        trouble.cured = True
        if self.chance.random() < 0.92:
            self._soon(self._helped(trouble))

    async def _helped(self, trouble: Trouble) -> None:
        await CLOCK.sleep(self.chance.uniform(0.0, 0.3))
        self.resolve(trouble)

    def _soon(self, what: Any) -> None:
        task = asyncio.create_task(what)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    # --------------------------------------------------------------------------- the API server

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, self._api + path, json=body) as answer:
            found = await answer.json()
            if answer.status >= 400 and answer.status != 404:
                raise RuntimeError(f"{method} {path}: {found}")
            return found

    async def _workload(self) -> str:
        """One that nothing is wrong with."""
        while self._free:
            app = self._free.pop()
            if self._uses[app] < USES:
                break
            await self._ask("DELETE", f"{SETS}/{app}", {"propagationPolicy": "Orphan"})
        else:
            app = f"w{self._number}"
            made = await self._ask("POST", SETS, _set(app))
            self._uids[app] = made["metadata"]["uid"]
        self._uses[app] += 1
        return app

    async def _watch(self, path: str) -> None:
        """Follow every change, for ever."""
        version = (await self._ask("GET", path))["metadata"]["resourceVersion"]
        endless = aiohttp.ClientTimeout(total=None, sock_read=None)
        while True:
            query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
            async with self._session.get(self._api + path, params=query, timeout=endless) as answer:
                async for line in answer.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise RuntimeError(f"watch {path}: {event['object']}")
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._changed(event["type"], event["object"])

    def _changed(self, what: str, thing: dict[str, Any]) -> None:
        if what == "BOOKMARK":
            return
        name = thing["metadata"]["name"]
        if thing["kind"] == "Pod":
            if what == "DELETED":
                self._cure(
                    next((t for t in self.firing.values() if t.labels.get("pod") == name), None)
                )
            return
        marks = thing["spec"]["template"]["metadata"].get("annotations") or {}
        state = (marks.get(RUN, ""), thing["spec"]["replicas"])
        before = self._seen.get(name, ("", 1))
        self._seen[name] = state
        if what == "DELETED":
            self._seen.pop(name, None)
        elif what == "MODIFIED" and state != before:
            cured = {"scale"} if state[1] != before[1] else {"restart", "ladder"}
            self._cure(
                next(
                    (t for t in self.firing.values() if t.app == name and t.remedy.name in cured),
                    None,
                )
            )

    # --------------------------------------------------------------- Alertmanager, and the calls

    async def _level(self, request: web.Request) -> web.Response:
        """What fires now, as Alertmanager's API v2 says it."""
        return web.json_response(
            [{**one.alert(), "status": {"state": "active"}} for one in self.firing.values()]
        )

    async def _page(self, request: web.Request) -> web.Response:
        await request.read()
        self.counts["pages"] += 1
        return web.Response()

    async def _look(self, request: web.Request) -> web.Response:
        number = (await request.json())["n"]
        return web.Response(status=200 if number in self._done else 404)

    async def _call(self, request: web.Request) -> web.Response:
        """Does what it is told and counts it; sometimes it does it and says so badly, or late."""
        at = CLOCK.now()
        kind, number = request.match_info["kind"], (await request.json())["n"]
        key = request.headers.get("Idempotency-Key", "")
        dice = self.chance.random()
        if dice < 0.03:
            return web.Response(status=503)  # did nothing
        if kind == "keyed" and key in self._keys:
            self.counts["known keys"] += 1
            return web.Response(status=200)
        self._keys.add(key)
        self._done.add(number)
        self.calls.append(Effect(at, "post", f"/{kind}", NAMESPACE, number, 200, key=key))
        if kind != "vain":
            self._cure(next((t for t in self.firing.values() if t.labels["n"] == number), None))
        if dice < 0.06 and request.transport is not None:
            request.transport.abort()  # done, and nobody hears of it
        await CLOCK.sleep(self.chance.choice((0.0, 0.0, 0.01, 0.05)))
        return web.Response(status=500 if dice > 0.97 else 200)


def _now() -> float:
    """Now, as a delivery can say it."""
    return parse_rfc3339(rfc3339(CLOCK.now()))


def _set(app: str) -> dict[str, Any]:
    labels = {"app": app}
    return {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": app},
        "spec": {
            "replicas": 1, "serviceName": app, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": "app:1"}]},
            },
        },
    }  # fmt: skip


def _pod(name: str, app: str, uid: str) -> dict[str, Any]:
    owner = {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "name": app, "uid": uid, "controller": True,
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }  # fmt: skip
