"""Prometheus over its HTTP API: instant queries, alerting rules and firing alerts."""

import asyncio
from collections.abc import Mapping, Sequence

from healer.clients import prometheus_answers as answers
from healer.clients.outgoing import Access, Outgoing, Reply, parsed
from healer.clients.prometheus_batch import groups, joinable, joined, separated
from healer.clients.relabel import alert_labelling
from healer.domain.alert import Alert
from healer.errors import Blind, HealerError, NotFound, Refused, TimedOut, Unauthorized
from healer.kernel.clock import Clock
from healer.ports import AlertingRule, Sample

#: Parsing holds the interpreter, in whatever thread: this much takes less than 100 ms.
BODY_LIMIT = 16 << 20
RULES_SECONDS = 60.0  #: alerting rules are read again after this
CONFIG_SECONDS = 300.0  #: external labels are read again after this
PARALLEL = 4  #: requests at the same time for one `query_many`
OFF_LOOP_ROWS = 1000  #: more series than this are checked in a thread
REMEMBERED = 1024  #: expressions remembered as not joinable

_Answer = Sequence[Sample] | Exception


class Prometheus:
    """`healer.ports.Metrics` on one Prometheus, or on what speaks its API.

    An instant query tells when it was evaluated, not how old its samples are: Prometheus itself
    leaves out series without a sample for five minutes. What is checked here is the time of
    evaluation, which uncovers caches and wrong clocks.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        access: Access | None = None,
        timeout: float = 10.0,
        max_age: float = 300.0,
        source: str = "prometheus",
        external_labels: Mapping[str, str] | None = None,
        body_limit: int = BODY_LIMIT,
    ) -> None:
        """`external_labels` are asked of Prometheus unless given; `source` names its alerts."""
        self._http = Outgoing("prometheus", url, access=access, timeout=timeout, limit=body_limit)
        self._clock = clock
        self._timeout = timeout
        self._max_age = max_age
        self._source = source
        self._fixed = None if external_labels is None else answers.Outward(dict(external_labels))
        self._outward: tuple[float, answers.Outward] | None = None
        self._rules: tuple[float, Sequence[AlertingRule]] | None = None
        self._reading = asyncio.Lock()
        self._alone: dict[str, None] = {}

    async def query(self, expr: str) -> Sequence[Sample]:
        """The vector now; a scalar is one sample without labels. Empty is an answer."""
        _, rows = await self._rows(expr, self._timeout)
        return await self._checked(rows)

    async def query_many(self, exprs: Sequence[str]) -> Mapping[str, _Answer]:
        """Many vectors in one request for each 64; one bad query fails alone.

        When a joint request fails for what one expression may have caused, it is halved until the
        culprit stands alone. All of it ends within twice the timeout.
        """
        found: dict[str, _Answer] = {}
        deadline = self._clock.monotonic() + 2 * self._timeout
        gate = asyncio.Semaphore(PARALLEL)
        together: list[str] = []
        apart: list[str] = []
        for expr in dict.fromkeys(exprs):
            single = expr in self._alone or not joinable(expr)
            (apart if single else together).append(expr)
        batches = groups(together) + [[expr] for expr in apart]
        await asyncio.gather(*(self._batch(batch, found, deadline, gate) for batch in batches))
        return found

    async def _batch(
        self, exprs: list[str], found: dict[str, _Answer], deadline: float, gate: asyncio.Semaphore
    ) -> None:
        try:
            async with gate:
                left = deadline - self._clock.monotonic()
                parts = await self._parts(exprs, min(left, self._timeout))
        except (Refused, TimedOut, Blind) as error:
            everywhere = isinstance(error, answers.Partial) and error.everywhere
            if len(exprs) == 1 or everywhere or self._clock.monotonic() >= deadline:
                found.update(dict.fromkeys(exprs, error))
                return
            half = len(exprs) // 2
            await asyncio.gather(
                self._batch(exprs[:half], found, deadline, gate),
                self._batch(exprs[half:], found, deadline, gate),
            )
        except HealerError as error:
            # Whoever is down, or does not know us, is not asked again for each expression.
            found.update(dict.fromkeys(exprs, error))
        else:
            for expr, rows in zip(exprs, parts, strict=True):
                try:
                    found[expr] = await self._checked(rows)
                except (Blind, Refused) as error:
                    found[expr] = error

    async def _checked(self, rows: list[answers.Row]) -> Sequence[Sample]:
        now = self._clock.now()
        if len(rows) <= OFF_LOOP_ROWS:
            return answers.samples(rows, now, self._max_age)
        return await asyncio.to_thread(answers.samples, rows, now, self._max_age)

    async def _parts(self, exprs: Sequence[str], seconds: float) -> list[list[answers.Row]]:
        """The rows of each expression; which ones cannot be joined is remembered."""
        if seconds <= 0:
            raise TimedOut(f"prometheus: no time left after {2 * self._timeout:g} s")
        if len(exprs) > 1:
            _, rows = await self._rows(joined(exprs), seconds)
            return separated(rows, len(exprs))
        try:
            kind, rows = await self._rows(exprs[0], seconds)
        except Refused:
            self._remember(exprs[0])
            raise
        if kind == "vector":
            self._alone.pop(exprs[0], None)
        else:
            self._remember(exprs[0])
        return [rows]

    def _remember(self, expr: str) -> None:
        if len(self._alone) >= REMEMBERED:
            del self._alone[next(iter(self._alone))]
        self._alone[expr] = None

    async def rules(self) -> Sequence[AlertingRule]:
        """All alerting rules, at most a minute old."""
        async with self._reading:
            now = self._clock.monotonic()
            if self._rules is None or now - self._rules[0] >= RULES_SECONDS:
                reply = await self._get("/api/v1/rules", type="alert", exclude_alerts="true")
                self._rules = now, await parsed(reply.body, answers.rules)
            return self._rules[1]

    async def firing(self) -> Sequence[Alert]:
        """Firing alerts with the labels, and so the fingerprints, that Alertmanager sees.

        External labels are added and `alert_relabel_configs` applied; those of a single
        Alertmanager (`alertmanagers[].alert_relabel_configs`) are not.
        """
        outward = await self._sent_as()
        reply = await self._get("/api/v1/alerts")
        now = self._clock.now()
        return await parsed(
            reply.body, lambda body: answers.firing(body, outward, self._source, now)
        )

    async def ready(self) -> None:
        """Returns when it answers queries; raises TemporaryError otherwise."""
        await self._rows("1", self._timeout)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.close()

    async def _sent_as(self) -> answers.Outward:
        if self._fixed is not None:
            return self._fixed
        async with self._reading:
            now = self._clock.monotonic()
            if self._outward is None or now - self._outward[0] >= CONFIG_SECONDS:
                try:
                    reply = await self._get("/api/v1/status/config")
                except (Refused, NotFound, Unauthorized) as error:
                    raise Refused(
                        f"{error}; without its external labels no fingerprint is right: "
                        "allow that path, or give the labels in healer's settings"
                    ) from error
                sections = await parsed(reply.body, answers.outgoing_sections)
                labels, relabel = await asyncio.to_thread(alert_labelling, sections)
                self._outward = now, answers.Outward(labels, relabel)
            return self._outward[1]

    async def _rows(self, expr: str, seconds: float) -> tuple[str, list[answers.Row]]:
        reply = await self._http.call(
            "POST",
            "/api/v1/query",
            form={"query": expr, "timeout": f"{max(1, round(seconds * 1000))}ms"},
            timeout=seconds,
            repeatable=True,
        )
        self._judge(reply)
        return await parsed(reply.body, answers.rows)

    async def _get(self, path: str, **params: str) -> Reply:
        reply = await self._http.call("GET", path, params=params, repeatable=True)
        self._judge(reply)
        return reply

    def _judge(self, reply: Reply) -> None:
        if reply.status == 200:
            return
        kind, words = answers.complaint(reply.body)
        if kind in {"timeout", "canceled"}:
            raise TimedOut(f"prometheus: {words}")
        if reply.status == 404:
            raise Refused(
                f"prometheus: {self._http.url} has no such API; check the base URL "
                "(without /api/v1, with any --web.route-prefix)"
            )
        self._http.refuse(reply, words)
