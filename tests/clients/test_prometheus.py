"""The Prometheus client against a local server that answers as Prometheus does when it fails."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from healer.clients.outgoing import OFF_LOOP_BYTES, Access, parsed
from healer.clients.prometheus import Prometheus
from healer.errors import (
    Blind,
    ConfigError,
    Refused,
    Throttled,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from healer.kernel.clock import SystemClock
from healer.kernel.ids import label_fingerprint
from healer.testing.clock import START, FakeClock

CLOCK = SystemClock()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers what `answer` says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.queries: list[str] = []
        self.headers: list[Any] = []
        self.paths: list[str] = []
        self.answer: Callable[[str], Any] = lambda expr: vector()
        self.handler: Handler | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        self.headers.append(request.headers)
        if request.path == "/api/v1/query":
            self.queries.append(str((await request.post())["query"]))
        if self.handler is not None:
            return await self.handler(request)
        found = self.answer(self.queries[-1] if self.queries else "")
        return found if isinstance(found, web.StreamResponse) else web.json_response(found)


def vector(*rows: tuple[dict[str, str], str], at: float = START, **more: Any) -> dict[str, Any]:
    result = [{"metric": labels, "value": [at, value]} for labels, value in rows]
    return {"status": "success", "data": {"resultType": "vector", "result": result}, **more}


def fault(status: int, kind: str, words: str) -> web.Response:
    body = {"status": "error", "errorType": kind, "error": words}
    return web.json_response(body, status=status)


def parts_of(expr: str) -> dict[str, str]:
    """Mark → expression of a joined query, by looking for its pieces."""
    pieces = expr.split("label_replace((\n")[1:]
    found = {}
    for piece in pieces:
        inner, _, rest = piece.partition('\n),"__healer_q__","')
        found[rest.partition('"')[0]] = inner
    return found


def joined_vector(expr: str, value: Callable[[str], str | None]) -> dict[str, Any]:
    """What Prometheus answers to a joined query when `value` is the value of each part."""
    rows = []
    for mark, inner in parts_of(expr).items():
        text = value(inner)
        if text is not None:
            rows.append(({"__healer_q__": mark, "q": inner}, text))
    return vector(*rows)


@pytest.fixture
async def server(aiohttp_server: Any) -> Server:
    """The server, listening on loopback."""
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    made.url = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    return made


@pytest.fixture
async def client(server: Server) -> Any:
    """The client, its clock standing at START."""
    made = Prometheus(server.url, clock=FakeClock(), timeout=2.0)
    yield made
    await made.close()


async def test_a_vector_is_samples(server: Server, client: Prometheus) -> None:
    """Labels, value and evaluation time of each series arrive unchanged."""
    server.answer = lambda _: vector(({"pod": "a"}, "1.5"), ({"pod": "b"}, "-2e3"))
    found = await client.query("x")
    assert [(s.labels, s.value, s.at) for s in found] == [
        ({"pod": "a"}, 1.5, START),
        ({"pod": "b"}, -2000.0, START),
    ]
    assert server.queries == ["x"]


async def test_an_empty_vector_is_an_answer(client: Prometheus) -> None:
    """Nothing found is the empty list and no error."""
    assert await client.query("absent_metric") == []


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "nan", "many", ""])
async def test_what_is_no_number_is_blind(server: Server, client: Prometheus, value: str) -> None:
    """NaN, infinities and garbage raise Blind naming the series."""
    server.answer = lambda _: vector(({"pod": "a"}, "1"), ({"pod": "b"}, value))
    with pytest.raises(Blind, match='pod="b"'):
        await client.query("x")


@pytest.mark.parametrize("skew", [-301.0, 301.0, -86400.0, float("inf")])
async def test_an_old_or_future_answer_is_blind(
    server: Server, client: Prometheus, skew: float
) -> None:
    """An evaluation more than five minutes from our clock is not believed, in either direction."""
    at = START + skew
    text = json.dumps(vector(({}, "1"), at=at)).replace("Infinity", "1e999")
    server.answer = lambda _: web.Response(text=text, content_type="application/json")
    with pytest.raises(Blind):
        await client.query("x")


async def test_a_little_skew_is_believed(server: Server, client: Prometheus) -> None:
    """Clocks a few seconds apart are normal."""
    server.answer = lambda _: vector(({}, "1"), at=START - 299)
    assert len(await client.query("x")) == 1


async def test_the_same_series_twice_is_blind(server: Server, client: Prometheus) -> None:
    """One series with two values is a contradiction."""
    server.answer = lambda _: vector(({"a": "1", "b": "2"}, "1"), ({"b": "2", "a": "1"}, "1"))
    with pytest.raises(Blind, match="twice"):
        await client.query("x")


async def test_a_partial_answer_is_blind(server: Server, client: Prometheus) -> None:
    """Warnings mean that something is missing."""
    server.answer = lambda _: vector(({}, "1"), warnings=["store gateway 2 is unavailable"])
    with pytest.raises(Blind, match="store gateway 2"):
        await client.query("x")


async def test_infos_are_ignored(server: Server, client: Prometheus) -> None:
    """Infos are hints to the author of a query and change nothing."""
    server.answer = lambda _: vector(
        ({}, "1"), infos=["PromQL info: metric might not be a counter"]
    )
    assert (await client.query("x"))[0].value == 1.0


@pytest.mark.parametrize("kind", ["matrix", "string"])
async def test_other_result_types_are_refused(
    server: Server, client: Prometheus, kind: str
) -> None:
    """A range vector or a string is refused with what to do about it."""
    server.answer = lambda _: {"status": "success", "data": {"resultType": kind, "result": []}}
    with pytest.raises(Refused, match=f"gives a {kind}"):
        await client.query("x[5m]")


async def test_a_native_histogram_is_refused(server: Server, client: Prometheus) -> None:
    """A histogram is not a number, and the error names a function that makes one of it."""
    result = [{"metric": {"a": "b"}, "histogram": [START, {"count": "1", "sum": "2"}]}]
    server.answer = lambda _: {
        "status": "success", "data": {"resultType": "vector", "result": result},
    }  # fmt: skip
    with pytest.raises(Refused, match="histogram_quantile"):
        await client.query("x")


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "bad_data", Refused),
        (422, "execution", Refused),
        (404, "", Refused),
        (301, "", Refused),
        (401, "", Unauthorized),
        (403, "", Unauthorized),
        (429, "", Throttled),
        (503, "timeout", TimedOut),
        (503, "canceled", TimedOut),
        (500, "internal", Unreachable),
        (502, "", Unreachable),
        (503, "unavailable", Unreachable),
    ],
)
async def test_each_status_is_its_error(
    server: Server, client: Prometheus, status: int, kind: str, expected: type[Exception]
) -> None:
    """Every refusal becomes the one error of ours that says what its caller may do."""
    server.answer = lambda _: fault(status, kind, "its own words")
    with pytest.raises(expected, match="own words" if status != 404 else "base URL") as caught:
        await client.query("x")
    assert type(caught.value) is expected


async def test_retry_after_is_passed_on(server: Server, client: Prometheus) -> None:
    """When Prometheus says when to come back, the error carries it."""
    server.answer = lambda _: web.Response(status=429, headers={"Retry-After": "7"})
    with pytest.raises(Throttled) as caught:
        await client.query("x")
    assert caught.value.retry_after == 7.0


async def test_nobody_there_is_unreachable(unused_tcp_port: int) -> None:
    """A refused connection means that nothing was sent."""
    client = Prometheus(f"http://127.0.0.1:{unused_tcp_port}", clock=FakeClock())
    with pytest.raises(Unreachable) as caught:
        await client.query("x")
    assert not caught.value.may_have_happened
    with pytest.raises(Unreachable):
        await client.ready()
    await client.close()


async def test_a_hang_is_timed_out(server: Server) -> None:
    """A server that never answers is left after the timeout."""
    released = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    server.handler = hang
    client = Prometheus(server.url, clock=SystemClock(), timeout=0.2)
    started = CLOCK.monotonic()
    with pytest.raises(TimedOut, match=r"within 0\.2 s"):
        await client.query("x")
    many = await client.query_many(["a", "b", "c"])
    assert {type(answer) for answer in many.values()} == {TimedOut}
    assert CLOCK.monotonic() - started < 2.0
    released.set()
    await client.close()


async def test_a_drip_is_timed_out(server: Server) -> None:
    """A server that sends a byte now and then is left after the timeout too."""
    released = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        await released.wait()
        return response

    server.handler = drip
    client = Prometheus(server.url, clock=FakeClock(), timeout=0.2)
    with pytest.raises(TimedOut):
        await client.query("x")
    released.set()
    await client.close()


async def test_a_broken_answer_is_unreachable(server: Server, client: Prometheus) -> None:
    """A connection that breaks in the middle of the answer is an error and no half answer."""

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"status":"success"')
        assert request.transport is not None
        request.transport.close()
        return response

    server.handler = cut
    with pytest.raises(Unreachable):
        await client.query("x")


async def test_a_huge_answer_is_blind(server: Server) -> None:
    """An answer above the limit is left unread, whatever its length claims."""
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        chunk = b" " * 65536
        for _ in range(1600):
            await response.write(chunk)
            sent += len(chunk)
        return response

    server.handler = flood
    client = Prometheus(server.url, clock=FakeClock(), timeout=10.0, body_limit=1 << 20)
    with pytest.raises(Blind, match="1024 KiB"):
        await client.query("x")
    assert sent < 50 << 20
    await client.close()


async def test_only_large_bodies_are_parsed_in_a_thread() -> None:
    """Above 256 KiB parsing leaves the event loop's thread, below it does not."""
    here = threading.get_ident()
    assert await parsed(b"x" * OFF_LOOP_BYTES, lambda _: threading.get_ident()) == here
    assert await parsed(b"x" * (OFF_LOOP_BYTES + 1), lambda _: threading.get_ident()) != here


async def test_fifty_megabytes_do_not_stop_the_loop(server: Server) -> None:
    """A 50 MB answer is parsed while the event loop goes on serving others."""
    rows = [({"pod": f"pod-{i}", "pad": "x" * 450}, "1") for i in range(100_000)]
    body = json.dumps(vector(*rows)).encode()
    del rows
    assert len(body) > 50_000_000
    server.answer = lambda _: web.Response(body=body, content_type="application/json")
    client = Prometheus(server.url, clock=FakeClock(), timeout=30.0, body_limit=64 << 20)
    longest = 0.0
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        last = CLOCK.monotonic()
        while not done.is_set():
            await CLOCK.sleep(0.005)
            now = CLOCK.monotonic()
            longest = max(longest, now - last)
            last = now

    watching = asyncio.create_task(watch())
    found = await client.query("x")
    done.set()
    await watching
    assert len(found) == 100_000
    assert longest < 1.0
    await client.close()


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"status":"success","data":3}',
                                  b"[" * 100_000, b'{"status":"success"}'])  # fmt: skip
async def test_what_is_not_an_answer_is_an_error(
    server: Server, client: Prometheus, body: bytes
) -> None:
    """A 200 with anything but Prometheus' JSON is never an empty vector."""
    server.answer = lambda _: web.Response(body=body)
    with pytest.raises((Blind, Refused)):
        await client.query("x")


async def test_many_queries_are_one_request(server: Server, client: Prometheus) -> None:
    """Sixty-four expressions go in one request and each gets its own series, unmarked."""
    server.answer = lambda expr: joined_vector(expr, lambda inner: inner[1:])
    exprs = [f"m{i}" for i in range(64)]
    found = await client.query_many([*exprs, "m3"])
    assert len(server.queries) == 1
    for i, expr in enumerate(exprs):
        answer = found[expr]
        assert not isinstance(answer, Exception)
        assert [(s.labels, s.value) for s in answer] == [({"q": expr}, float(i))]


async def test_a_part_without_series_is_empty(server: Server, client: Prometheus) -> None:
    """An expression that found nothing beside others is an empty answer."""
    server.answer = lambda expr: joined_vector(expr, lambda e: None if e == "b" else "1")
    found = await client.query_many(["a", "b"])
    assert found["b"] == []


async def test_nan_blinds_only_its_own_query(server: Server, client: Prometheus) -> None:
    """NaN in one part of a joined answer blinds that part alone, without another request."""
    server.answer = lambda expr: joined_vector(expr, lambda e: "NaN" if e == "b" else "1")
    found = await client.query_many(["a", "b", "c"])
    assert isinstance(found["b"], Blind)
    assert all(not isinstance(found[e], Exception) for e in ("a", "c"))
    assert len(server.queries) == 1


async def test_a_bad_query_fails_alone_and_is_asked_alone_from_then_on(
    server: Server, client: Prometheus
) -> None:
    """The culprit of a refused joint query is found by halving, and next time stands apart."""

    def answer(expr: str) -> Any:
        if "bad" in expr:
            return fault(400, "bad_data", "parse error: bad")
        if "label_replace" in expr:
            return joined_vector(expr, lambda _: "1")
        return vector(({"q": expr}, "1"))

    server.answer = answer
    exprs = [f"m{i}" for i in range(15)] + ["bad"]
    found = await client.query_many(exprs)
    assert isinstance(found["bad"], Refused)
    assert "parse error: bad" in str(found["bad"])
    assert all(not isinstance(found[e], Exception) for e in exprs[:15])
    assert len(server.queries) == 9
    server.queries.clear()
    await client.query_many(exprs)
    assert len(server.queries) == 2


async def test_a_scalar_is_one_sample_and_stands_apart(server: Server, client: Prometheus) -> None:
    """A scalar, which cannot be joined, is asked alone and is one sample without labels."""

    def answer(expr: str) -> Any:
        if "label_replace" in expr and "time()" in expr:
            return fault(400, "bad_data", "expected type instant vector")
        if expr == "time()":
            return {
                "status": "success", "data": {"resultType": "scalar", "result": [START, "42"]},
            }  # fmt: skip
        return joined_vector(expr, lambda _: "1") if "label_replace" in expr else vector()

    server.answer = answer
    for _ in range(2):
        found = await client.query_many(["a", "time()", "b", "c"])
        answer_ = found["time()"]
        assert not isinstance(answer_, Exception)
        assert [(s.labels, s.value) for s in answer_] == [({}, 42.0)]
    assert "time()" in server.queries[-2:]
    assert len(server.queries) == 5 + 2


async def test_an_expression_cannot_leave_its_parentheses(
    server: Server, client: Prometheus
) -> None:
    """Texts whose brackets do not pair up are asked alone, so Prometheus refuses them alone."""
    server.answer = lambda expr: (
        joined_vector(expr, lambda _: "1") if "label_replace((\n" in expr else vector()
    )
    evil = 'a\n),"__healer_q__","1","","") or label_replace((b'
    await client.query_many(["x", "y", evil, "z # comment"])
    assert min(server.queries, key=len) == evil
    joint = next(q for q in server.queries if q != evil)
    assert parts_of(joint) == {"0": "x", "1": "y", "2": "z # comment"}


async def test_an_outage_is_not_asked_again_for_each_query(
    server: Server, client: Prometheus
) -> None:
    """When Prometheus is down or partial as a whole, every query fails after one request."""
    server.answer = lambda _: fault(503, "unavailable", "starting")
    found = await client.query_many([f"m{i}" for i in range(20)])
    assert {type(a) for a in found.values()} == {Unreachable}
    assert len(server.queries) == 1
    server.queries.clear()
    server.answer = lambda _: vector(warnings=["remote read: store down"])
    found = await client.query_many([f"m{i}" for i in range(20)])
    assert all(isinstance(a, Blind) for a in found.values())
    assert len(server.queries) == 1


async def test_a_slow_query_times_out_alone(server: Server) -> None:
    """One expression over Prometheus' own time limit does not take its neighbours along."""

    def answer(expr: str) -> Any:
        if "slow" in expr:
            return fault(503, "timeout", "query timed out in expression evaluation")
        return joined_vector(expr, lambda _: "1") if "label_replace" in expr else vector()

    server.answer = answer
    client = Prometheus(server.url, clock=SystemClock(), timeout=2.0, max_age=1e12)
    found = await client.query_many(["a", "b", "slow", "c"])
    assert [isinstance(found[e], Exception) for e in ("a", "b", "slow", "c")] == [
        False, False, True, False,
    ]  # fmt: skip
    assert isinstance(found["slow"], TimedOut)
    await client.close()


async def test_a_foreign_mark_is_blind(server: Server, client: Prometheus) -> None:
    """A joined answer whose series are nobody's is not handed to anybody."""
    server.answer = lambda expr: vector(({"__healer_q__": "9"}, "1"), ({}, "1"))
    found = await client.query_many(["a", "b"])
    assert all(isinstance(a, Blind) or a for a in found.values())
    assert len(server.queries) == 3


RULES = {
    "status": "success",
    "data": {"groups": [{"name": "g", "interval": 15, "rules": [
        {"type": "alerting", "name": "Down", "query": "up == 0", "duration": 300,
         "keepFiringFor": 60, "labels": {"severity": "page"}, "alerts": None, "state": "firing"},
        {"type": "recording", "name": "a:b", "query": "sum(x)"},
    ]}]},
}  # fmt: skip


async def test_rules_are_read_at_most_once_a_minute(server: Server) -> None:
    """Alerting rules come with their times, and are cached for sixty seconds."""
    clock = FakeClock()
    client = Prometheus(server.url, clock=clock)
    server.answer = lambda _: RULES
    first, _ = await asyncio.gather(client.rules(), client.rules())
    (rule,) = first
    assert (rule.name, rule.expr, rule.for_seconds) == ("Down", "up == 0", 300.0)
    assert (rule.keep_firing_for_seconds, rule.interval_seconds) == (60.0, 15.0)
    assert rule.labels == {"severity": "page"}
    assert len(server.paths) == 1
    clock.advance(61)
    await client.rules()
    assert len(server.paths) == 2
    await client.close()


CONFIG = """global:
  scrape_interval: 1m
  external_labels:
    cluster: c1
    prometheus_replica: "0"
alerting:
  alert_relabel_configs:
  - separator: ;
    regex: prometheus_replica
    replacement: $1
    action: labeldrop
  alertmanagers:
  - static_configs:
    - targets: [a]
scrape_configs:
- job_name: global:
  x: *undefined
"""


def alerts_answer(path: str, *alerts: dict[str, Any], config: str = CONFIG) -> dict[str, Any]:
    data: Any = {"yaml": config} if path.endswith("config") else {"alerts": list(alerts)}
    return {"status": "success", "data": data}


def alert(state: str = "firing", **labels: str) -> dict[str, Any]:
    return {
        "labels": labels, "annotations": {"summary": "s"}, "state": state,
        "activeAt": "2026-01-04T23:00:00.5Z", "value": "1e+00",
    }  # fmt: skip


async def test_firing_alerts_have_the_fingerprint_of_alertmanager(
    server: Server, client: Prometheus
) -> None:
    """External labels are added and relabelling applied before the fingerprint is taken."""
    server.answer = lambda _: alerts_answer(
        server.paths[-1], alert(alertname="A", cluster="own"), alert("pending", alertname="P"),
        alert(alertname="B"),
    )  # fmt: skip
    found = {a.name: a for a in await client.firing()}
    assert found.keys() == {"A", "B"}
    assert found["A"].labels == {"alertname": "A", "cluster": "own"}
    assert found["B"].labels == {"alertname": "B", "cluster": "c1"}
    assert found["B"].fingerprint == label_fingerprint({"alertname": "B", "cluster": "c1"})
    assert (found["B"].starts_at, found["B"].polled_at) == (START - 3599.5, START)
    await client.firing()
    assert sum(path.endswith("config") for path in server.paths) == 1


async def test_without_external_labels_nobody_guesses(server: Server, client: Prometheus) -> None:
    """When the configuration cannot be read, the error says how to give the labels instead."""
    for answer in (
        fault(404, "", ""),
        fault(403, "", ""),
        alerts_answer("x/config", config="global: ["),
    ):
        server.answer = lambda _, a=answer: a  # type: ignore[misc]
        with pytest.raises((Refused, ConfigError), match="settings"):
            await client.firing()


async def test_given_external_labels_need_no_configuration(server: Server) -> None:
    """Labels from our own settings are used without asking."""
    client = Prometheus(server.url, clock=FakeClock(), external_labels={"cluster": "z"})
    server.answer = lambda _: alerts_answer("", alert(alertname="A"))
    assert (await client.firing())[0].labels == {"alertname": "A", "cluster": "z"}
    assert server.paths == ["/api/v1/alerts"]
    await client.close()


async def test_credentials_are_read_again_when_they_change(server: Server, tmp_path: Any) -> None:
    """A rotated token is used for the next request."""
    file = tmp_path / "token"
    file.write_text("one\n")
    client = Prometheus(server.url, clock=FakeClock(), access=Access(token_file=file))
    await client.query("x")
    file.write_text("second\n")
    await client.query("x")
    assert [h["Authorization"] for h in server.headers] == ["Bearer one", "Bearer second"]
    file.unlink()
    with pytest.raises(ConfigError, match="token cannot be read"):
        await client.query("x")
    await client.close()


async def test_basic_authentication_is_sent(server: Server, tmp_path: Any) -> None:
    """User name and password go as basic authentication."""
    (tmp_path / "p").write_text("pässword")
    access = Access(username="ann", password_file=tmp_path / "p", headers={"X-Scope-OrgID": "t"})
    client = Prometheus(server.url, clock=FakeClock(), access=access)
    await client.query("x")
    assert server.headers[0]["Authorization"] == "Basic YW5uOnDDpHNzd29yZA=="
    assert server.headers[0]["X-Scope-OrgID"] == "t"
    await client.close()
