"""The Kubernetes client against an API server that fails: the right error, in the right time."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes_asyncio.client import Configuration

from healer import __version__
from healer.clients.kube import KubeCluster
from healer.clients.kube.access import Access
from healer.clients.kube.connection import Connection
from healer.clients.kube.credentials import FixedCredential, TokenFileCredential
from healer.clients.kube.watching import SILENCE_SECONDS
from healer.domain.target import Kind, TargetRef
from healer.errors import (
    Conflict,
    HealerError,
    NotFound,
    Refused,
    ServerFailed,
    TemporaryError,
    Throttled,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from healer.kernel.clock import SystemClock
from healer.ports import PatchType, Permission, WatchEvent, WatchKind

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

POD = TargetRef(Kind.POD, "web-0", "shop", "u-1")
CONFIG = TargetRef(Kind.CONFIG_MAP, "flags", "shop", "u-2")


def status(code: int, message: str = "no", **more: Any) -> web.Response:
    """A Status object, as the API server answers with."""
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "message": message, **more}
    return web.json_response(body, status=code)


class Server:
    """A loopback API server that answers as the test says and keeps what it was asked."""

    def __init__(self, handler: Handler) -> None:
        self.requests: list[tuple[web.Request, str]] = []
        self._handler = handler
        self.leave = asyncio.Event()  #: ends handlers that hang

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request, await request.text()))
        return await self._handler(request)


def configuration(host: str) -> Any:
    made = Configuration()
    made.host = host
    return made


@asynccontextmanager
async def serving(
    handler: Handler,
    *,
    timeout_seconds: float = 5.0,
    silence_seconds: float = 5.0,
    credential: Any = None,
) -> AsyncIterator[tuple[KubeCluster, Server]]:
    """A client of a server that answers with `handler`."""
    server = Server(handler)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    async with TestServer(app) as running:
        access = Access(
            configuration(str(running.make_url("")).rstrip("/")), credential or FixedCredential()
        )
        connection = Connection(access, timeout_seconds=timeout_seconds)
        cluster = KubeCluster(connection, SystemClock(), silence_seconds=silence_seconds)
        try:
            yield cluster, server
        finally:
            server.leave.set()
            await cluster.close()


def always(*answers: web.Response | Callable[[], web.Response]) -> Handler:
    """Answers one after the other; the last one for ever."""
    left = list(answers)

    async def handler(request: web.Request) -> web.StreamResponse:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer() if callable(answer) else answer

    return handler


async def read(cluster: KubeCluster) -> Any:
    return await cluster.get(CONFIG)


async def write(cluster: KubeCluster) -> Any:
    return await cluster.patch(CONFIG, {"data": {"a": "b"}}, PatchType.MERGE)


async def dry(cluster: KubeCluster) -> Any:
    return await cluster.patch(CONFIG, {"data": {"a": "b"}}, PatchType.MERGE, dry_run=True)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (302, Refused), (400, Refused), (401, Unauthorized), (404, NotFound), (405, Refused),
        (409, Conflict), (410, TemporaryError), (415, Refused), (422, Refused), (429, Throttled),
        (500, ServerFailed), (502, ServerFailed), (503, ServerFailed), (504, ServerFailed),
    ],
)  # fmt: skip
async def test_each_status_has_its_error(code: int, error: type[HealerError]) -> None:
    """Every status maps to one error whose text names the call and what the server said."""
    async with serving(always(lambda: status(code, "because"))) as (cluster, _):
        with pytest.raises(error, match=r"patch configmaps shop/flags: HTTP .*because") as caught:
            await write(cluster)
    assert caught.type.__module__.startswith("healer.")


@pytest.mark.parametrize(
    ("answer", "may_have_happened"),
    [
        (lambda: status(500, "etcdserver: request timed out"), True),
        (lambda: status(500, 'failed calling webhook "a.b": timeout'), False),
        (lambda: status(503, "not ready"), False),
        (lambda: web.Response(status=503, text="upstream reset"), True),
        (lambda: web.Response(status=502, text="bad gateway"), True),
        (lambda: status(504, "request did not complete within allowed duration"), True),
        (lambda: web.Response(text="<html>welcome</html>"), True),
    ],
)
async def test_a_failed_write_says_whether_it_may_have_happened(
    answer: Callable[[], web.Response], *, may_have_happened: bool
) -> None:
    """A 5xx after which the write may be stored says so; for reads and dry runs none does."""
    async with serving(always(answer)) as (cluster, _):
        with pytest.raises(ServerFailed) as failed:
            await write(cluster)
        assert failed.value.may_have_happened is may_have_happened
        for harmless in (read, dry):
            with pytest.raises(ServerFailed) as failed:
                await harmless(cluster)
            assert not failed.value.may_have_happened


@pytest.mark.parametrize("from_header", [True, False])
async def test_throttling_says_when_to_come_back(*, from_header: bool) -> None:
    """The wait asked for by a 429 is kept, from the header or from the Status."""

    def answer() -> web.Response:
        if from_header:
            return web.Response(status=429, headers={"Retry-After": "7"}, text="slow down")
        return status(429, details={"retryAfterSeconds": 7})

    async with serving(always(answer)) as (cluster, _):
        with pytest.raises(Throttled) as caught:
            await write(cluster)
    assert caught.value.retry_after == 7.0
    assert not caught.value.may_have_happened


async def test_a_missing_right_is_not_a_refusal_by_admission() -> None:
    """403 by RBAC is Unauthorized and names verb and resource; 403 by a quota is Refused."""
    rbac = 'pods "web-0" is forbidden: User "healer" cannot patch resource "pods"'
    quota = 'pods "web-0" is forbidden: exceeded quota: small'
    handler = always(lambda: status(403, rbac), lambda: status(403, quota))
    async with serving(handler) as (cluster, _):
        with pytest.raises(Unauthorized, match="right to patch configmaps shop/flags"):
            await write(cluster)
        with pytest.raises(Refused, match="exceeded quota"):
            await write(cluster)


async def test_two_budgets_are_a_refusal_and_no_server_failure() -> None:
    """The API server's 500 for a pod with two PodDisruptionBudgets is Refused with the remedy."""
    pod = {"kind": "Pod", "metadata": {"name": "web-0", "namespace": "shop", "uid": "u-1"}}
    text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not"
    handler = always(lambda: web.json_response(pod), lambda: status(500, text))
    async with serving(handler) as (cluster, _):
        with pytest.raises(Refused, match="leave one PodDisruptionBudget"):
            await cluster.evict(POD)


async def test_no_answer_is_a_timeout_of_its_length() -> None:
    """A server that never answers costs the timeout and no more; only a write may have happened."""
    hung = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        await hung.wait()
        return web.Response()

    loop = asyncio.get_running_loop()
    async with serving(handler, timeout_seconds=0.3) as (cluster, _):
        for call, may in ((write, True), (read, False), (dry, False)):
            began = loop.time()
            with pytest.raises(TimedOut, match=r"within 0\.3 s") as caught:
                await call(cluster)
            assert 0.25 < loop.time() - began < 2.0
            assert caught.value.may_have_happened is may
        hung.set()


async def test_a_body_that_never_ends_is_a_timeout() -> None:
    """Headers at once and then a body that stalls cost no more than the timeout."""
    hung = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"kind":')
        await hung.wait()
        return response

    async with serving(handler, timeout_seconds=0.3) as (cluster, _):
        with pytest.raises(TimedOut):
            await write(cluster)
        hung.set()


async def test_a_refused_connection_left_nothing_behind() -> None:
    """When nobody listens the call is Unreachable and cannot have happened."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    access = Access(configuration(f"http://127.0.0.1:{port}"), FixedCredential())
    cluster = KubeCluster(Connection(access), SystemClock())
    with pytest.raises(Unreachable, match="patch configmaps shop/flags: no connection") as caught:
        await write(cluster)
    await cluster.close()
    assert not caught.value.may_have_happened


async def test_a_frozen_server_is_noticed_before_anything_is_sent() -> None:
    """A server that accepts but never shakes hands in TLS is Unreachable with nothing sent."""
    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        access = Access(
            configuration(f"https://127.0.0.1:{frozen.getsockname()[1]}"), FixedCredential()
        )
        cluster = KubeCluster(Connection(access, timeout_seconds=0.4), SystemClock())
        with pytest.raises(Unreachable) as caught:
            await write(cluster)
        await cluster.close()
    assert not caught.value.may_have_happened


@pytest.mark.parametrize("half", [b"", b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"kind":'])
async def test_a_connection_that_breaks_leaves_a_write_unknown(half: bytes) -> None:
    """A connection cut before or within the answer makes a write unknown and a read harmless."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(half)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    access = Access(configuration(f"http://127.0.0.1:{port}"), FixedCredential())
    cluster = KubeCluster(Connection(access), SystemClock())
    for call, may in ((write, True), (read, False)):
        with pytest.raises(Unreachable, match="broke before the answer came") as caught:
            await call(cluster)
        assert caught.value.may_have_happened is may
    await cluster.close()
    server.close()
    await server.wait_closed()


async def test_every_request_says_who_asks() -> None:
    """Requests carry our User-Agent; writes carry our field manager, dry runs say so."""
    async with serving(always(lambda: web.json_response({"metadata": {}}))) as (cluster, server):
        await write(cluster)
        await dry(cluster)
    (first, body), (second, _) = server.requests
    assert first.headers["User-Agent"] == f"healer/{__version__}"
    assert dict(first.query) == {"fieldManager": "healer"}
    assert dict(second.query) == {"fieldManager": "healer", "dryRun": "All"}
    assert json.loads(body) == {"data": {"a": "b"}, "metadata": {"uid": "u-2"}}


async def test_a_delete_names_its_incarnation_and_takes_dependants() -> None:
    """A delete carries the uid as a precondition and never orphans what the object owns."""
    async with serving(always(lambda: web.json_response({}))) as (cluster, server):
        await cluster.delete(POD, grace_seconds=5)
    ((request, body),) = server.requests
    assert request.method == "DELETE"
    assert json.loads(body) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "u-1"},
        "propagationPolicy": "Background",
        "gracePeriodSeconds": 5,
    }


async def test_no_redirect_is_followed_with_our_token() -> None:
    """A redirect is refused, so neither a write nor the token goes anywhere else."""

    async def handler(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with serving(handler, credential=FixedCredential("Bearer t")) as (cluster, server):
        with pytest.raises(Refused, match="307"):
            await write(cluster)
    assert [request.path for request, _ in server.requests] == [
        "/api/v1/namespaces/shop/configmaps/flags"
    ]


async def test_netrc_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.netrc` entry for the API server neither breaks a call nor is sent to it."""
    secrets = tmp_path / "netrc"
    secrets.write_text("machine 127.0.0.1 login someone password else\n")
    secrets.chmod(0o600)
    monkeypatch.setenv("NETRC", str(secrets))
    handler = always(lambda: web.json_response({}))
    async with serving(handler, credential=FixedCredential("Bearer t")) as (cluster, server):
        await read(cluster)
    assert server.requests[0][0].headers["Authorization"] == "Bearer t"


async def test_a_rotated_token_is_read_again(tmp_path: Path) -> None:
    """A token file that changes is used at once, and a 401 in between is asked again with it."""
    token = tmp_path / "token"
    token.write_text("old\n")

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] == "Bearer old" and len(server.requests) == 2:
            token.write_text("newer\n")  # rotated while this request was under way
            return status(401)
        return web.json_response({})

    credential = TokenFileCredential(token)
    async with serving(handler, credential=credential) as (cluster, server):
        await write(cluster)
        await write(cluster)
        token.write_text("the newest\n")
        await write(cluster)
    sent = [request.headers["Authorization"] for request, _ in server.requests]
    assert sent == ["Bearer old", "Bearer old", "Bearer newer", "Bearer the newest"]


async def test_an_unchanged_token_is_not_tried_twice(tmp_path: Path) -> None:
    """A 401 with a token that did not change is Unauthorized after one request."""
    token = tmp_path / "token"
    token.write_text("old")
    credential = TokenFileCredential(token)
    async with serving(always(lambda: status(401)), credential=credential) as (cluster, server):
        with pytest.raises(Unauthorized, match="credential"):
            await write(cluster)
    assert len(server.requests) == 1


async def test_rights_are_asked_once_a_minute() -> None:
    """The answer about a right is kept, and a missing one is named with its place."""
    review = {"status": {"allowed": False, "reason": "no rule"}}
    async with serving(always(lambda: web.json_response(review))) as (cluster, server):
        right = Permission("patch", "deployments", "apps", "scale")
        for _ in range(3):
            missing = await cluster.missing_right(right, "shop")
            assert missing == "patch deployments/scale.apps in namespace shop (no rule)"
        await cluster.missing_right(right, "other")
    assert len(server.requests) == 2
    assert json.loads(server.requests[0][1])["spec"]["resourceAttributes"] == {
        "verb": "patch", "group": "apps", "resource": "deployments", "subresource": "scale",
        "namespace": "shop",
    }  # fmt: skip


async def test_a_long_list_comes_in_pages() -> None:
    """A list follows its continue tokens, and one that expires half-way is begun again."""
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        token = request.query.get("continue", "")
        asked.append(token)
        assert request.query["limit"] == "500"
        if asked == ["", "two"]:
            return status(410, "The provided continue parameter is too old")
        names = {"": "a", "two": "b"}
        item = {"metadata": {"name": names[token], "namespace": "shop"}}
        more = {"continue": "two"} if not token else {}
        return web.json_response({"items": [item], "metadata": {"resourceVersion": "9", **more}})

    async with serving(handler) as (cluster, _):
        found = await cluster.list(Kind.CONFIG_MAP, "shop")
    assert [value["metadata"]["name"] for value in found] == ["a", "b"]
    assert asked == ["", "two", "", "two"]


# ------------------------------------------------------------------------------------ watches


class Stream:
    """One watch connection of the server's, written to by the test."""

    def __init__(self, response: web.StreamResponse, query: dict[str, str]) -> None:
        self.response = response
        self.query = query
        self.end = asyncio.Event()

    async def event(self, kind: str, version: int, name: str = "a", **more: Any) -> None:
        head = {"name": name, "namespace": "shop", "resourceVersion": str(version), **more}
        line = json.dumps({"type": kind, "object": {"kind": "ConfigMap", "metadata": head}})
        await self.response.write(line.encode() + b"\n")


class Watched:
    """A server of one ConfigMap `a` whose watches are scripted."""

    def __init__(self) -> None:
        self.lists = 0
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.refuse: list[web.Response] = []

    async def handler(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            self.lists += 1
            item = {"metadata": {"name": "a", "namespace": "shop", "resourceVersion": "10"}}
            return web.json_response({"items": [item], "metadata": {"resourceVersion": "10"}})
        if self.refuse:
            return self.refuse.pop(0)
        response = web.StreamResponse()
        await response.prepare(request)
        stream = Stream(response, dict(request.query))
        self.streams.put_nowait(stream)
        await stream.end.wait()
        return response


@asynccontextmanager
async def watching(
    watched: Watched, *, silence_seconds: float = 5.0
) -> AsyncIterator[Callable[[], Awaitable[WatchEvent]]]:
    """The next event of a watch of ConfigMaps, as a function."""
    async with serving(watched.handler, silence_seconds=silence_seconds) as (cluster, _):
        async with aclosing(cluster.watch(Kind.CONFIG_MAP, "shop")) as events:

            async def following() -> WatchEvent:
                async with asyncio.timeout(10):
                    return await anext(events)

            assert (await following()).kind is WatchKind.ADDED
            assert (await following()).kind is WatchKind.SYNCED
            yield following
        while not watched.streams.empty():
            watched.streams.get_nowait().end.set()


async def test_a_watch_asks_for_bookmarks_and_an_end() -> None:
    """A watch goes on from the list's version, with bookmarks and a limit it asks for itself, which
    ends it before we would."""
    watched = Watched()
    async with watching(watched, silence_seconds=SILENCE_SECONDS) as following:
        event = asyncio.create_task(following())
        stream = await watched.streams.get()
        await stream.event("BOOKMARK", 11)
        assert (await event).kind is WatchKind.BOOKMARK
        stream.end.set()
    assert stream.query["resourceVersion"] == "10"
    assert stream.query["allowWatchBookmarks"] == "true"
    assert 38 <= int(stream.query["timeoutSeconds"]) < SILENCE_SECONDS - 5 < 60


async def test_a_cut_watch_goes_on_where_it_was() -> None:
    """After a disconnect the watch resumes from the last version it saw, without a new list."""
    watched = Watched()
    async with watching(watched) as following:
        event = asyncio.create_task(following())
        first = await watched.streams.get()
        await first.event("MODIFIED", 15)
        assert (await event).object["metadata"]["resourceVersion"] == "15"
        event = asyncio.create_task(following())
        assert first.response._req is not None
        transport = first.response._req.transport
        assert transport is not None
        transport.abort()
        first.end.set()
        second = await watched.streams.get()
        await second.event("DELETED", 16)
        assert (await event).kind is WatchKind.DELETED
        second.end.set()
    assert second.query["resourceVersion"] == "15"
    assert watched.lists == 1


@pytest.mark.parametrize("how", ["event", "status"])
async def test_a_forgotten_version_is_listed_anew(how: str) -> None:
    """410, as an event or as the answer to the watch, makes it list again and say SYNCED."""
    watched = Watched()
    if how == "status":
        watched.refuse = [status(410, "too old resource version")]
    async with watching(watched) as following:
        event = asyncio.create_task(following())
        if how == "event":
            stream = await watched.streams.get()
            gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
            line = json.dumps({"type": "ERROR", "object": gone}).encode()
            await stream.response.write(line + b"\n")
            stream.end.set()
        assert (await event).kind is WatchKind.ADDED
        assert (await following()).kind is WatchKind.SYNCED
    assert watched.lists == 2


async def test_a_silent_watch_is_listed_anew() -> None:
    """A stream that stays open and says nothing is given up after the silence and listed anew."""
    watched = Watched()
    loop = asyncio.get_running_loop()
    async with watching(watched, silence_seconds=0.3) as following:
        began = loop.time()
        assert (await following()).kind is WatchKind.ADDED
        assert 0.25 < loop.time() - began < 3.0
        assert (await following()).kind is WatchKind.SYNCED
    assert watched.lists == 2


async def test_a_stream_that_talks_on_is_listed_anew() -> None:
    """Bookmarks alone do not keep a stream alive for ever: it is left in time, and listed anew."""
    watched = Watched()
    loop = asyncio.get_running_loop()
    async with watching(watched, silence_seconds=0.6) as following:
        began = loop.time()

        async def synced() -> None:
            while (await following()).kind is not WatchKind.SYNCED:
                continue

        async def talk() -> None:
            stream = await watched.streams.get()
            version = 11
            with contextlib.suppress(ConnectionError):
                while watched.lists < 2:
                    await stream.event("BOOKMARK", version)
                    version += 1
                    await SystemClock().sleep(0.02)
            stream.end.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(talk())
            await synced()
        assert watched.lists == 2
        assert 0.5 < loop.time() - began < 5.0


async def test_a_list_follows_a_watch_that_ended_well() -> None:
    """After a watch that the server ended in its time all is listed again, for what was lost."""
    watched = Watched()
    async with watching(watched, silence_seconds=0.5) as following:
        event = asyncio.create_task(following())
        stream = await watched.streams.get()
        await SystemClock().sleep(0.35)
        stream.end.set()
        assert (await event).kind is WatchKind.ADDED
        assert (await following()).kind is WatchKind.SYNCED
    assert watched.lists == 2


async def test_a_failing_server_does_not_end_a_watch() -> None:
    """429, 500 and a proxy's page are waited out, without a new list and without an error."""
    watched = Watched()
    watched.refuse = [status(429), status(500), web.Response(status=502, text="bad gateway")]
    async with watching(watched) as following:
        event = asyncio.create_task(following())
        stream = await watched.streams.get()
        await stream.event("MODIFIED", 20)
        assert (await event).kind is WatchKind.MODIFIED
        stream.end.set()
    assert watched.lists == 1
    assert watched.refuse == []


async def test_a_watch_without_the_right_says_so() -> None:
    """A 403 by RBAC comes out of the watch as Unauthorized."""
    forbidden = 'configmaps is forbidden: User "healer" cannot list resource "configmaps"'
    async with (
        serving(always(lambda: status(403, forbidden))) as (cluster, _),
        aclosing(cluster.watch(Kind.CONFIG_MAP)) as events,
    ):
        with pytest.raises(Unauthorized, match="list configmaps"):
            await anext(events)


async def test_a_large_object_fits_through_a_watch() -> None:
    """An event of several megabytes, larger than any buffer on the way, arrives whole."""
    watched = Watched()
    async with watching(watched) as following:
        event = asyncio.create_task(following())
        stream = await watched.streams.get()
        await stream.event("MODIFIED", 21, annotations={"big": "x" * 3_000_000})
        assert len((await event).object["metadata"]["annotations"]["big"]) == 3_000_000
        stream.end.set()


async def test_events_may_be_cut_anywhere() -> None:
    """Events that arrive in pieces, or several in one piece, come out whole and in order."""
    watched = Watched()
    async with watching(watched) as following:
        event = asyncio.create_task(following())
        stream = await watched.streams.get()
        lines = b"".join(
            json.dumps(
                {"type": "MODIFIED", "object": {"metadata": {"resourceVersion": str(version)}}}
            ).encode()
            + b"\n"
            for version in (31, 32)
        )
        await stream.response.write(lines[:100])
        assert (await event).object["metadata"]["resourceVersion"] == "31"
        await stream.response.write(lines[100:])
        assert (await following()).object["metadata"]["resourceVersion"] == "32"
        stream.end.set()
