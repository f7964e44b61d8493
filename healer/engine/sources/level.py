"""What fires now, by asking Alertmanager and Prometheus: the truth behind the webhook's hint."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from healer.domain.alert import Alert
from healer.domain.episode import Episode
from healer.errors import HealerError
from healer.kernel.clock import Clock
from healer.ports import Alerts, Metrics

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Level:
    """One look at what fires. A side that was not asked, or did not answer, is None."""

    asked_at: float  #: monotonic seconds when the look began
    at: float  #: the same in Unix seconds: what was seen was so then, not later
    alertmanager: Mapping[str, Alert] | None  #: by fingerprint
    prometheus: Mapping[str, Alert] | None
    problems: tuple[str, ...] = ()
    asked_alertmanager: bool = True  #: whether there is one
    wall_at: float = 0.0  #: `at` by the true time, to compare with when alerts began and ended

    @property
    def authoritative(self) -> Mapping[str, Alert] | None:
        """The side whose silence means "not firing"; None while that side does not answer.

        It is Alertmanager where there is one: it hears from more than this Prometheus.
        """
        return self.alertmanager if self.asked_alertmanager else self.prometheus

    def fires(self, episode: Episode) -> bool:
        """Whether either side says that the episode's alert fires."""
        if episode.fingerprint in (self.alertmanager or {}):
            return True
        prometheus = self.prometheus or {}
        if episode.fingerprint in prometheus:
            return True
        # Prometheus may not know labels that Alertmanager's side added: compare by what it knows.
        return self.asked_alertmanager and any(
            is_same(alert, episode) for alert in prometheus.values()
        )


@dataclass(slots=True)
class AlertLevel:
    """Asks both sides, once for all who want to know at the same time."""

    clock: Clock
    metrics: Metrics | None
    alerts: Alerts | None
    fresh_seconds: float = 2.0
    wall: Callable[[], float] | None = None  #: the true time, where `clock` may be behind
    _last: Level | None = None
    _asking: asyncio.Task[Level] | None = field(default=None, repr=False)
    _asking_since: float = 0.0
    _asking_at: float = 0.0  #: the same in Unix seconds
    _next: asyncio.Task[Level] | None = field(default=None, repr=False)

    async def look(self, *, max_age: float | None = None, after: float = 0.0) -> Level:
        """A look that began at most `max_age` (default: `fresh_seconds`) ago, and later than
        `after` (Unix seconds)."""
        limit = self.fresh_seconds if max_age is None else max_age
        last, now = self._last, self.clock.monotonic()
        if last is not None and now - last.asked_at <= limit and last.at > after:
            return last
        asking = self._asking
        young = now - self._asking_since <= limit and self._asking_at > after
        if asking is None or asking.done() or not young:
            asking = self._begin()
        return await asyncio.shield(asking)

    async def look_anew(self) -> Level:
        """A look that begins after this call, whatever clocks say; shared by all who wait for it.

        One at a time: whoever comes while one is under way shares the one after it.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._follow())
        return await asyncio.shield(self._next)

    async def _follow(self) -> Level:
        if self._asking is not None and not self._asking.done():
            await asyncio.wait({self._asking})
        self._next = None  # from here on it is under way
        return await asyncio.shield(self._begin())

    def _begin(self) -> asyncio.Task[Level]:
        self._asking_since, self._asking_at = self.clock.monotonic(), self.clock.now()
        self._asking = asyncio.create_task(self._ask())
        return self._asking

    async def _ask(self) -> Level:
        asked_at, at = self.clock.monotonic(), self.clock.now()
        wall_at = self.wall() if self.wall is not None else at
        problems: list[str] = []

        async def one(port: Metrics | Alerts | None) -> Mapping[str, Alert] | None:
            if port is None:
                return None
            try:
                return {alert.fingerprint: alert for alert in await port.firing()}
            except HealerError as error:
                problems.append(str(error))
                _log.warning("cannot ask what fires", extra={"error": str(error)})
                return None

        from_alerts, from_metrics = await asyncio.gather(one(self.alerts), one(self.metrics))
        self._last = Level(
            asked_at, at, from_alerts, from_metrics, tuple(problems), self.alerts is not None,
            wall_at,
        )  # fmt: skip
        return self._last

    async def is_firing(self, episode: Episode) -> bool | None:
        """Whether the episode's alert fires, by a fresh look; None when nobody could be asked."""
        # A look from before the delivery could not know what was delivered.
        began = self.clock.monotonic()
        level = await self.look(after=episode.last_seen_at)
        if level.fires(episode):
            return True
        if level.asked_at < began:
            # Another replica took the delivery, and its clock may be behind ours: only a look that
            # began after we had read the episode is surely younger than it.
            level = await self.look_anew()
            if level.fires(episode):
                return True
        return None if level.authoritative is None else False


def is_same(alert: Alert, episode: Episode | Alert) -> bool:
    """Whether Prometheus' `alert` is what Alertmanager knows with a few labels more."""
    return alert.name == episode.name and alert.labels.items() <= episode.labels.items()
