"""Scaling inside the daemon: policies' files, rounds, servers, and the shared kill switch."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from healer.domain.episode import EpisodeState
from healer.engine.world import World
from healer.errors import ConfigError, HealerError
from healer.playbook_yaml.faults import PlaybookSetError
from healer.playbook_yaml.loader import playbook_files
from healer.ports import EpisodeFilter
from healer.scaling_yaml import load_policies
from healer.settings import Settings
from healer.web.conditions import Conditions
from healer.web.metrics import Instruments
from healer.web.scaling import ScalingRoutes, show
from scalers.apiserver import Listening, MetricsApi
from scalers.collector import KEPT_DAYS, ROUND_SECONDS, Collector
from scalers.forecast.desk import ForecastDesk
from scalers.masking import Disturbance
from scalers.policy import ScalingPolicy
from scalers.series import DAY_SECONDS
from scalers.service import Scaling

_log = logging.getLogger(__name__)

#: How often the policies' files are looked at. Seconds.
FILES_SECONDS = 2.0
#: Of so many runs that are under way it is seen which namespaces they heal.
RUNS_MAX = 1000


class ScalingPart:
    """What `healer.app` starts when there are policies."""

    def __init__(
        self,
        settings: Settings,
        world: World,
        scaling: Scaling,
        collector: Collector,
        desk: ForecastDesk,
        *,
        conditions: Conditions,
        instruments: Instruments,
    ) -> None:
        """Nothing runs yet; `round` and `forecast` are loops of the daemon."""
        self._paths = settings.scaling.policies
        self._world = world
        self.scaling = scaling
        self.routes = ScalingRoutes(scaling)
        self._collector = collector
        self.desk = desk
        self._conditions = conditions
        self._instruments = instruments
        self._seen: tuple[tuple[str, int, int], ...] | None = None
        self._faulty = ""  #: what is wrong with the files that were read last
        self._policies: tuple[ScalingPolicy, ...] = ()
        self.metrics_api: MetricsApi | None = None

    async def round(self) -> None:
        """Every metric; then wait for the next time, or for other policies."""
        await self.scaling.round()
        for name, problem in (
            ("scaling_source_unavailable", self._collector.problem),
            ("scaling_cluster_unavailable", self.scaling.problem),
            ("scaling_policies_rejected", self._faulty),
        ):
            if problem:
                self._conditions.hold(name, problem[:2000])
            else:
                self._conditions.clear(name)
        show(self._instruments, self.scaling.told)
        clock = self._world.clock
        # Every replica looks at the same moments, and so sees the same; new policies at once.
        ends = clock.now() // ROUND_SECONDS * ROUND_SECONDS + ROUND_SECONDS
        while not await self.read_policies() and (left := ends - clock.now()) > 0:
            await clock.sleep(min(left, FILES_SECONDS))

    async def read_policies(self) -> bool:
        """Whether the files have other policies than before; a faulty set is shown and not taken.

        In a thread: a thousand files take seconds to parse.
        """
        try:
            seen = await asyncio.to_thread(_stamps, self._paths)
            if seen == self._seen:
                return False
            self._seen = seen
            policies = await asyncio.to_thread(load_policies, self._paths)
        except (PlaybookSetError, ConfigError, OSError) as error:
            if self._conditions.hold("scaling_policies_rejected", str(error)[:2000]):
                _log.error("scaling policies are not taken", extra={"error": str(error)[:2000]})
            self._faulty = str(error)[:2000]
            return False
        self._faulty = ""
        self._conditions.clear("scaling_policies_rejected")
        if policies == self._policies:
            return False
        self._policies = policies
        self.scaling.follow(policies)
        _log.info("scaling policies", extra={"policies": len(policies)})
        return True

    async def stop(self) -> None:
        """End the server and the forecaster's process."""
        if self.metrics_api is not None:
            await self.metrics_api.stop()
        await self.desk.stop()


def listening(settings: Settings) -> Listening:
    """Where the metrics API listens."""
    wanted = settings.scaling.metrics_api
    return Listening(
        wanted.host, wanted.port, wanted.service, settings.kubernetes.own_namespace,
        wanted.cert_file, wanted.key_file,
    )  # fmt: skip


async def incidents(world: World) -> Mapping[str, str]:
    """By namespace: what is being healed there now. A journal that is away freezes by `paused`."""
    try:
        running = await world.store.episodes(
            EpisodeFilter(states=(EpisodeState.RUNNING,), limit=RUNS_MAX)
        )
    except HealerError:
        return {}
    return {
        one.labels["namespace"]: f"incident {one.name}: {one.id} is being healed"
        for one in running
        if one.labels.get("namespace")
    }


async def healed_before(world: World) -> Mapping[str, Sequence[Disturbance]]:
    """By namespace: what was healed in the past that forecasts learn from."""
    since = world.clock.now() - KEPT_DAYS * DAY_SECONDS
    try:
        closed = await world.store.episodes(
            EpisodeFilter(states=(EpisodeState.CLOSED,), limit=RUNS_MAX)
        )
    except HealerError as error:
        _log.warning("incidents of the past teach forecasts", extra={"error": str(error)})
        return {}
    found: dict[str, list[Disturbance]] = {}
    for one in closed:
        namespace, ends = one.labels.get("namespace", ""), one.closed_at
        if namespace and one.runs and ends is not None and since < ends >= one.opened_at:
            found.setdefault(namespace, []).append(
                Disturbance(one.opened_at, ends, f"incident {one.name}")
            )
    return found


async def paused(world: World) -> Mapping[str, str]:
    """By namespace (empty: everywhere): why prediction is switched off there.

    The same switch as for remediation. A journal that cannot be asked counts as a pause, because
    nobody knows whether there is one.
    """
    now = world.clock.now()
    try:
        pauses = [*world.local_pauses(), *await world.store.pauses()]
    except HealerError as error:
        return {"": f"the journal cannot be asked for pauses: {error}"}
    found: dict[str, str] = {}
    for one in pauses:
        if not one.playbook and one.covers(one.namespace, "", now):
            found[one.namespace] = f"{one.reason} ({one.by})"
    return found


def _stamps(paths: tuple[Path, ...]) -> tuple[tuple[str, int, int], ...]:
    """What changes when a file does."""
    files = [(file, file.stat()) for file in playbook_files(paths)]
    return tuple((str(file), found.st_mtime_ns, found.st_size) for file, found in files)
