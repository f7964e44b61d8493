"""Reconciles episodes with what fires: the missed is opened, the vanished is resolved."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from healer.domain.alert import Alert, AlertStatus, matches_all
from healer.domain.episode import Episode, EpisodeState
from healer.domain.playbook import TriggerKind
from healer.engine.sources.level import AlertLevel, Level, is_same
from healer.engine.world import World
from healer.kernel.tasks import Nap
from healer.ports import EpisodeFilter

_log = logging.getLogger(__name__)

#: The source of every alert that Alertmanager or Prometheus fired, however it was heard of.
ALERTMANAGER_SOURCE = "alertmanager"
#: Open episodes that one poll reconciles.
MAX_OPEN = 50_000
_OPEN = tuple(state for state in EpisodeState if state is not EpisodeState.CLOSED)


class Poller:
    """One round is one poll of the level and its consequences."""

    def __init__(self, world: World, level: AlertLevel, on_change: Callable[[], None]) -> None:
        self._world = world
        self._level = level
        self._on_change = on_change
        self._absent_since: dict[str, float] = {}
        self._term = 0
        self._nap = Nap(world.clock)

    async def round(self) -> None:
        """Poll once, then wait for the next turn, or for a reason to hurry."""
        await self.poll()
        await self._nap.sleep(self._world.options.poll_seconds)

    def hurry(self) -> None:
        """A delivery was cut short: ask for the whole level at once."""
        self._nap.wake()

    async def poll(self) -> None:
        """Compare what fires with what is open, and hand the differences to the journal.

        Only the leader does, and only if it still leads when it has looked.
        """
        world = self._world
        term = world.term()
        if term != self._term:
            self._term = term
            self._absent_since.clear()  # what was not seen meanwhile may have been there
        level = await self._level.look(max_age=0.0)
        which = EpisodeFilter(
            states=_OPEN, source_prefix=ALERTMANAGER_SOURCE, firing=True, limit=MAX_OPEN
        )
        found = await world.store.episodes(which)
        episodes = [episode for episode in found if episode.source == ALERTMANAGER_SOURCE]
        now = world.clock.now()
        missed = self._missed(level, episodes)
        vanished: list[Alert] = []
        if level.authoritative is None:
            self._absent_since.clear()  # blind: absence means nothing, and its time starts anew
        else:
            vanished = self._vanished(level, episodes, now)
        if (missed or vanished) and world.term() == term != 0:
            _log.info("poll", extra={"missed": len(missed), "vanished": len(vanished)})
            await world.store.accept([*missed, *vanished], [], level.at)
            self._on_change()

    def _missed(self, level: Level, episodes: Sequence[Episode]) -> list[Alert]:
        known = {episode.fingerprint for episode in episodes}
        seen: dict[str, Alert] = {}
        alertmanager = level.alertmanager or {}
        named: dict[str, list[Episode | Alert]] = {}
        heard_of: list[Episode | Alert] = [*episodes, *alertmanager.values()]
        for one in heard_of if level.asked_alertmanager else ():
            named.setdefault(one.name, []).append(one)
        for alert in (level.prometheus or {}).values():
            heard = any(is_same(alert, other) for other in named.get(alert.name, ()))
            if not heard and self._wanted(alert):
                seen[alert.fingerprint] = alert
        for alert in alertmanager.values():
            if self._wanted(alert):
                seen[alert.fingerprint] = alert
        return [
            replace(alert, source=ALERTMANAGER_SOURCE, polled_at=level.wall_at)
            for fingerprint, alert in seen.items()
            if fingerprint not in known
        ]

    def _wanted(self, alert: Alert) -> bool:
        """Whether any playbook is for it; what nobody heals is not worth an episode."""
        return any(
            playbook.trigger.kind is TriggerKind.ALERT
            and matches_all(playbook.trigger.matchers, alert.labels)
            for playbook in self._world.playbooks()
        )

    def _vanished(self, level: Level, episodes: Sequence[Episode], now: float) -> list[Alert]:
        gone: list[Alert] = []
        absent: dict[str, float] = {}
        monotonic = self._world.clock.monotonic()
        for episode in episodes:
            if level.fires(episode):
                continue
            since = self._absent_since.get(episode.id, monotonic)
            absent[episode.id] = since
            young = now - episode.last_seen_at < self._world.options.absent_seconds
            if not young and monotonic - since >= self._world.options.absent_seconds:
                gone.append(_resolution(episode, level.wall_at))
        self._absent_since = absent
        return gone


def _resolution(episode: Episode, at: float) -> Alert:
    return Alert(
        source=episode.source,
        fingerprint=episode.fingerprint,
        status=AlertStatus.RESOLVED,
        labels=episode.labels,
        starts_at=episode.starts_at,
        ends_at=at,
        annotations=episode.annotations,
        polled_at=at,
    )
