"""`/healthz`, `/readyz`, `/metrics`: alive is progress, ready is a journal that commits.

Readiness never depends on Prometheus, Alertmanager or the API server: an alert can be kept while
they are away, and that is exactly when it must be.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from healer.domain.episode import EpisodeState
from healer.domain.pause import Pause
from healer.errors import StoreUnavailable
from healer.kernel.clock import Clock
from healer.kernel.tasks import Progress
from healer.ports import Store
from healer.web.auth import Tokens, bearer
from healer.web.conditions import CONDITIONS, Conditions
from healer.web.metrics import Instruments

#: The journal must answer the readiness probe by then. Seconds.
PROBE_SECONDS = 2.0
#: A commit that failed this lately makes us not ready. Seconds.
FAILED_LATELY_SECONDS = 15.0


class Health:
    """The three pages."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        progress: Progress,
        *,
        instruments: Instruments,
        conditions: Conditions,
        playbooks: Callable[[], int],
        local_pauses: Callable[[], Sequence[Pause]] = tuple,
        metrics_token_files: Sequence[Path] = (),
        term: Callable[[], int] = lambda: 1,
    ) -> None:
        """`playbooks` answers how many are loaded, none is not ready; `term` is 0 for a follower.

        A follower is as alive and as ready as the leader: it takes alerts and acts.
        """
        self._store = store
        self._clock = clock
        self._progress = progress
        self._is = instruments
        self._conditions = conditions
        self._playbooks = playbooks
        self._local_pauses = local_pauses
        self._term = term
        self._draining = False
        self._tokens = Tokens(metrics_token_files) if metrics_token_files else None
        if self._tokens is not None:
            self._tokens.check()

    def drain(self) -> None:
        """From now on not ready."""
        self._draining = True

    def application(self) -> web.Application:
        """The aiohttp application with the three routes."""
        application = web.Application()
        application.router.add_get("/healthz", self.alive)
        application.router.add_get("/readyz", self.ready)
        application.router.add_get("/metrics", self.metrics)
        return application

    async def alive(self, request: web.Request) -> web.Response:
        """200 while every loop keeps its promise; else 503 naming the late ones."""
        late = self._progress.stalled()
        if late:
            lines = [f"{name} is {by:.0f} s late" for name, by in sorted(late.items())]
            return web.Response(status=503, text="\n".join(lines) + "\n")
        return web.Response(text="ok\n")

    async def ready(self, request: web.Request) -> web.Response:
        """200 when alerts can be accepted and something can be done; else 503 with the reasons."""
        problems = []
        if self._draining:
            problems.append("shutting down")
        if self._playbooks() == 0:
            problems.append("no playbook is loaded; see playbooks.paths")
        problem = await self._store_problem()
        if problem:
            problems.append(problem)
        if problems:
            return web.Response(status=503, text="\n".join(problems) + "\n")
        return web.Response(text="ok\n")

    async def _store_problem(self) -> str:
        for condition in self._conditions.active():
            lately = self._clock.now() - condition.at <= FAILED_LATELY_SECONDS
            if condition.name == "store_unavailable" and lately:
                return condition.detail
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                # A write transaction that changes nothing: there is no such message.
                await self._store.message_done("readyz", True, 0.0)
        except TimeoutError:
            return f"the journal did not answer within {PROBE_SECONDS:g} s"
        except StoreUnavailable as error:
            return f"the journal cannot commit: {error}"
        return ""

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus' text format."""
        if self._tokens is not None and not self._tokens.accept(bearer(request)):
            return web.Response(status=401, headers={hdrs.WWW_AUTHENTICATE: "Bearer"})
        await self._refresh()
        return web.Response(
            body=generate_latest(self._is.registry),
            headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST},
        )

    async def _refresh(self) -> None:
        self._is.playbooks.set(self._playbooks())
        self._is.leader.set(bool(self._term()))
        for name, age in self._progress.ages().items():
            self._is.loop_age.labels(name).set(age)
        late = self._progress.stalled()
        for name in self._progress.ages():
            self._is.loop_stalled.labels(name).set(name in late)
        active = {condition.name for condition in self._conditions.active()}
        for name in sorted({*CONDITIONS, *active}):
            self._is.conditions.labels(name).set(name in active)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                counts = await self._store.counts()
                pauses = [*await self._store.pauses(), *self._local_pauses()]
        except (StoreUnavailable, TimeoutError):
            self._is.store_up.set(0)
            return
        self._is.store_up.set(1)
        for state in EpisodeState:
            self._is.episodes.labels(str(state)).set(counts.get(f"episodes/{state}", 0))
        self._is.inbox.set(counts.get("inbox", 0))
        self._is.outbox.set(counts.get("outbox", 0))
        self._is.inbox_age.set(self._age(counts.get("inbox_since", 0)))
        self._is.outbox_failing.set(counts.get("outbox_failing", 0))
        self._is.head_seq.set(counts.get("fact_seq", 0))
        self._is.head_hash.set(counts.get("fact_hash", 0))
        scopes = Counter(_scope(pause) for pause in pauses)
        for scope in ("global", "namespace", "playbook"):
            self._is.pauses.labels(scope).set(scopes[scope])

    def _age(self, since: float) -> float:
        return max(0.0, self._clock.now() - since) if since else 0.0


def _scope(pause: Pause) -> str:
    if pause.playbook:
        return "playbook"
    return "namespace" if pause.namespace else "global"


class LagSampler:
    """Measures how late the event loop wakes its timers; run it in `healer.kernel.tasks.keep`."""

    def __init__(self, clock: Clock, instruments: Instruments, every: float = 0.5) -> None:
        self._clock = clock
        self._is = instruments
        self._every = every

    async def round(self) -> None:
        """Sleep once, and keep by how much it was longer than asked for."""
        began = self._clock.monotonic()
        await self._clock.sleep(self._every)
        self._is.lag.set(max(0.0, self._clock.monotonic() - began - self._every))
