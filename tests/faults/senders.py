"""Alertmanagers of ours that keep to the real one's rules: groups, flushes, retries, peers.

From Alertmanager's source: only network errors and 5xx are sent again, with a back-off of 0.5 s
that grows by half up to 60 s, until the flush is cancelled at the group's deadline; each group is
one serial loop; what resolves before it was ever delivered is never spoken of; every other answer
is final for this flush. `/api/v2/alerts` tells what fires. `pace` shortens all of it.
"""

import asyncio
import io
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from healer.kernel.clock import Clock, SystemClock, rfc3339
from healer.kernel.ids import label_fingerprint
from tests.faults.fast import REAL

NEVER = "0001-01-01T00:00:00Z"
FIRST_BACKOFF, GROWTH, LAST_BACKOFF = 0.5, 1.5, 60.0


@dataclass
class Known:
    """One alert as this Alertmanager knows it."""

    labels: Mapping[str, str]
    starts_at: float
    ends_at: float | None = None
    notified: str = ""  #: the status that the receiver was last told of with a 2xx
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        self.fingerprint = label_fingerprint(self.labels)

    @property
    def status(self) -> str:
        """firing or resolved."""
        return "firing" if self.ends_at is None else "resolved"

    def posted(self) -> dict[str, Any]:
        """As it stands in a delivery."""
        return {
            "status": self.status, "labels": dict(self.labels), "annotations": {},
            "startsAt": rfc3339(self.starts_at), "generatorURL": "",
            "endsAt": NEVER if self.ends_at is None else rfc3339(self.ends_at),
            "fingerprint": self.fingerprint,
        }  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """One POST and what was answered."""

    at: float  #: monotonic seconds
    seconds: float
    status: int  #: 0: a network error
    alerts: tuple[tuple[str, str], ...]  #: fingerprint and status of each
    error: str = ""  #: the kind of network error


@dataclass
class Log:
    """All attempts of some senders."""

    attempts: list[Attempt] = field(default_factory=list)

    @property
    def acknowledged(self) -> set[tuple[str, str]]:
        """Fingerprint and status of every alert that was answered with 2xx."""
        return {one for a in self.attempts if 200 <= a.status < 300 for one in a.alerts}

    def statuses(self) -> dict[int, int]:
        """How many answers had which status."""
        found = sorted(a.status for a in self.attempts)
        return {status: len(list(group)) for status, group in itertools.groupby(found)}

    def errors(self) -> dict[str, int]:
        """How often there was which network error."""
        return dict(Counter(a.error for a in self.attempts if a.error))

    def slowest(self, *statuses: int) -> float:
        """The longest time to one of these answers; seconds."""
        return max((a.seconds for a in self.attempts if a.status in statuses), default=0.0)


class Alertmanager:
    """One member. `fire` and `resolve` are what Prometheus tells it; the rest is its own doing."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        group_by: tuple[str, ...] = ("alertname",),
        wait: float = 0.0,
        interval: float = 1.0,
        deadline: float = 10.0,
        pace: float = 1.0,
        connections: int = 0,
        token: str = "",
        log: Log | None = None,
    ) -> None:
        """`interval` and `deadline` (of one flush) in real seconds; `pace` divides the back-off;
        `wait` is its position among its peers times their 15 seconds;
        `connections` at most (0: one for each group)."""
        self.url = url
        self.clock = clock or SystemClock()
        self.log = log or Log()
        self.alerts: dict[str, Known] = {}
        self.refuse = 0  #: while set, its own API answers with this status
        self._group_by = group_by
        self._wait, self._interval, self._deadline, self._pace = wait, interval, deadline, pace
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._gate = asyncio.Semaphore(connections or 100_000)
        self._groups: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._members: dict[tuple[str, ...], dict[str, Known]] = {}
        self._http: aiohttp.ClientSession | None = None
        self.api = ""

    def fire(self, labels: Mapping[str, str], starts_at: float | None = None) -> Known:
        """An alert begins to fire."""
        known = Known(dict(labels), self.clock.now() if starts_at is None else starts_at)
        self.alerts[known.fingerprint] = known
        key = tuple(labels.get(name, "") for name in self._group_by)
        self._members.setdefault(key, {})[known.fingerprint] = known
        if self._http is not None and key not in self._groups:
            self._groups[key] = asyncio.create_task(self._run(key))
        return known

    def resolve(self, labels: Mapping[str, str]) -> None:
        """It ends."""
        known = self.alerts.get(label_fingerprint(labels))
        if known is not None and known.ends_at is None:
            known.ends_at = self.clock.now()

    @property
    def settled(self) -> bool:
        """Whether the receiver was told of the present state of everything."""
        return all(
            k.notified == k.status or (k.status == "resolved" and not k.notified)
            for k in self.alerts.values()
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Alertmanager"]:
        """While it notifies, and answers `/api/v2/alerts`."""
        application = web.Application()
        application.router.add_get("/api/v2/alerts", self._list)
        application.router.add_get("/-/ready", self._ready)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.api = f"http://127.0.0.1:{runner.addresses[0][1]}"
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
        ) as http:
            self._http = http
            for key in self._members:
                self._groups[key] = asyncio.create_task(self._run(key))
            try:
                yield self
            finally:
                for task in self._groups.values():
                    task.cancel()
                await asyncio.gather(*self._groups.values(), return_exceptions=True)
                await runner.cleanup()
                self._http = None

    async def _ready(self, request: web.Request) -> web.Response:
        return web.Response(status=self.refuse or 200, text="OK")

    async def _list(self, request: web.Request) -> web.Response:
        if self.refuse:
            return web.Response(status=self.refuse)
        found = [
            {
                "labels": dict(k.labels), "annotations": {}, "fingerprint": k.fingerprint,
                "startsAt": rfc3339(k.starts_at), "generatorURL": "",
            }
            for k in self.alerts.values()
            if k.ends_at is None
        ]  # fmt: skip
        return web.Response(body=json.dumps(found).encode(), content_type="application/json")

    # ------------------------------------------------------------------------- one group

    async def _run(self, key: tuple[str, ...]) -> None:
        await REAL.sleep(self._wait)  # group_wait, and the wait for its peers
        while True:
            news = [
                k
                for k in self._members[key].values()
                if k.notified != k.status and (k.notified or k.status == "firing")
            ]
            if news:
                await self._flush(list(self._members[key].values()))
            await REAL.sleep(self._interval)  # group_interval

    async def _flush(self, members: list[Known]) -> None:
        """One notification, tried again as the real one does until its deadline."""
        told = [k for k in members if k.notified or k.status == "firing"]
        posted = [k.posted() for k in told]
        states = tuple((p["fingerprint"], p["status"]) for p in posted)
        body = json.dumps({
            "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing",
            "receiver": "healer", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
            "externalURL": self.api, "alerts": posted,
        }).encode()  # fmt: skip
        backoff = FIRST_BACKOFF
        try:
            async with asyncio.timeout(self._deadline):
                while True:
                    async with self._gate:
                        status = await self._post(body, states)
                    if 0 < status < 500:
                        break
                    await REAL.sleep(backoff / self._pace)
                    backoff = min(backoff * GROWTH, LAST_BACKOFF)
        except TimeoutError:
            return  # the flush is cancelled; the next one tells the state of then
        if 200 <= status < 300:
            for known, (_, state) in zip(told, states, strict=True):
                known.notified = state

    async def _post(self, body: bytes, states: tuple[tuple[str, str], ...]) -> int:
        assert self._http is not None
        began = REAL.monotonic()
        status, error = 0, ""
        try:
            async with self._http.post(
                self.url, data=io.BytesIO(body), headers=self._headers
            ) as answer:
                await answer.read()
                status = answer.status
        except aiohttp.ClientError as broken:  # tried again
            error = repr(broken)
        finally:
            took = REAL.monotonic() - began
            self.log.attempts.append(Attempt(began, took, status, states, error))
        return status


async def settled(
    members: Iterable[Alertmanager], what: Callable[[], object] = str, seconds: float = 60.0
) -> None:
    """Wait until every member has told everything."""
    ends = REAL.monotonic() + seconds
    while not all(member.settled for member in members):
        assert REAL.monotonic() < ends, f"not told within {seconds:g} s: {what()}"
        await REAL.sleep(0.05)  # a sender has no event to await
