"""`scalers.ports.RangeSource` on Prometheus: many range queries in few requests."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from healer.clients import prometheus_answers as answers
from healer.clients.outgoing import Access, Outgoing, Reply, parsed
from healer.clients.prometheus_batch import MARK, groups, joinable, joined
from healer.errors import Blind, HealerError, Refused, TimedOut
from healer.kernel.clock import Clock
from scalers.ports import Answer, Labels, SourceError

#: Fifteen days at 300 s of 64 queries are 280,000 points, about 9 MiB.
BODY_LIMIT = 32 << 20
#: More points than this in one answer are asked for in several requests. Prometheus itself refuses
#: 11,000 points of one series.
POINTS_IN_ONE = 150_000
PARALLEL = 2  #: requests at the same time; Prometheus answers 20 for everybody by default
REMEMBERED = 1024  #: queries remembered as not joinable

_Found = dict[str, Answer | SourceError]


class _Row(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]] = []


class _Matrix(msgspec.Struct):
    resultType: str  # noqa: N815 - as Prometheus writes it
    result: list[_Row]


class PrometheusRanges:
    """Range queries, joined 64 to a request; one that fails alone is asked alone afterwards."""

    def __init__(
        self, url: str, *, clock: Clock, access: Access | None = None, timeout: float = 10.0
    ) -> None:
        """`timeout` bounds one request, twice of it a whole call. Seconds."""
        self._http = Outgoing("prometheus", url, access=access, timeout=timeout, limit=BODY_LIMIT)
        self._clock = clock
        self._timeout = timeout
        self._alone: dict[str, None] = {}
        self._fits: dict[str, bool] = {}  #: whether a query can be joined with others
        self.requests = 0  #: HTTP requests made so far

    async def ranges(
        self, queries: Sequence[str], start: float, end: float, step: float
    ) -> Sequence[Answer | SourceError]:
        """See the port."""
        found: _Found = {}
        deadline = self._clock.monotonic() + 2 * self._timeout
        gate = asyncio.Semaphore(PARALLEL)
        unknown = [query for query in dict.fromkeys(queries) if query not in self._fits]
        # Tokens of a thousand queries take half a second.
        self._fits |= await asyncio.to_thread(_fitting, unknown)
        together, apart = self._sorted(queries)
        most = max(1, int(POINTS_IN_ONE // ((end - start) / step + 1)))
        batches = [
            group[i : i + most] for group in groups(together) for i in range(0, len(group), most)
        ]
        batches += [[query] for query in apart]
        span = (start, end, step)
        await asyncio.gather(*(self._batch(one, span, found, deadline, gate) for one in batches))
        given = [found[query] for query in queries]
        if given and all(isinstance(one, _Unasked) for one in given):
            raise SourceError(str(given[0]))
        return given

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.close()

    def _sorted(self, queries: Sequence[str]) -> tuple[list[str], list[str]]:
        together: list[str] = []
        apart: list[str] = []
        for query in dict.fromkeys(queries):
            single = query in self._alone or not self._fits[query]
            (apart if single else together).append(query)
        if len(self._fits) > 4 * len(together) + REMEMBERED:
            self._fits = {query: self._fits[query] for query in queries}
        return together, apart

    async def _batch(
        self,
        queries: list[str],
        span: tuple[float, float, float],
        found: _Found,
        deadline: float,
        gate: asyncio.Semaphore,
    ) -> None:
        try:
            async with gate:
                left = min(deadline - self._clock.monotonic(), self._timeout)
                parts = await self._parts(queries, span, left)
        except (Refused, TimedOut, Blind) as error:
            everywhere = isinstance(error, answers.Partial) and error.everywhere
            if len(queries) == 1:
                if isinstance(error, Refused):
                    self._remember(queries[0])
                kind = _Unasked if isinstance(error, TimedOut) else SourceError
                found[queries[0]] = kind(str(error))
                return
            if everywhere or self._clock.monotonic() >= deadline:
                found.update(dict.fromkeys(queries, _Unasked(str(error))))
                return
            half = len(queries) // 2
            for some in (queries[:half], queries[half:]):
                await self._batch(some, span, found, deadline, gate)
        except HealerError as error:
            # Whoever is down, or does not know us, is not asked again for each query.
            found.update(dict.fromkeys(queries, _Unasked(str(error))))
        else:
            found.update(zip(queries, parts, strict=True))

    async def _parts(
        self, queries: Sequence[str], span: tuple[float, float, float], seconds: float
    ) -> list[Answer]:
        if seconds <= 0:
            raise TimedOut(f"prometheus: no time left after {2 * self._timeout:g} s")
        start, end, step = span
        self.requests += 1
        reply = await self._http.call(
            "POST",
            "/api/v1/query_range",
            form={
                "query": joined(queries) if len(queries) > 1 else queries[0],
                "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}",
                "timeout": f"{max(1, round(seconds * 1000))}ms",
            },
            timeout=seconds,
            repeatable=True,
        )  # fmt: skip
        self._judge(reply)
        return await parsed(reply.body, lambda body: _answers(body, len(queries)))

    def _remember(self, query: str) -> None:
        if len(self._alone) >= REMEMBERED:
            del self._alone[next(iter(self._alone))]
        self._alone[query] = None

    def _judge(self, reply: Reply) -> None:
        if reply.status == 200:
            return
        kind, words = answers.complaint(reply.body)
        if kind in {"timeout", "canceled"}:
            raise TimedOut(f"prometheus: {words}")
        self._http.refuse(reply, words)


def _fitting(queries: Sequence[str]) -> dict[str, bool]:
    return {query: joinable(query) for query in queries}


class _Unasked(SourceError):
    """Not the query's fault: Prometheus could not be asked."""


def _answers(body: bytes, count: int) -> list[Answer]:
    """The answer of each of `count` joined queries. Raises Blind for what is nobody's."""
    try:
        found: Any = msgspec.json.decode(answers.data(body), type=_Matrix)
    except msgspec.DecodeError as error:
        raise Blind(f"prometheus: the answer is not what its API promises: {error}") from error
    if found.resultType != "matrix":
        raise Refused(f"prometheus: a range query gave a {found.resultType}, not a matrix")
    parts: list[dict[Labels, Sequence[tuple[float, float]]]] = [{} for _ in range(count)]
    for row in found.result:
        mark = row.metric.pop(MARK, "") if count > 1 else "0"
        if not mark.isdecimal() or int(mark) >= count:
            raise Blind(f"prometheus: a joined query came back with the mark {mark[:20]!r}")
        labels: Labels = tuple(sorted(row.metric.items()))
        try:
            parts[int(mark)][labels] = [(at, float(text)) for at, text in row.values]
        except ValueError as error:
            raise Blind(f"prometheus: a value is no number: {error}") from error
    return [Answer(part) for part in parts]
