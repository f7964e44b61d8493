"""Outgoing HTTP for playbooks: to listed hosts only, at addresses that were checked.

The address a connection goes to is the very one that was checked: name and address cannot be
swapped in between (DNS rebinding).
"""

import asyncio
import io
import ipaddress
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from healer.clients.outgoing import LARGE
from healer.errors import ConfigError, HealerError, Refused, TimedOut, Unreachable
from healer.kernel.clock import Clock
from healer.ports import HttpAnswer

BODY_LIMIT = 64 * 1024
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
#: Headers that belong to the connection and not to the playbook.
OWN_HEADERS = frozenset(
    {
        "host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade",
        "expect", "keep-alive", "proxy-authorization", "proxy-connection", "forwarded",
    }
)  # fmt: skip
#: Where clouds hand out credentials: refused for internal hosts too.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd00:ec2::23",
    )
)
#: IPv6 networks whose last 32 bits are an IPv4 address: NAT64, its local form, and SIIT.
_EMBEDDED = tuple(
    ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96")
)
#: Not for the public, though Python does not say so: site-local, 6to4 relays, protocol numbers.
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("fec0::/10", "64:ff9b:1::/48", "192.88.99.0/24", "192.0.0.0/24", "5f00::/16")
)
_PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """One entry of the allow-list: scheme, host and port, exactly."""

    scheme: str
    host: str
    port: int
    internal: bool = False  #: may have an address inside our own network

    @classmethod
    def parse(cls, text: str) -> "AllowedHost":
        """`api.example.com`, `https://api.example.com:8443`, `internal+http://svc.ns:8080`.

        A bare name is https. Plain http must be written out, and so must `internal`. Raises
        ConfigError for anything else: wildcards, paths and credentials are not allowed.
        """
        rest = text.removeprefix("internal+")
        scheme, separator, place = rest.partition("://")
        if not separator:
            scheme, place = "https", rest
        try:
            url = URL(f"{scheme}://{place}")
            port = url.port
        except ValueError as error:
            raise ConfigError(f"http.allow: {text!r} is not a host: {error}") from error
        bare = url.host and not url.user and not url.query_string and not url.fragment
        if scheme not in _PORTS or not bare or url.raw_path not in {"", "/"} or "*" in place:
            raise ConfigError(
                f"http.allow: {text!r} is not a host; write api.example.com, "
                "https://api.example.com:8443 or internal+http://service.namespace.svc:8080"
            )
        host = (url.raw_host or "").lower().rstrip(".")
        return cls(scheme, host, port or _PORTS[scheme], rest != text)


def forbidden(address: Address, *, internal: bool) -> str:
    """Why nothing is sent to `address`; empty when it may be. IPv4 inside IPv6 is looked at too."""
    for inner in _inner(address):
        why = forbidden(inner, internal=internal)
        if why:
            return why
    if address in METADATA:
        return "hands out cloud credentials"
    if address.is_link_local:
        return "is link-local"
    if address.is_multicast or address.is_unspecified:
        return "is not one host"
    special = any(address in network for network in _PRIVATE if network.version == address.version)
    if (address.is_global and not special) or internal:
        return ""
    return "is loopback" if address.is_loopback else "is inside a private network"


def _inner(address: Address) -> list[Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour]
    if address.teredo:
        found.extend(address.teredo)
    embedded = any(address in network for network in _EMBEDDED)
    if embedded or (int(address) >> 32 == 0 and int(address) > 1):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [inner for inner in found if inner is not None]


class _Forbidden(OSError):
    """A name has an address that nothing is sent to."""


class CheckedResolver(AbstractResolver):
    """Resolves names, and refuses a name if any of its addresses is forbidden."""

    def __init__(self, internal: Collection[str]) -> None:
        """`internal` are the host names that may have addresses inside our own network."""
        self._internal = internal

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host`, every one of them checked. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        self.check(host, (str(place[0]) for *_, place in found))
        return [
            ResolveResult(
                hostname=host,
                host=str(place[0]),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, proto, _, place in found
        ]

    def check(self, host: str, addresses: Iterable[str]) -> None:
        """Raises OSError naming the first address that is forbidden for `host`."""
        internal = host.lower().rstrip(".") in self._internal
        for text in addresses:
            why = forbidden(ipaddress.ip_address(text.partition("%")[0]), internal=internal)
            if why:
                raise _Forbidden(f"{host} is {text}, which {why}")

    async def close(self) -> None:
        """Nothing is held."""


class OutgoingHttp:
    """`healer.ports.Http`: no redirects, no cookies, no proxy, no netrc, answers cut at 64 KiB."""

    def __init__(
        self, allow: Sequence[str | AllowedHost], *, clock: Clock, tls: Any = True
    ) -> None:
        """`allow` as `AllowedHost.parse` reads it; `tls` is an SSLContext instead of the system's.

        Raises ConfigError for an entry that is not a host.
        """
        entries = [AllowedHost.parse(one) if isinstance(one, str) else one for one in allow]
        self._allowed = {(one.scheme, one.host, one.port) for one in entries}
        self._resolver = CheckedResolver({one.host for one in entries if one.internal})
        self._clock = clock
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout: float = 10.0,  # noqa: ASYNC109 - handed to aiohttp, which enforces it
    ) -> HttpAnswer:
        """One request, whatever status comes back. Raises Refused for a host that is not allowed,
        Unreachable or TimedOut."""
        target = self._checked(method, url, headers or {})
        limits = aiohttp.ClientTimeout(total=timeout, connect=min(5.0, timeout))
        started = self._clock.monotonic()
        try:
            async with self._opened().request(
                method,
                target,
                headers=headers,
                data=io.BytesIO(body) if len(body) > LARGE else body or None,
                timeout=limits,
                allow_redirects=False,
            ) as response:
                content = await _beginning(response)
                return HttpAnswer(response.status, content, self._clock.monotonic() - started)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _named(error, target, timeout) from error

    def _checked(self, method: str, url: str, headers: Mapping[str, str]) -> URL:
        if method not in METHODS:
            raise Refused(f"http: {method[:20]!r} is no method; use {', '.join(sorted(METHODS))}")
        try:
            target = URL(url)
            host, port = (target.raw_host or "").lower().rstrip("."), target.port
        except ValueError as error:
            raise Refused(f"http: {url[:200]!r} is not a URL: {error}") from error
        if target.user or target.password:
            raise Refused("http: a URL holds no credentials; send an Authorization header")
        if (target.scheme, host, port) not in self._allowed:
            raise Refused(
                f"http: {target.scheme}://{host}:{port} is not allowed; list it in http.allow"
            )
        for name in headers:
            if name.lower() in OWN_HEADERS:
                raise Refused(f"http: the header {name[:40]} belongs to the connection; remove it")
        try:
            literal = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return target  # a name: checked when it is resolved
        try:
            self._resolver.check(host, [str(literal)])
        except _Forbidden as error:
            raise Refused(f"http: {error}; nothing was sent") from error
        return target

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,
                force_close=True,
                limit=32,
                ssl=self._tls,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "healer"},
            )
        return self._session

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The body, cut at the limit; what follows is never read."""
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) >= BODY_LIMIT:
            response.close()
            break
    return bytes(content[:BODY_LIMIT])


def _named(error: Exception, target: URL, seconds: float) -> HealerError:
    """`error` as one of ours, with `may_have_happened` right."""
    place = f"{target.scheme}://{target.host}:{target.port}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _Forbidden):
            return Refused(f"http: {cause}; nothing was sent")
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Unreachable(f"http: no connection to {place} in time", sent=False)
    if isinstance(error, TimeoutError):
        return TimedOut(f"http: no answer from {place} within {seconds:g} s")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unreachable(f"http: no connection to {place}: {error}", sent=False)
    if isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError):
        return Refused(f"http: the request cannot be written: {error}")
    return Unreachable(
        f"http: the connection to {place} broke: {str(error) or type(error).__name__}"
    )
