"""A server that speaks Prometheus' API and answers queries as badly as it is told."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from healer.kernel.clock import Clock, rfc3339


class PrometheusApi:
    """`series` (expression → label sets of value 1) is what it knows; `fault` what it does."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.series: dict[str, Sequence[Mapping[str, str]]] = {}
        self.alerts: list[Mapping[str, str]] = []
        self.since = clock.now()
        self.fault = ""
        self.struck = 0  #: questions about series that met the fault
        self.url = ""
        self._over = asyncio.Event()
        self._huge = b""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["PrometheusApi"]:
        """While it serves."""
        application = web.Application(client_max_size=1 << 20)
        application.router.add_route("*", "/api/v1/{what:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self._over.set()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        what = request.match_info["what"]
        if what == "status/config":
            return _said({"yaml": "global: {}\n"})
        if what == "rules":
            return _said({"groups": []})
        fault = self.fault
        if what == "alerts":
            if fault:
                return web.Response(status=503)
            return _said({"alerts": [self._alert(labels) for labels in self.alerts]})
        expr = str((await request.post()).get("query", ""))
        rows = [
            {"metric": dict(labels), "value": [self.clock.now(), "1"]}
            for labels in self.series.get(expr, ())
        ]
        if not fault:
            return _said({"resultType": "vector", "result": rows})
        self.struck += 1
        return await self._faulty(request, fault, rows)

    async def _faulty(
        self, request: web.Request, fault: str, rows: list[dict[str, Any]]
    ) -> web.StreamResponse:
        now = self.clock.now()
        if fault.isdigit():
            body = {"status": "error", "errorType": "bad_data", "error": "made up"}
            return web.json_response(body, status=int(fault))
        match fault:
            case "down" | "cut":
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=500)
            case "slow":
                await self._over.wait()
            case "page":
                return web.Response(text="<html>welcome</html>")
            case "empty":
                rows = []
            case "stale" | "future":
                shift = -400.0 if fault == "stale" else 400.0
                rows = [{**row, "value": [now + shift, "1"]} for row in rows]
            case "twice":
                rows = rows + rows
            case "partial":
                return _said({"resultType": "vector", "result": rows}, ["a store is away"])
            case "huge":
                self._huge = self._huge or _huge(now)
                return web.Response(body=self._huge, content_type="application/json")
            case value:  # NaN, +Inf, -Inf, garbage
                rows = [{**row, "value": [now, value]} for row in rows]
        return _said({"resultType": "vector", "result": rows})

    def _alert(self, labels: Mapping[str, str]) -> dict[str, Any]:
        return {
            "labels": dict(labels), "annotations": {}, "state": "firing", "value": "1",
            "activeAt": rfc3339(self.since),
        }  # fmt: skip


def _said(data: Any, warnings: Sequence[str] = ()) -> web.Response:
    return web.json_response({"status": "success", "data": data, "warnings": list(warnings)})


def _huge(now: float) -> bytes:
    """More than 50 MB of series that are all well formed."""
    rows = ",".join(
        '{"metric":{"__name__":"sick","namespace":"shop","deployment":"web-0","series":"'
        f'{number:08d}{"x" * 300}"}},"value":[{now:.3f},"1"]}}'
        for number in range(125_000)
    )
    body = f'{{"status":"success","data":{{"resultType":"vector","result":[{rows}]}}}}'
    assert len(body) > 50_000_000
    return body.encode()
