"""Delivers alerts as Alertmanager does, and as badly as a pair of them can.

A delivery that is not answered with 2xx is sent again until it is. What was answered with 2xx is
written down at once: that, and nothing else, healer has promised to keep.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from healer.domain.alert import AlertStatus
from healer.kernel.clock import SystemClock, parse_rfc3339
from healer.testing.history import Sent
from tests.crash.town import SOURCE, Trouble

CLOCK = SystemClock()
#: Kinds of delivery, and how often each comes.
KINDS = {
    "plain": 45,
    "duplicated": 20,  # by the second of a pair, a moment later
    "delayed": 10,  # it was written when it should have been sent: what it says may be over
    "reordered": 8,  # after the next one
    "truncated": 6,  # cut by max_alerts: the rest is never delivered, or much later
    "stale": 6,  # an old one once more, firing after resolved among them
    "broken off": 3,  # the connection ends in the middle of the body
    "unheard": 2,  # the sender hangs up before the answer
}
#: The longest delay. Seconds.
DELAY = 3.0
PATH = "/v1/alertmanager"


@dataclass(eq=False)
class Sender:
    """Call it with every trouble that began or ended; `run` delivers until it is cancelled."""

    chance: random.Random
    log: Path
    targets: Sequence[str]  #: base URLs of the replicas
    firing: Callable[[], Sequence[Trouble]]
    calm: bool = False  #: no more faults: everything is delivered once, at once
    counts: Counter[str] = field(default_factory=Counter)
    sent: dict[str, Sent] = field(default_factory=dict)  #: accepted, by event id
    acknowledged: int = 0  #: deliveries
    under_way: int = 0
    _pending: dict[str, dict[str, Any]] = field(default_factory=dict)
    _old: deque[list[dict[str, Any]]] = field(default_factory=lambda: deque(maxlen=100))
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _failed: list[asyncio.Task[None]] = field(default_factory=list)
    _turn: int = 0

    def __call__(self, trouble: Trouble) -> None:
        """This trouble is to be told of with the next delivery."""
        self._pending[trouble.fingerprint] = trouble.alert()

    def check(self) -> None:
        """Raises what ended a delivery by our own fault."""
        for task in self._failed:
            task.result()

    @property
    def idle(self) -> bool:
        """Whether everything has been delivered."""
        return not self._pending and not self.under_way

    async def run(self) -> None:
        """Deliver, group after group."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as self._session:
            self._held: list[dict[str, Any]] = []
            try:
                while True:
                    await CLOCK.sleep(self.chance.uniform(0.03, 0.2))
                    self._flush()
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def _flush(self) -> None:
        alerts = list(self._pending.values())
        self._pending.clear()
        firing = [trouble.alert() for trouble in self.firing()]
        known = {alert["fingerprint"] for alert in alerts}
        some = self.chance.sample(firing, min(3, len(firing)))
        alerts += [alert for alert in some if alert["fingerprint"] not in known]
        if self.calm and self._held:
            alerts, self._held = [*self._held, *alerts], []
        if not alerts:
            return
        [kind] = ["plain"] if self.calm else self.chance.choices([*KINDS], [*KINDS.values()])
        self.counts[kind] += 1
        self._old.append(alerts)
        match kind:
            case "duplicated":
                self._post(alerts)
                self._post(alerts, after=self.chance.uniform(0.0, 0.3))
            case "delayed":
                self._post(alerts, after=self.chance.uniform(0.3, DELAY))
            case "reordered":
                alerts, self._held = self._held, alerts
                self._post(alerts)
                return
            case "truncated":
                kept = len(alerts) // 2
                self._post(alerts[:kept], truncated=len(alerts) - kept)
                if self.chance.random() < 0.5:
                    for alert in alerts[kept:]:
                        self._pending.setdefault(alert["fingerprint"], alert)
            case "stale":
                self._post(self.chance.choice(self._old))
                self._post(alerts)
            case "broken off" | "unheard":
                self._post(alerts, spoilt=kind)
            case _:
                self._post(alerts)
        if self._held:
            self._post(self._held)
            self._held = []

    def _post(
        self,
        alerts: list[dict[str, Any]],
        *,
        after: float = 0.0,
        truncated: int = 0,
        spoilt: str = "",
    ) -> None:
        if not alerts:
            return
        self._turn += 1
        task = asyncio.create_task(self._deliver(alerts, after, truncated, spoilt, self._turn))
        self.under_way += 1
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.under_way -= 1
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failed.append(task)

    async def _deliver(
        self, alerts: list[dict[str, Any]], after: float, truncated: int, spoilt: str, turn: int
    ) -> None:
        body = json.dumps(
            {
                "version": "4", "groupKey": '{}:{alertname="town"}', "truncatedAlerts": truncated,
                "status": "firing", "receiver": "healer", "groupLabels": {}, "commonLabels": {},
                "commonAnnotations": {}, "externalURL": "http://alertmanager.example:9093",
                "alerts": alerts,
            }
        ).encode()  # fmt: skip
        await CLOCK.sleep(after)
        if spoilt:
            await self._spoil(body, self.targets[turn % len(self.targets)], spoilt)
        while True:  # Alertmanager gives up in the end; whoever waits for us does so before
            if await self._once(body, self.targets[turn % len(self.targets)]):
                self._accepted(alerts)
                return
            turn += 1
            await CLOCK.sleep(self.chance.uniform(0.02, 0.08))

    async def _once(self, body: bytes, target: str) -> bool:
        try:
            async with self._session.post(
                target + PATH, data=body, headers={"Content-Type": "application/json"}
            ) as answer:
                self.counts[f"answered {answer.status}"] += 1
                return answer.status // 100 == 2
        except aiohttp.ClientConnectorError:
            self.counts["no healer"] += 1
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.counts["cut by a kill"] += 1
        return False

    async def _spoil(self, body: bytes, target: str, how: str) -> None:
        host, port = target.removeprefix("http://").split(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return
        head = f"POST {PATH} HTTP/1.1\r\nHost: healer\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + (body[: len(body) // 2] if how == "broken off" else body))
        try:
            await writer.drain()
        except OSError:
            return
        finally:
            writer.transport.abort() if how == "broken off" else writer.close()

    def _accepted(self, alerts: list[dict[str, Any]]) -> None:
        self.acknowledged += 1
        now = CLOCK.now()
        with self.log.open("a") as log:
            for alert in alerts:
                sent = Sent(
                    now, SOURCE, alert["fingerprint"], parse_rfc3339(alert["startsAt"]),
                    AlertStatus(alert["status"]), True,
                )  # fmt: skip
                if sent.event_id not in self.sent:
                    self.sent[sent.event_id] = sent
                    log.write(json.dumps(asdict(sent)) + "\n")
