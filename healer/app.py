"""The composition root: the one place that names concrete clients and stores, and starts them.

Start: journal, clients, playbooks, servers, loops; each failure is a ConfigError that says what to
do. Stop (SIGTERM, SIGINT): refuse deliveries with 503, let every episode reach a durable place,
close. A kill at any instruction is as good: everything is in the journal.
"""

import asyncio
import contextlib
import logging
import os
import platform
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from healer.actions.registry import ACTIONS
from healer.clients.assembly import (
    open_alertmanager,
    open_cluster,
    open_http,
    open_leases,
    open_metrics_api,
    open_notifiers,
    open_prometheus,
    open_ranges,
    open_workloads,
)
from healer.clients.notify.alertmanager import AlertmanagerNotifier
from healer.domain.playbook import Mode
from healer.domain.protection import Protection
from healer.engine import telling
from healer.engine.announcer import Announcer
from healer.engine.election import Elector, Timing
from healer.engine.intake import Intake
from healer.engine.outbox import Outbox
from healer.engine.sources.conditions import Conditions as ConditionSource
from healer.engine.sources.level import AlertLevel
from healer.engine.sources.poller import ALERTMANAGER_SOURCE, Poller
from healer.engine.sources.queries import Queries
from healer.engine.switch import PauseFile
from healer.engine.worker import Worker
from healer.engine.world import EngineOptions, World
from healer.kernel.clock import Clock, SystemClock
from healer.kernel.crashpoints import from_environment
from healer.kernel.ids import random_id
from healer.kernel.steady import SteadyClock
from healer.kernel.tasks import Progress, keep
from healer.logs import RunLog
from healer.playbook_yaml import PlaybookLibrary, Registry
from healer.playbook_yaml.library import POLL_SECONDS
from healer.ports import Cluster, Leases, Notifier, Store
from healer.probes.registry import PROBES
from healer.settings import Settings
from healer.store.assembly import Journal, open_store
from healer.web.api import Api
from healer.web.conditions import Conditions
from healer.web.health import Health, LagSampler
from healer.web.listeners import Server
from healer.web.metrics import Instruments, MetricsListener, metered
from healer.web.webhook import Webhook

if TYPE_CHECKING:
    from healer.scaling import ScalingPart

_log = logging.getLogger(__name__)

#: How long a drain may take; a pod's grace period is 30 s by default. Seconds.
DRAIN_SECONDS = 20.0
#: How often open failures are posted to Alertmanager again. Seconds.
REMIND_SECONDS = 60.0
#: Loops report at least this often, or `/healthz` fails. Seconds.
_PROMISES = {
    "intake": 15.0, "worker": 15.0, "outbox": 60.0, "leases": 60.0, "playbooks": 60.0,
    "election": 60.0,
}  # fmt: skip

Round = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class App:
    """A running daemon: its parts, for those who embed or test it."""

    settings: Settings
    world: World
    worker: Worker
    intake: Intake
    webhook: Webhook
    health: Health
    servers: dict[str, Server]
    progress: Progress
    loops: list[asyncio.Task[None]]
    stopping: asyncio.Event
    elector: Elector | None = None  #: None: a single replica, which always leads
    terms: tuple[asyncio.Task[None], ...] = ()  #: the election's loops
    scaling: "ScalingPart | None" = None  #: None: there are no scaling policies

    @property
    def ports(self) -> dict[str, int]:
        """The ports that were bound, by listener."""
        return {name: server.port for name, server in self.servers.items()}

    def pause(self) -> None:
        """SIGUSR1: stop doing anything, durably, without the journal."""
        PauseFile(self.settings.pause_file, self.world.clock).set("SIGUSR1")
        _log.warning("paused by SIGUSR1", extra={"file": str(self.settings.pause_file)})

    async def drain(self) -> None:
        """Refuse what is new, hand over what is under way, end the loops and the servers."""
        _log.info("draining", extra={"in_flight": self.worker.in_flight})
        self.webhook.drain()
        self.health.drain()
        await asyncio.gather(self._resign(), self._answer(), self.worker.drain(DRAIN_SECONDS))
        await _end(self.loops)
        if self.scaling is not None:
            await self.scaling.stop()
        await asyncio.gather(*(server.stop() for server in self.servers.values()))
        self.webhook.close()

    async def _answer(self) -> None:
        """Let the deliveries that are being answered have their answer."""
        with contextlib.suppress(TimeoutError):  # its sender gets none, and sends again
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.webhook.idle()

    async def _resign(self) -> None:
        """Stop leading, and let another replica lead at once."""
        await _end(self.terms)
        if self.elector is not None:
            await self.elector.release()


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError when it cannot start."""
    async with AsyncExitStack() as stack:
        app = await start(settings, stack)
        running = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, app.stopping.set)
        running.add_signal_handler(signal.SIGUSR1, app.pause)
        _log.info("serving", extra={"ports": app.ports, "owner": app.world.owner})
        await app.stopping.wait()
        await app.drain()
    _log.info("stopped")


async def start(
    settings: Settings,
    stack: AsyncExitStack,
    *,
    clock: Clock | None = None,
    store: Store | None = None,
    cluster: Cluster | None = None,
    notifiers: Mapping[str, Notifier] | None = None,
    leases: Leases | None = None,
) -> App:
    """Build and start everything; parts handed in replace the ones that settings describe.

    What was opened is closed by `stack`, in reverse.
    """
    wall = clock or SystemClock()
    clock = clock or SteadyClock(wall)
    world, journal = await _world(settings, stack, clock, wall, store, cluster)
    elector = await _elector(settings, stack, world, leases)
    library = PlaybookLibrary(settings.playbooks.paths, Registry(ACTIONS, PROBES))
    world.playbooks = library.current
    if notifiers is None:
        notifiers = await open_notifiers(
            settings, stack, wall, alerts=world.alerts,
            open_notices=lambda: telling.still_open(world),
        )  # fmt: skip
    app = await _start(settings, world, library, notifiers, elector, stack)
    journal.subscribe(app.intake.wake)
    journal.subscribe(app.worker.wake)
    return app


async def _world(
    settings: Settings,
    stack: AsyncExitStack,
    clock: Clock,
    wall: Clock,
    store: Store | None,
    cluster: Cluster | None,
) -> tuple[World, Journal]:
    crash = from_environment(os.environ.get("HEALER_CRASH_POINT"))
    if store is None:
        replica = settings.worker.replica
        opened = await open_store(settings.store, stack, clock, crash, replica and f"{replica}-")
    else:
        opened = Journal(store, clock, lambda _: None)
    if cluster is None:
        cluster = await open_cluster(settings, stack, wall)
    switch = PauseFile(settings.pause_file, clock)
    world = World(
        store=opened.store,
        cluster=cluster,
        clock=opened.clock,
        actions=ACTIONS,
        probes=PROBES,
        playbooks=tuple,
        owner=random_id(settings.worker.replica or platform.node().lower() or "healer"),
        metrics=await open_prometheus(settings, stack, wall),
        alerts=await open_alertmanager(settings, stack, wall),
        http=await open_http(settings, stack, clock),
        options=_options(settings),
        local_pauses=switch.pauses,
        crash=crash,
        # The database's clock is true, and the same for every replica.
        wall_clock=wall if opened.clock is clock else None,
    )
    return world, opened


async def _elector(
    settings: Settings, stack: AsyncExitStack, world: World, leases: Leases | None
) -> Elector | None:
    """Takes part in the election; None where there is no other replica, which then always leads."""
    wanted = settings.election
    if not (settings.store.shared if wanted.enabled is None else wanted.enabled):
        return None
    timing = Timing(wanted.lease_seconds, wanted.renew_deadline_seconds, wanted.retry_seconds)
    if leases is None:
        leases = await open_leases(settings, stack, world.clock, timing.call_seconds)
    elector = Elector(leases, world.clock, world.owner, timing)
    world.term, world.cut_off = elector.term, elector.cut_off
    return elector


def _options(settings: Settings) -> EngineOptions:
    return EngineOptions(
        lease_seconds=settings.worker.lease_seconds,
        concurrency=settings.worker.concurrency,
        hold_page_seconds=settings.worker.hold_page_seconds,
        poll_seconds=settings.alertmanager.poll_seconds,
        absent_seconds=3 * settings.alertmanager.poll_seconds,
        dry_run=settings.dry_run,
        ceiling=Mode(settings.autonomy.ceiling),
        protection=Protection(
            own_namespace=settings.kubernetes.own_namespace,
            namespaces=settings.protected.namespaces,
            kinds=settings.protected.kinds,
            objects=settings.protected.objects,
        ),
        channels=tuple(settings.notifiers),
    )


async def _start(
    settings: Settings,
    world: World,
    library: PlaybookLibrary,
    notifiers: Mapping[str, Notifier],
    elector: Elector | None,
    stack: AsyncExitStack,
) -> App:
    clock = world.clock
    progress = Progress(clock)
    instruments = Instruments()
    conditions = Conditions(clock)
    world.cluster = metered(world.cluster, "kubernetes", instruments)
    if world.metrics is not None:
        world.metrics = metered(world.metrics, "prometheus", instruments)
    if world.alerts is not None:
        world.alerts = metered(world.alerts, "alertmanager", instruments)
    announcer = Announcer(world.cluster, world.owner)
    world.listeners += [MetricsListener(instruments, clock.now()), RunLog(), announcer]
    worker = Worker(world)
    intake = Intake(world, worker.wake)
    level = AlertLevel(clock, world.metrics, world.alerts, wall=world.wall)
    if world.alerts is not None or world.metrics is not None:  # else nobody could be asked
        world.levels[ALERTMANAGER_SOURCE] = level
    poller = Poller(world, level, intake.wake)
    watched = ConditionSource(world, progress, intake.wake)
    world.levels["condition/"] = watched
    rounds: dict[str, Round] = {
        "intake": intake.round,
        "worker": worker.round,
        "leases": worker.renew,
        "outbox": Outbox(world, notifiers).round,
        "conditions": watched.round,
        "lag": LagSampler(clock, instruments).round,
    }
    led: dict[str, Round] = {"reminders": lambda: _remind(notifiers, clock)}
    if world.alerts is not None or world.metrics is not None:
        led["poller"] = poller.round
    if world.metrics is not None:
        queries = Queries(world, world.metrics, intake.wake)
        world.levels["query/"] = queries
        led["queries"] = queries.round
    webhook = Webhook(
        world.store, clock, sources=settings.sources, limits=settings.limits,
        instruments=instruments, conditions=conditions, on_accepted=intake.wake,
        on_truncated=lambda _: poller.hurry(),
    )  # fmt: skip
    health = Health(
        world.store, clock, progress, instruments=instruments, conditions=conditions,
        playbooks=lambda: len(library.current()), local_pauses=world.local_pauses,
        metrics_token_files=settings.listen.health.metrics_token_files, term=world.term,
    )  # fmt: skip
    api = Api(
        world.store, clock, progress, people=settings.people, conditions=conditions,
        playbooks=world.playbooks, local_pauses=world.local_pauses, on_change=worker.wake,
        about=lambda: {
            "owner": world.owner, "dry_run": settings.dry_run, "leads": bool(world.term()),
            "leader": elector.holder if elector is not None else world.owner,
        },
    )  # fmt: skip
    scaling = None
    if settings.scaling.policies:
        scaling = await _scaling(settings, stack, world, conditions, instruments)
        rounds |= {"scaling": scaling.round}
    servers = {
        "webhook": await Server.start(
            webhook.application(), settings.listen.webhook, clock, "webhook"
        ),
        "api": await Server.start(
            api.application(None if scaling is None else scaling.routes.add_to),
            settings.listen.api,
            clock,
            "api",
        ),
        "health": await Server.start(health.application(), settings.listen.health, clock, "health"),
    }

    def begin(some: Mapping[str, Round]) -> list[asyncio.Task[None]]:
        return [
            _loop(name, body, progress, clock, _PROMISES.get(name, 180.0))
            for name, body in some.items()
        ]

    terms: list[asyncio.Task[None]] = []
    if elector is None:
        rounds |= led
    else:
        terms = begin({"election": elector.round})
        terms.append(asyncio.create_task(elector.serve_terms(lambda: begin(led))))
    loops = begin(rounds)
    # Events are posted when there are any: nothing to report, so no promise.
    loops.append(asyncio.create_task(keep("events", announcer.round, clock=clock)))
    if scaling is not None:  # … as for forecasts
        loops.append(asyncio.create_task(keep("forecasts", scaling.desk.run, clock=clock)))
    loops.append(
        asyncio.create_task(
            keep("playbooks", lambda: _follow(library, worker, conditions, progress, clock),
                 clock=clock)
        )
    )  # fmt: skip
    progress.expect("playbooks", _PROMISES["playbooks"])
    return App(
        settings, world, worker, intake, webhook, health, servers, progress, loops, asyncio.Event(),
        elector, tuple(terms), scaling,
    )  # fmt: skip


async def _scaling(
    settings: Settings,
    stack: AsyncExitStack,
    world: World,
    conditions: Conditions,
    instruments: Instruments,
) -> "ScalingPart":
    """Scaling with its clients, and the metrics API. What serves nobody is a condition."""
    # numpy takes its time and its memory: only where forecasts are made.
    from healer.scaling import ScalingPart, healed_before, incidents, listening, paused
    from scalers.apiserver import MetricsApi
    from scalers.apiserver.contract import MetricsApiError
    from scalers.collector import Collector
    from scalers.forecast.desk import ForecastDesk
    from scalers.service import Scaling

    clock = world.clock
    collector = Collector(await open_ranges(settings, stack, clock), clock)
    desk = ForecastDesk(settings.scaling.state_path, clock)
    made = Scaling(
        collector, await open_workloads(settings, stack, clock), desk, clock,
        incidents=lambda: incidents(world), paused=lambda: paused(world),
        before=await healed_before(world),
    )  # fmt: skip
    part = ScalingPart(
        settings, world, made, collector, desk, conditions=conditions, instruments=instruments
    )
    await part.read_policies()
    if not settings.scaling.metrics_api.enabled:
        return part
    asked = await open_metrics_api(settings, stack, clock)
    try:
        part.metrics_api = await MetricsApi.start(
            listening(settings), made, clock, authentication=asked, reviewer=asked,
            api_services=asked,
        )  # fmt: skip
    except (MetricsApiError, OSError) as error:
        # The healer goes on without: whoever scales must not stop whoever heals.
        conditions.hold("metrics_api_stopped", f"the metrics API does not serve: {error}")
        _log.error("the metrics API does not serve", extra={"error": str(error)})
    return part


async def _remind(notifiers: Mapping[str, Notifier], clock: Clock) -> None:
    """Alertmanager forgets our alerts with its memory: what is still open is posted again."""
    for notifier in notifiers.values():
        if isinstance(notifier, AlertmanagerNotifier):
            await notifier.repeat()
    await clock.sleep(REMIND_SECONDS)


def _loop(
    name: str, body: Round, progress: Progress, clock: Clock, within: float
) -> asyncio.Task[None]:
    """The loop as a supervised task whose every finished round is progress."""
    progress.expect(name, within)

    async def once() -> None:
        await body()
        progress.report(name)

    task = asyncio.create_task(keep(name, once, clock=clock), name=name)
    task.add_done_callback(lambda _: progress.forget(name))
    return task


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(
    library: PlaybookLibrary,
    worker: Worker,
    conditions: Conditions,
    progress: Progress,
    clock: Clock,
) -> None:
    """Load the playbooks again when their files change; a faulty set is shown and not taken."""
    await library.refresh(clock, lambda _: worker.wake())
    progress.report("playbooks")
    if library.error is not None:
        conditions.hold("playbooks_rejected", str(library.error)[:2000])
    else:
        conditions.clear("playbooks_rejected")
    await clock.sleep(POLL_SECONDS)
