"""A proxy before a real API server that fails as it is told: refuses, loses, delays, cuts, stalls.

Callers show it a bearer token, which can be rotated; it speaks to the API server with the bed's
own certificate. Everything that passes is written down with its time.
"""

import asyncio
import base64
import json
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from tests.bed.certificates import Authority
from tests.bed.simulated import SimulatedCluster
from tests.faults.fast import REAL

Lines = AsyncGenerator[bytes, None]
_DROPPED = {"content-length", "transfer-encoding", "connection", "host", "authorization"}
#: As the API server names them in its Status objects.
_REASONS = {401: "Unauthorized", 409: "Conflict", 429: "TooManyRequests", 410: "Expired"}


@dataclass
class Fault:
    """What happens to requests whose method and path match, `times` times (-1: for ever)."""

    method: str = ""  #: empty: any
    path: str = ""  #: a regular expression, searched for in the path with its query
    times: int = -1
    status: int = 0  #: answer with this status …
    page: bool = False  #: … as a proxy's page and not as the API server's Status object
    headers: dict[str, str] = field(default_factory=dict)
    forward: bool = False  #: pass the request on first, and lose the answer
    delay: float = 0.0  #: before anything else; seconds
    late: float = 0.0  #: pass the request on after so many seconds, whoever has gone meanwhile
    hang: bool = False  #: never answer
    cut: bool = False  #: break the connection
    lines: Callable[[Lines], Lines] | None = None  #: what becomes of a watch's lines
    hits: list[float] = field(default_factory=list)  #: monotonic times at which it struck

    def matches(self, request: web.Request) -> bool:
        """Whether it strikes this request."""
        if self.times == 0 or (self.method and request.method != self.method):
            return False
        return re.search(self.path, request.path_qs) is not None


@dataclass(frozen=True)
class Passed:
    """One request as it arrived."""

    at: float  #: monotonic seconds
    method: str
    path: str
    status: int  #: what was answered; 0: nothing


class FaultProxy:
    """TLS in front, TLS behind, faults in between."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._authority = Authority(cluster.run.folder / "control-plane" / "pki")
        self.faults: list[Fault] = []
        self.passed: list[Passed] = []
        self.tokens = {"the-first-token"}
        self.url = ""
        self._over = asyncio.Event()
        self._late: set[asyncio.Task[None]] = set()

    def fault(self, **how: Any) -> Fault:
        """From now on; taken away by `mend`."""
        fault = Fault(**how)
        self.faults.append(fault)
        return fault

    def mend(self) -> None:
        """No faults any more."""
        self.faults.clear()

    def asked(self, method: str, path: str) -> list[Passed]:
        """The requests that matched, in order."""
        return [p for p in self.passed if p.method == method and re.search(path, p.path)]

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig that leads here, with a token in a file `token` beside it."""
        (folder / "token").write_text(next(iter(self.tokens)))
        authority = base64.b64encode(self._authority.certificate("ca").read_bytes()).decode()
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {
                "server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": "healer", "user": {"tokenFile": str(folder / "token")}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "healer"}}],
        }  # fmt: skip
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return path

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FaultProxy"]:
        """While it serves."""
        authority = self._authority
        inner = ssl.create_default_context(cafile=str(authority.certificate("ca")))
        inner.load_cert_chain(authority.certificate("admin"), authority.key("admin"))
        outer = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        outer.load_cert_chain(authority.certificate("apiserver"), authority.key("apiserver"))
        target = yaml.safe_load(self._cluster.kubeconfig.read_text())
        self._upstream = target["clusters"][0]["cluster"]["server"]
        connector = aiohttp.TCPConnector(ssl=inner, limit=0)
        application = web.Application(client_max_size=64 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=outer)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"https://127.0.0.1:{port}"
        async with aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None)
        ) as self._session:
            try:
                yield self
            finally:
                self._over.set()
                for task in self._late:
                    task.cancel()
                await asyncio.gather(*self._late, return_exceptions=True)
                await runner.cleanup()

    # ------------------------------------------------------------------------- one request

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        began = REAL.monotonic()
        status = 0
        try:
            answer = await self._answer(request)
            status = answer.status
            return answer
        finally:
            self.passed.append(Passed(began, request.method, request.path_qs, status))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return _refusal(401, "Unauthorized")
        fault = next((f for f in self.faults if f.matches(request)), None)
        if fault is None:
            return await self._pass(request, body, None)
        fault.times -= 1 if fault.times > 0 else 0
        fault.hits.append(REAL.monotonic())
        if fault.delay:
            await REAL.sleep(fault.delay)  # the fault is the delay
        if fault.late:
            self._pass_late(request, body, fault.late)
        if fault.lines is not None or (fault.delay and not (fault.status or fault.forward)):
            return await self._pass(request, body, fault.lines)
        if fault.forward:
            async with self._forward(request, body) as upstream:
                await upstream.read()
        if fault.hang:
            await self._over.wait()
        if fault.cut or fault.hang:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        if fault.page:
            return web.Response(status=fault.status, text="<html>", headers=fault.headers)
        return _refusal(fault.status, "made up by the fault proxy", fault.headers)

    def _forward(self, request: web.Request, body: bytes) -> Any:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _DROPPED}
        return self._session.request(
            request.method, self._upstream + request.path_qs, data=body or None, headers=headers
        )

    def _pass_late(self, request: web.Request, body: bytes, seconds: float) -> None:
        async def later() -> None:
            await REAL.sleep(seconds)  # the fault is the delay
            async with self._forward(request, body) as upstream:
                await upstream.read()

        self._late.add(asyncio.create_task(later()))

    async def _pass(
        self, request: web.Request, body: bytes, change: Callable[[Lines], Lines] | None
    ) -> web.StreamResponse:
        try:
            async with self._forward(request, body) as upstream:
                kind = {"Content-Type": upstream.headers.get("Content-Type", "")}
                if "watch=" not in request.query_string or upstream.status != 200:
                    content = await upstream.read()
                    return web.Response(status=upstream.status, body=content, headers=kind)
                response = web.StreamResponse(headers=kind)
                await response.prepare(request)
                lines = _lines(upstream)
                async with aclosing(change(lines) if change else lines) as changed:
                    async for line in changed:
                        await response.write(line + b"\n")
                return response
        except Cut:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        except aiohttp.ClientError as error:
            return web.Response(status=502, text=f"upstream: {error}")


class Cut(Exception):
    """Raised by a change of a watch's lines: break the connection here."""


async def _lines(upstream: aiohttp.ClientResponse) -> Lines:
    rest = b""
    async for chunk in upstream.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line


def _refusal(code: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    content = {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": message, "reason": _REASONS.get(code, "InternalError"), "metadata": {},
    }  # fmt: skip
    return web.Response(
        status=code, body=json.dumps(content).encode(), content_type="application/json",
        headers=headers,
    )  # fmt: skip
