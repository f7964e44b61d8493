"""Alertmanager by its own rules: groups, waits, retries, peers, deduplication, truncation.

After `dispatch/dispatch.go`, `notify/notify.go` and `notify/util.go`: a group is first sent after
`group_wait`, then each `group_interval`; only a 5xx or a broken connection is tried again, with
waits of 0.5 s growing by half up to 60 s, until the flush's deadline; a 4xx never; peer n waits
15 s times n and is silent when another has sent the same; a resolved alert is forgotten only when
its resolution was delivered.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Protocol

from healer.domain.alert import Alert, AlertStatus
from healer.errors import HealerError
from healer.testing.history import Sent
from healer.testing.simulation.clock import Wall
from healer.testing.simulation.loop import SimulatedLoop

PEER_SECONDS = 15.0
RETRY_SECONDS = 0.5
RETRY_FACTOR = 1.5
RETRY_MAX_SECONDS = 60.0
#: What Prometheus no longer tells of ends by itself after this (`resolve_timeout`). Seconds.
RESOLVE_SECONDS = 300.0

Group = tuple[str, str]  #: alertname and namespace
#: Delivers alerts and how many were cut off; the HTTP status, or None for a broken connection.
Post = Callable[[Sequence[Alert], int], Awaitable[int | None]]


class Ledger(Protocol):
    """Told when an alert begins and ends to be one."""

    def begins(self, fingerprint: str) -> None:
        """One more says that it fires."""
        ...

    def ends(self, fingerprint: str) -> None:
        """One less does."""
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """How notifications are grouped and timed. Seconds."""

    group_wait: float = 10.0
    group_interval: float = 60.0
    repeat_interval: float = 1200.0
    max_alerts: int = 0  #: 0: no limit


@dataclass(slots=True)
class _Sent:
    """What the notification log says of a group: whom it last told what."""

    at: float
    firing: frozenset[str]
    resolved: frozenset[str]


@dataclass(slots=True)
class Gossip:
    """The notification log that peers share, unless they are apart."""

    apart: bool = False
    shared: dict[Group, _Sent] = field(default_factory=dict)
    own: dict[tuple[int, Group], _Sent] = field(default_factory=dict)

    def last(self, peer: int, group: Group) -> _Sent | None:
        """What this peer knows was sent."""
        mine, theirs = self.own.get((peer, group)), self.shared.get(group)
        if mine is None or (theirs is not None and theirs.at > mine.at and not self.apart):
            return mine if self.apart else theirs
        return mine

    def sent(self, peer: int, group: Group, entry: _Sent) -> None:
        """This peer has sent it."""
        self.own[peer, group] = entry
        if not self.apart:
            self.shared[group] = entry


@dataclass(slots=True)
class Peer:
    """One Alertmanager of a cluster; also `healer.ports.Alerts`."""

    number: int
    loop: SimulatedLoop
    wall: Wall
    dice: Random
    route: Route
    post_to: Post
    truth: Ledger
    gossip: Gossip
    sent: list[Sent]
    source: str = "alertmanager"
    deaf: bool = False  #: Prometheus does not reach it
    down: HealerError | None = None  #: healer's questions fail
    alerts: dict[str, Alert] = field(default_factory=dict)
    groups: dict[Group, dict[str, Alert]] = field(default_factory=dict)
    heard_at: dict[str, float] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    # ------------------------------------------------------------------ from Prometheus

    def take(
        self, fingerprint: str, labels: Mapping[str, str], starts_at: float, ends_at: float | None
    ) -> None:
        """An alert as Prometheus sends it; the earliest start of those that overlap is kept."""
        if self.deaf:
            if fingerprint in self.alerts and ends_at is None:
                return
            if fingerprint in self.alerts:
                self.loop.call_later(RESOLVE_SECONDS, self._forget, fingerprint)
            return
        known = self.alerts.get(fingerprint)
        status = AlertStatus.FIRING if ends_at is None else AlertStatus.RESOLVED
        alert = Alert(self.source, fingerprint, status, labels, starts_at, ends_at)
        if known is not None:
            alert = replace(alert, starts_at=min(known.starts_at, starts_at))
        if ends_at is None:
            if known is None:
                self.truth.begins(fingerprint)
            self.alerts[fingerprint] = alert
        elif known is not None:
            del self.alerts[fingerprint]
            self.truth.ends(fingerprint)
        else:
            return
        self._into_group(alert)

    def _forget(self, fingerprint: str) -> None:
        alert = self.alerts.pop(fingerprint, None)
        if alert is None:
            return
        self.truth.ends(fingerprint)
        self._into_group(replace(alert, status=AlertStatus.RESOLVED, ends_at=self.wall.now()))

    def _into_group(self, alert: Alert) -> None:
        key = (alert.name, alert.labels.get("namespace", ""))
        group = self.groups.get(key)
        if group is None:
            if alert.status is AlertStatus.RESOLVED:
                return
            group = self.groups[key] = {}
            self.tasks.append(self.loop.create_task(self._run_group(key, group)))
        group[alert.fingerprint] = alert

    # ------------------------------------------------------------------ to the receiver

    async def _run_group(self, key: Group, group: dict[str, Alert]) -> None:
        await asyncio.sleep(self.route.group_wait)  # noqa: TID251 - virtual time
        while group:
            turn = self.loop.time() + self.route.group_interval
            await self._flush(key, group, turn)
            await asyncio.sleep(max(0.0, turn - self.loop.time()))  # noqa: TID251 - virtual time
        del self.groups[key]

    async def _flush(self, key: Group, group: dict[str, Alert], deadline: float) -> None:
        batch = list(group.values())  # as it is now: a late retry sends what was true then
        if self.number:
            await asyncio.sleep(PEER_SECONDS * self.number)  # noqa: TID251 - virtual time
            deadline += PEER_SECONDS * self.number
        firing = frozenset(a.fingerprint for a in batch if a.status is AlertStatus.FIRING)
        resolved = frozenset(a.fingerprint for a in batch) - firing
        now = self.loop.time()
        if self._worth(self.gossip.last(self.number, key), firing, resolved, now):
            if not await self._retry(batch, deadline):
                return
            self.gossip.sent(self.number, key, _Sent(now, firing, resolved))
        for alert in batch:
            if alert.status is AlertStatus.RESOLVED and group.get(alert.fingerprint) is alert:
                del group[alert.fingerprint]

    def _worth(
        self, last: _Sent | None, firing: frozenset[str], resolved: frozenset[str], now: float
    ) -> bool:
        """`DedupStage.needsUpdate`."""
        if last is None:
            return bool(firing)
        if not firing <= last.firing:
            return True
        if not firing:
            return bool(last.firing)
        if not resolved <= last.resolved:
            return True
        return now - last.at >= self.route.repeat_interval

    async def _retry(self, batch: Sequence[Alert], deadline: float) -> bool:
        limit = self.route.max_alerts
        kept = batch[:limit] if limit else batch
        wait = RETRY_SECONDS
        while True:
            status = await self._attempt(kept, len(batch) - len(kept), deadline)
            if status is not None and status < 500:
                return status < 300
            pause = wait * (0.5 + self.dice.random())
            wait = min(wait * RETRY_FACTOR, RETRY_MAX_SECONDS)
            if self.loop.time() + pause >= deadline:
                return False
            await asyncio.sleep(pause)  # noqa: TID251 - virtual time

    async def _attempt(self, kept: Sequence[Alert], cut: int, deadline: float) -> int | None:
        at = self.wall.now()
        try:
            async with asyncio.timeout(max(0.1, deadline - self.loop.time())):
                status = await self.post_to(kept, cut)
        except TimeoutError:
            status = None
        accepted = status is not None and status < 300
        self.sent += (
            Sent(at, a.source, a.fingerprint, a.starts_at, a.status, accepted) for a in kept
        )
        return status

    # ------------------------------------------------------------------ healer.ports.Alerts

    def _here(self) -> None:
        if self.down is not None:
            raise self.down

    async def firing(self, receiver: str = "") -> Sequence[Alert]:
        """Active alerts."""
        self._here()
        now = self.wall.now()
        return [replace(alert, polled_at=now) for alert in self.alerts.values()]

    async def silence(
        self, matchers: Mapping[str, str], seconds: float, comment: str, now: float
    ) -> str:
        """Silences change nothing that healer asks about."""
        self._here()
        return f"silence-{comment}"

    async def expire(self, silence_id: str) -> None:
        """Nothing to end."""
        self._here()

    async def post(self, alerts: Sequence[Alert]) -> None:
        """Healer's own alerts are not played back."""
        self._here()

    async def ready(self) -> None:
        """Whether it answers."""
        self._here()
