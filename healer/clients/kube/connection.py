"""One keep-alive HTTP session to one API server; every call has a timeout and raises our errors.

The configuration is kubernetes_asyncio's. Its session is not used: that has no timeout, follows
redirects, and (`trust_env`) looks a user up in `~/.netrc` in a thread before every request.
"""

import contextlib
import ssl
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec
from kubernetes_asyncio.client import Configuration

from healer import __version__
from healer.clients.kube.access import Access, find_access
from healer.clients.kube.errors import Call, from_answer, from_transport, unreadable
from healer.errors import ConfigError
from healer.kernel.clock import Clock
from healer.kernel.running import current_run

USER_AGENT = f"healer/{__version__}"
FIELD_MANAGER = "healer"
TIMEOUT_SECONDS = 10.0
#: To have a connection, TLS included; always less than the whole call, so that running out of it
#: means that nothing was sent.
CONNECT_SECONDS = 3.0
#: One object is at most 1.5 MiB in etcd; a line of a watch longer than this is not Kubernetes.
LINE_BYTES = 32 * 2**20

_FAILURES = (aiohttp.ClientError, TimeoutError, OSError)


class Connection:
    """The session, our credential, and the default timeout."""

    def __init__(self, access: Access, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._access = access
        self._timeout = timeout_seconds
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=100, ssl=_tls(access.configuration), keepalive_timeout=60.0
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT},
            read_bufsize=2**18,
        )
        self._proxy = access.configuration.proxy or _proxy_from_environment(access.host)

    @classmethod
    async def open(
        cls,
        clock: Clock,
        *,
        kubeconfig: str = "",
        context: str = "",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Self:
        """A connection as `find_access` finds it. Raises ConfigError; sends nothing yet."""
        access = await find_access(clock, kubeconfig, context)
        return cls(access, timeout_seconds=timeout_seconds)

    @property
    def host(self) -> str:
        """Address of the API server."""
        return self._access.host

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        call: Call,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        """The body of a 2xx answer."""
        timeout = aiohttp.ClientTimeout(
            total=self._timeout, connect=min(CONNECT_SECONDS, self._timeout * 0.75)
        )
        headers = {"Accept": accept}
        if run := current_run():
            headers["User-Agent"] = f"{USER_AGENT} run/{run}"  # the audit log names the run
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = msgspec.json.encode(body)
        again = True
        while True:
            try:
                async with self._session.request(
                    method,
                    self.host + path,
                    params=query,
                    data=data,
                    headers=headers | await self._authorization(),
                    timeout=timeout,
                    **self._route(),
                ) as response:
                    content = await response.read()
            except _FAILURES as error:
                raise from_transport(call, error, self._timeout) from error
            if response.status < 300:
                return content
            # 401 comes before anything is done, so asking again with a new token is safe.
            if not (again and response.status == 401 and await self._access.credential.renew()):
                raise from_answer(call, response.status, response.headers, content)
            again = False

    @contextlib.asynccontextmanager
    async def lines(
        self, path: str, call: Call, *, query: Mapping[str, str], silence_seconds: float
    ) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """The lines of a long answer; TimedOut when it does not end within `silence_seconds`."""
        timeout = aiohttp.ClientTimeout(
            total=silence_seconds, connect=min(CONNECT_SECONDS, silence_seconds * 0.75)
        )
        try:
            response = await self._session.get(
                self.host + path,
                params=query,
                headers={"Accept": "application/json"} | await self._authorization(),
                timeout=timeout,
                **self._route(),
            )
        except _FAILURES as error:
            raise from_transport(call, error, silence_seconds) from error
        try:
            if response.status >= 300:
                content = await response.content.read(2**16)
                if response.status == 401:
                    await self._access.credential.renew()
                raise from_answer(call, response.status, response.headers, content)
            yield _split(response, call, silence_seconds)
        finally:
            response.close()

    async def _authorization(self) -> dict[str, str]:
        header = await self._access.credential.header()
        return {"Authorization": header} if header else {}

    def _route(self) -> dict[str, Any]:
        route: dict[str, Any] = {"allow_redirects": False}
        if self._proxy:
            route["proxy"] = self._proxy
        if self._access.configuration.tls_server_name:
            route["server_hostname"] = self._access.configuration.tls_server_name
        return route


async def _split(
    response: aiohttp.ClientResponse, call: Call, silence_seconds: float
) -> AsyncGenerator[bytes, None]:
    # aiohttp's own readline refuses lines longer than its buffer, and an object may be one.
    rest = bytearray()
    try:
        async for chunk in response.content.iter_any():
            seen = len(rest)
            rest += chunk
            if rest.find(b"\n", seen) < 0:
                if len(rest) > LINE_BYTES:
                    raise unreadable(call, ValueError(f"a line of more than {LINE_BYTES} bytes"))
                continue
            *whole, left = bytes(rest).split(b"\n")
            rest = bytearray(left)
            for line in whole:
                if line:
                    yield line
    except _FAILURES as error:
        raise from_transport(call, error, silence_seconds) from error


def _tls(configuration: Configuration) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file or None)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"the certificates for {configuration.host} cannot be used ({error}); correct the "
            "kubeconfig"
        ) from error
    if configuration.disable_strict_ssl_verification:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not configuration.verify_ssl:
        raise ConfigError(
            f"{configuration.host}: insecure-skip-tls-verify is refused, because whoever answers "
            "would get healer's credential; give certificate-authority in the kubeconfig"
        )
    return context


def _proxy_from_environment(host: str) -> str | None:
    address = urlsplit(host)
    if urllib.request.proxy_bypass(address.netloc):
        return None
    return urllib.request.getproxies().get(address.scheme)
