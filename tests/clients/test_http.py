"""Outgoing HTTP: what is sent, and everything that is not."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from healer.clients.http import BODY_LIMIT, AllowedHost, CheckedResolver, OutgoingHttp, forbidden
from healer.errors import ConfigError, Refused, TimedOut, Unreachable
from healer.kernel.clock import SystemClock


class Server:
    def __init__(self) -> None:
        self.port = 0
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.release = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append((request.method, request.path_qs, dict(request.headers), body))
        match request.path:
            case "/redirect":
                raise web.HTTPFound("/elsewhere", headers={"Set-Cookie": "a=b"})
            case "/big":
                response = web.StreamResponse()
                await response.prepare(request)
                with contextlib.suppress(ConnectionError):
                    while True:  # until the other side has heard enough
                        await response.write(b"x" * BODY_LIMIT)
                return response
            case "/hang":
                await self.release.wait()
            case "/cut":
                assert request.transport is not None
                request.transport.close()
            case "/missing":
                raise web.HTTPNotFound(text="no")
        return web.Response(text="ok", headers={"Set-Cookie": "c=d"})


@pytest.fixture
async def server(aiohttp_server: Any) -> AsyncIterator[Server]:
    made = Server()
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", made.handle)
    made.port = (await aiohttp_server(app)).port
    yield made
    made.release.set()


@pytest.fixture
async def http(server: Server) -> AsyncIterator[OutgoingHttp]:
    """Allowed: localhost as an internal host, over plain http."""
    made = OutgoingHttp([f"internal+http://localhost:{server.port}"], clock=SystemClock())
    yield made
    await made.close()


async def test_a_request_arrives_as_written(server: Server, http: OutgoingHttp) -> None:
    """Method, path, headers and body arrive, and status, body and duration come back."""
    url = f"http://localhost:{server.port}/a%2Fb?c=d%20e"
    answer = await http.request("POST", url, headers={"X-Key": "1"}, body=b"{}")
    assert (answer.status, answer.body) == (200, b"ok")
    assert 0 < answer.seconds < 5
    method, path, headers, body = server.seen[0]
    assert (method, path, headers["X-Key"], body) == ("POST", "/a%2Fb?c=d%20e", "1", b"{}")
    assert headers["Host"] == f"localhost:{server.port}"


async def test_a_large_body_arrives_whole(server: Server, http: OutgoingHttp) -> None:
    """A body of several megabytes is sent whole."""
    body = bytes(range(256)) * 4096 * 3
    await http.request("PUT", f"http://localhost:{server.port}/", body=body)
    assert server.seen[0][3] == body


async def test_a_status_is_an_answer(server: Server, http: OutgoingHttp) -> None:
    """A 404 is not an error of ours: the playbook says what it expects."""
    answer = await http.request("GET", f"http://localhost:{server.port}/missing")
    assert answer.status == 404


async def test_redirects_are_not_followed(server: Server, http: OutgoingHttp) -> None:
    """A redirect comes back as it is, and cookies are not kept."""
    answer = await http.request("GET", f"http://localhost:{server.port}/redirect")
    await http.request("GET", f"http://localhost:{server.port}/")
    assert answer.status == 302
    assert [seen[1] for seen in server.seen] == ["/redirect", "/"]
    assert "Cookie" not in server.seen[1][2]


async def test_a_large_answer_is_cut(server: Server, http: OutgoingHttp) -> None:
    """Of an answer that never ends only the first 64 KiB are read."""
    answer = await http.request("GET", f"http://localhost:{server.port}/big", timeout=5.0)
    assert len(answer.body) == BODY_LIMIT


async def test_a_hang_is_timed_out(server: Server, http: OutgoingHttp) -> None:
    """No answer in time leaves the outcome unknown."""
    with pytest.raises(TimedOut) as caught:
        await http.request("POST", f"http://localhost:{server.port}/hang", timeout=0.2)
    assert caught.value.may_have_happened


async def test_a_broken_connection_may_have_happened(server: Server, http: OutgoingHttp) -> None:
    """A connection that breaks after the request was sent leaves the outcome unknown, and the
    request is not sent a second time."""
    with pytest.raises(Unreachable) as caught:
        await http.request("POST", f"http://localhost:{server.port}/cut")
    assert caught.value.may_have_happened
    assert len(server.seen) == 1


async def test_nobody_there_cannot_have_happened(unused_tcp_port: int) -> None:
    """A refused connection means that nothing was sent."""
    http = OutgoingHttp([f"internal+http://localhost:{unused_tcp_port}"], clock=SystemClock())
    with pytest.raises(Unreachable) as caught:
        await http.request("POST", f"http://localhost:{unused_tcp_port}/")
    assert not caught.value.may_have_happened
    await http.close()


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost:{port}/",
        "http://localhost/",
        "http://other:{port}/",
        "http://localhost.evil.com:{port}/",
        "http://evil.com#@localhost:{port}/",
        "http://user:password@localhost:{port}/",
        "http://127.0.0.1:{port}/",
        "http://0x7f.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "file:///etc/passwd",
        "gopher://localhost:{port}/",
        "localhost:{port}",
        "",
        "http://localhost:99999/",
    ],
)
async def test_what_is_not_listed_is_refused(server: Server, http: OutgoingHttp, url: str) -> None:
    """Another scheme, host, port or spelling than the listed one is refused and nothing is sent."""
    with pytest.raises(Refused):
        await http.request("GET", url.replace("{port}", str(server.port)))
    assert server.seen == []


async def test_a_listed_name_is_not_an_internal_one(server: Server) -> None:
    """A host that is listed but not internal is refused once its address is a private one."""
    http = OutgoingHttp(
        [f"http://localhost:{server.port}", f"http://127.0.0.1:{server.port}"], clock=SystemClock()
    )
    for host in ("localhost", "127.0.0.1"):
        with pytest.raises(Refused, match="loopback"):
            await http.request("GET", f"http://{host}:{server.port}/")
    assert server.seen == []
    await http.close()


async def test_metadata_is_refused_even_if_internal() -> None:
    """No listing reaches the address where clouds hand out credentials."""
    http = OutgoingHttp(["internal+http://169.254.169.254"], clock=SystemClock())
    with pytest.raises(Refused, match="credentials"):
        await http.request("GET", "http://169.254.169.254/latest/meta-data/")
    await http.close()


async def test_one_bad_address_among_good_ones_is_refused() -> None:
    """A name with a public and a private address is refused as a whole."""
    with pytest.raises(OSError, match=r"10\.0\.0\.1"):
        CheckedResolver(set()).check("x.example", ["93.184.216.34", "10.0.0.1"])
    CheckedResolver({"x.example"}).check("X.example.", ["93.184.216.34", "10.0.0.1"])


async def test_the_checked_address_is_the_one_connected_to(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that changes its address after the check gains nothing: it is resolved only once."""
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    original = loop.getaddrinfo

    async def rebinding(host: str, *args: Any, **more: Any) -> Any:
        asked.append(host)
        return await original("127.0.0.1" if len(asked) == 1 else "127.0.0.2", *args, **more)

    monkeypatch.setattr(loop, "getaddrinfo", rebinding)
    url = f"http://rebind.example:{server.port}"
    http = OutgoingHttp([f"internal+{url}"], clock=SystemClock())
    answer = await http.request("GET", f"{url}/")
    assert answer.status == 200
    assert [host for host in asked if not host.startswith("127.")] == ["rebind.example"]
    await http.close()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.0.1",
        "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::",
        "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "::ffff:10.0.0.1", "::10.0.0.1",
        "64:ff9b::a00:1", "2002:a00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_forbidden(address: str) -> None:
    """Whatever is not one public host, in whichever spelling, is forbidden."""
    assert forbidden(ipaddress.ip_address(address), internal=False)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.0.0.1", True), ("127.0.0.1", True), ("::1", True), ("fd12::1", True),
        ("100.64.0.1", True), ("169.254.169.254", False), ("169.254.7.7", False),
        ("fe80::1", False), ("::ffff:169.254.169.254", False), ("fd00:ec2::254", False),
        ("224.0.0.1", False), ("0.0.0.0", False),
    ],
)  # fmt: skip
def test_internal_hosts_reach_private_addresses_only(address: str, allowed: bool) -> None:
    """Internal opens private networks and loopback, never link-local, metadata or multicast."""
    assert (not forbidden(ipaddress.ip_address(address), internal=True)) is allowed


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_allowed(address: str) -> None:
    """An ordinary public address is not forbidden."""
    assert forbidden(ipaddress.ip_address(address), internal=False) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("api.example.com", AllowedHost("https", "api.example.com", 443)),
        ("API.Example.com.", AllowedHost("https", "api.example.com", 443)),
        ("https://a.example:8443", AllowedHost("https", "a.example", 8443)),
        ("http://a.example/", AllowedHost("http", "a.example", 80)),
        ("internal+http://s.ns.svc:80", AllowedHost("http", "s.ns.svc", 80, True)),
        ("a.example:444", AllowedHost("https", "a.example", 444)),
        ("[fd00::1]:444", AllowedHost("https", "fd00::1", 444)),
    ],
)
def test_an_entry_is_scheme_host_and_port(text: str, expected: AllowedHost) -> None:
    """What an entry leaves out is https and its usual port."""
    assert AllowedHost.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "*", "*.example.com", "ftp://a.example", "https://a.example/path", "https://u@a.example",
     "https://a.example?x", "https://", "http://a:b:c", "https://a.example:99999"],
)  # fmt: skip
def test_an_entry_that_is_not_a_host_is_a_config_error(text: str) -> None:
    """Wildcards, paths, credentials and other schemes are refused when the list is read."""
    with pytest.raises(ConfigError, match=r"http\.allow"):
        AllowedHost.parse(text)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("CONNECT", {}), ("get", {}), ("GET / HTTP/1.1\r\nX: y\r\n", {}), ("GET", {"Host": "evil"}),
        ("GET", {"transfer-encoding": "chunked"}), ("GET", {"X": "a\r\nHost: evil"}),
        ("GET", {"X\r\nY": "a"}),
    ],
)  # fmt: skip
async def test_requests_cannot_be_smuggled(
    server: Server, http: OutgoingHttp, method: str, headers: dict[str, str]
) -> None:
    """Odd methods, headers of the connection and line breaks in headers are refused."""
    with pytest.raises(Refused):
        await http.request(method, f"http://localhost:{server.port}/", headers=headers)
    assert server.seen == []


async def test_proxies_of_the_environment_are_ignored(
    server: Server, http: OutgoingHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY does not change where a request goes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert (await http.request("GET", f"http://localhost:{server.port}/")).status == 200


async def test_an_unverified_certificate_is_not_talked_to(
    server: Server, unused_tcp_port: int
) -> None:
    """https to a server that cannot prove its name sends no request."""
    http = OutgoingHttp([f"internal+https://localhost:{server.port}"], clock=SystemClock(),
                        tls=ssl.create_default_context())  # fmt: skip
    with pytest.raises(Unreachable) as caught:
        await http.request("GET", f"https://localhost:{server.port}/")
    assert not caught.value.may_have_happened
    assert server.seen == []
    await http.close()
