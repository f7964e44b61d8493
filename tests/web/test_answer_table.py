"""Every row of the webhook's answer table, over real sockets and a real journal."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from healer.domain.alert import Alert
from healer.domain.episode import fold
from healer.errors import StoreUnavailable
from healer.ports import Receipt
from healer.settings.listen import Limits, Source
from healer.testing.clock import START
from tests.web.door import Door
from tests.web.payloads import alert, group


class BrokenDisk:
    """A journal whose commits fail, as a full disk makes them."""

    def __init__(self) -> None:
        self.calls = 0
        self.hangs = False

    async def accept(self, alerts: Any, rejected: Any, at: float) -> Receipt:
        """Never durable."""
        self.calls += 1
        if self.hangs:
            await asyncio.Event().wait()
        raise StoreUnavailable("database or disk is full")


async def _kept(door: Door) -> list[Alert]:
    """What is in the journal's inbox, in order of acceptance."""
    return [told for told, _ in await door.store.fold(fold, START, 100_000)]


async def test_a_committed_group_is_200_and_empty(door: Door) -> None:
    """When every valid alert of the group is on disk the answer is 200 with an empty body."""
    answer = await door.post(group(alert(1), alert(2)))
    assert (answer.status, answer.headers["Content-Length"]) == (200, "0")
    assert [told.labels["pod"] for told in await _kept(door)] == ["api-1", "api-2"]
    assert door.accepted == [None]
    assert door.sample("healer_alerts_total", result="accepted") == 2
    assert door.sample("healer_webhook_requests_total", code="200") == 1
    assert door.sample("healer_webhook_ack_seconds_count") == 1


async def test_the_same_again_is_200_and_changes_nothing(door: Door) -> None:
    """A delivery that is in the journal already is answered 200 and adds nothing."""
    for _ in range(3):
        assert (await door.post(group(alert(1)))).status == 200
    assert len(await _kept(door)) == 1
    assert door.accepted == [None]
    assert door.sample("healer_alerts_total", result="duplicate") == 2


async def test_a_full_disk_is_503_within_100_ms(doors: Callable[..., Any]) -> None:
    """When the journal cannot commit the answer is 503 with Retry-After, in less than 100 ms."""
    door = await doors(over=BrokenDisk())
    began = time.perf_counter()
    answer = await door.post(group(alert()))
    assert time.perf_counter() - began < 0.1
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert door.condition() == ["store_unavailable"]
    assert door.accepted == []
    assert door.sample("healer_webhook_requests_total", code="503") == 1


async def test_a_commit_past_its_deadline_is_503(doors: Callable[..., Any]) -> None:
    """A journal that does not commit in time gets the delivery answered 503."""
    disk = BrokenDisk()
    disk.hangs = True
    door = await doors(over=disk, limits=Limits(commit_seconds=0.05))
    assert (await door.post(group(alert()))).status == 503
    assert door.condition() == ["store_unavailable"]


async def test_success_ends_the_store_condition(door: Door) -> None:
    """The condition of a journal that did not commit ends with the next commit."""
    door.conditions.hold("store_unavailable", "it was full")
    await door.post(group(alert()))
    assert door.condition() == []


async def test_draining_is_503_within_100_ms(door: Door) -> None:
    """While shutting down every delivery is answered 503 at once, and nothing is accepted."""
    door.webhook.drain()
    began = time.perf_counter()
    answer = await door.post(group(alert()))
    assert time.perf_counter() - began < 0.1
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert await _kept(door) == []


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"labels": None}, "labels"),
        ({"labels": {}}, "no labels"),
        ({"labels": {"a": 1}}, "labels"),
        ({"labels": {"a": "x" * 1025}}, "limits.label_bytes"),
        ({"labels": {"é" * 600: "x"}}, "limits.label_bytes"),
        ({"labels": {f"l{n}": "x" for n in range(65)}}, "limits.labels"),
        ({"status": "burning"}, "neither firing nor resolved"),
        ({"status": 3}, "status"),
        ({"startsAt": "yesterday"}, "not an RFC 3339 time"),
        ({"startsAt": "0001-01-01T00:00:00Z"}, "startsAt is not set"),
        ({"startsAt": "2026-13-45T99:00:00Z"}, "month"),
        ({"status": "resolved", "endsAt": "soon"}, "not an RFC 3339 time"),
        ({"annotations": {"d": "x" * (1 << 20)}}, "larger than"),
    ],
)
async def test_a_malformed_alert_costs_only_itself(
    door: Door, bad: dict[str, Any], problem: str
) -> None:
    """One malformed alert is kept as rejected, the others are committed, and the answer is 200."""
    answer = await door.post(group(alert(1), alert(2, **bad), alert(3)))
    assert answer.status == 200
    assert [told.labels["pod"] for told in await _kept(door)] == ["api-1", "api-3"]
    assert (await door.store.counts())["rejected"] == 1
    assert door.sample("healer_alerts_total", result="rejected") == 1
    (condition,) = door.conditions.active()
    assert condition.name == "webhook_rejected_alerts"
    assert "alerts[1]" in condition.detail
    assert problem in condition.detail


@pytest.mark.parametrize("bad", [None, 1, "x", [], [1], True, {}])
async def test_what_is_no_alert_at_all_costs_only_itself(door: Door, bad: Any) -> None:
    """A list element that is no alert is rejected and its neighbours are committed."""
    assert (await door.post(group(alert(1), bad, alert(2)))).status == 200
    assert len(await _kept(door)) == 2
    assert (await door.store.counts())["rejected"] == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"null",
        b"[]",
        b"{}",
        b'{"alerts": null}',
        b'{"alerts": {}}',
        b'{"alerts": [',
        b'{"alerts": [{"labels": {"a": "\xff\xfe"}}',
        b'{"alerts": ' + b"[" * 100_000,
        b'{"alerts": [], "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
async def test_an_unparseable_body_is_400_and_loud(door: Door, body: bytes) -> None:
    """What is no delivery at all is 400, counted, and a health condition, since it is lost."""
    assert (await door.post(body)).status == 400
    assert door.condition() == ["webhook_malformed"]
    assert door.sample("healer_webhook_requests_total", code="400") == 1


async def test_a_broken_compressed_body_is_400(door: Door) -> None:
    """A body that says gzip and is not is 400."""
    answer = await door.post(b"this is not gzip", headers={"Content-Encoding": "gzip"})
    assert answer.status == 400


async def test_a_body_over_the_cap_is_413_before_it_is_read(doors: Callable[..., Any]) -> None:
    """A body announced as larger than the cap is 413 without waiting for it."""
    door = await doors(limits=Limits(body_bytes=2048))
    with socket.create_connection(("127.0.0.1", door.port)) as raw:
        raw.sendall(b"POST /v1/alertmanager HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n")
        head = await asyncio.to_thread(raw.recv, 4096)
    assert head.startswith(b"HTTP/1.1 413 ")
    assert door.condition() == ["webhook_too_large"]


async def test_a_body_that_grows_over_the_cap_is_413(doors: Callable[..., Any]) -> None:
    """A chunked body is cut off with 413 when it passes the cap."""
    door = await doors(limits=Limits(body_bytes=2048))

    async def pieces() -> Any:
        for _ in range(16):
            yield b" " * 1024

    async with door.http.post(door.url + "/v1/alertmanager", data=pieces()) as answer:
        assert answer.status == 413
    assert door.sample("healer_webhook_requests_total", code="413") == 1


async def test_too_many_alerts_are_413(doors: Callable[..., Any]) -> None:
    """More alerts than the cap are 413 and none of them is kept."""
    door = await doors(limits=Limits(alerts=3))
    assert (await door.post(group(*(alert(n) for n in range(4))))).status == 413
    assert (await door.post(group(*(alert(n) for n in range(3))))).status == 200
    assert len(await _kept(door)) == 3


def _token(tmp_path: Path, name: str, value: str) -> Path:
    path = tmp_path / name
    path.write_text(value + "\n")
    return path


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_credentials_decide_before_the_body(
    doors: Callable[..., Any], tmp_path: Path
) -> None:
    """No or a wrong credential is 401, another source's is 403, the right one of two is 200."""
    sources = {
        "main": Source(
            token_files=(_token(tmp_path, "new", "n3w"), _token(tmp_path, "old", "0ld"))
        ),
        "other": Source(token_files=(_token(tmp_path, "other", "0ther"),)),
    }
    door = await doors(sources=sources)
    for headers, status in [
        ({}, 401),
        (_bearer(""), 401),
        (_bearer("wrong"), 401),
        ({"Authorization": "Basic n3w"}, 401),
        (_bearer("n3wÿ"), 401),
        (_bearer("0ther"), 403),
        (_bearer("n3w"), 200),
        (_bearer("0ld"), 200),
    ]:
        answer = await door.post(group(alert()), "/v1/alertmanager/main", headers=headers)
        assert answer.status == status, headers
    with socket.create_connection(("127.0.0.1", door.port)) as raw:
        raw.sendall(
            b"POST /v1/alertmanager/main HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
            b"Authorization: Bearer n3w\xff\r\n\r\n"
        )
        assert (await asyncio.to_thread(raw.recv, 4096)).startswith(b"HTTP/1.1 401 ")
    unknown = await door.post(group(alert()), "/v1/alertmanager/nobody", headers=_bearer("n3w"))
    assert unknown.status == 403
    assert (await door.post(group(alert()), "/v1/alertmanager/nobody")).status == 401
    assert door.condition() == ["webhook_unauthorized"]
    assert {told.source for told in await _kept(door)} == {"main"}


async def test_a_rotated_token_needs_no_restart(doors: Callable[..., Any], tmp_path: Path) -> None:
    """A token file that is written again counts at the next request."""
    path = _token(tmp_path, "token", "first")
    door = await doors(sources={"alertmanager": Source(token_files=(path,))})
    assert (await door.post(group(alert()), headers=_bearer("first"))).status == 200
    path.write_text("second-token\n")
    assert (await door.post(group(alert()), headers=_bearer("first"))).status == 401
    assert (await door.post(group(alert()), headers=_bearer("second-token"))).status == 200


async def test_an_unauthenticated_body_is_never_read(
    doors: Callable[..., Any], tmp_path: Path
) -> None:
    """The answer 401 comes while the caller still holds its body back, and invites none."""
    sources = {"alertmanager": Source(token_files=(_token(tmp_path, "t", "secret"),))}
    door = await doors(sources=sources)
    with socket.create_connection(("127.0.0.1", door.port)) as raw:
        raw.sendall(
            b"POST /v1/alertmanager HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        head = await asyncio.to_thread(raw.recv, 4096)
    assert head.startswith(b"HTTP/1.1 401 ")
    assert b"WWW-Authenticate: Bearer" in head


async def test_an_expected_body_is_invited(door: Door) -> None:
    """A caller that may deliver and asks first is told to continue."""
    answer = await door.post(group(alert()), expect100=True)
    assert answer.status == 200


async def test_a_fast_sender_is_503_and_never_429(
    doors: Callable[..., Any], tmp_path: Path
) -> None:
    """Above its rate a source gets 503 with Retry-After, because 429 would lose the alert."""
    source = Source(
        token_files=(_token(tmp_path, "t", "secret"),), requests_per_second=0.001, burst=2
    )
    door = await doors(sources={"alertmanager": source})
    answers = [await door.post(group(alert(n)), headers=_bearer("secret")) for n in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 503, 503]
    assert answers[-1].headers["Retry-After"] == "1"
    assert door.condition() == ["webhook_overloaded"]


async def test_memory_for_bodies_is_bounded(doors: Callable[..., Any]) -> None:
    """Bodies beyond the common allowance are 503, and their bytes are given back."""
    door = await doors(limits=Limits(body_bytes=4096, inflight_bytes=4096))
    with socket.create_connection(("127.0.0.1", door.port)) as slow:
        slow.sendall(b"POST /v1/alertmanager HTTP/1.1\r\nHost: x\r\nContent-Length: 4096\r\n\r\n")
        slow.sendall(b" " * 4000)
        statuses: list[int] = []
        while 503 not in statuses:
            statuses.append((await door.post(group(alert()))).status)
            assert len(statuses) < 500
    while (await door.post(group(alert()))).status != 200:
        assert len(statuses) < 500
        statuses.append(0)


async def test_a_body_that_never_comes_is_503(doors: Callable[..., Any]) -> None:
    """A caller that stops in the middle of its body is answered 503 after the read timeout."""
    door = await doors(limits=Limits(read_seconds=0.1))
    with socket.create_connection(("127.0.0.1", door.port)) as slow:
        slow.sendall(b"POST /v1/alertmanager HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        head = await asyncio.to_thread(slow.recv, 4096)
    assert head.startswith(b"HTTP/1.1 503 ")


async def test_truncated_is_200_and_pulls_the_group(door: Door) -> None:
    """A cut delivery is 200, its receiver's whole group is pulled, and a condition is raised."""
    body = group(alert(), truncatedAlerts=7, receiver="team\\.a\\+b")
    assert (await door.post(body)).status == 200
    assert door.truncated == ["team.a+b"]
    assert door.condition() == ["webhook_truncated"]


async def test_firing_and_resolved_are_told_apart_by_each_alert(door: Door) -> None:
    """The status of the group is never looked at, and Go's zero time is no end."""
    resolved = alert(2, status="resolved", endsAt="2026-01-05T11:00:00Z")
    zero = alert(3, status="resolved")
    await door.post(group(alert(1), resolved, zero, status="firing"))
    kept = {told.labels["pod"]: told for told in await _kept(door)}
    assert (kept["api-1"].status, kept["api-1"].ends_at) == ("firing", None)
    assert (kept["api-2"].status, kept["api-2"].ends_at) == ("resolved", 1767610800.0)
    assert (kept["api-3"].status, kept["api-3"].ends_at) == ("resolved", None)


async def test_a_missing_fingerprint_is_alertmanagers_own(door: Door) -> None:
    """Without a fingerprint the alert gets the one that Alertmanager gives to its labels."""
    bare = {
        "status": "firing",
        "labels": {"name": "garland, briggs", "fear": "love is not enough"},
        "startsAt": "2026-01-05T10:00:00+02:00",
    }
    assert (await door.post({"alerts": [bare]})).status == 200
    (told,) = await _kept(door)
    # github.com/prometheus/common model/signature_test.go: 5799056148416392346
    assert int(told.fingerprint, 16) == 5799056148416392346
    assert told.starts_at == 1767600000.0


async def test_unimportant_fields_of_any_type_are_left_out(door: Door) -> None:
    """A wrong annotation, link or receiver costs itself and not the alert."""
    odd = alert(1, annotations=None, generatorURL=7, fingerprint="no")
    assert (await door.post(group(odd, receiver=3, truncatedAlerts="x"))).status == 200
    (told,) = await _kept(door)
    assert told.annotations == {}
    assert len(told.fingerprint) == 16


async def test_other_paths_and_methods_are_not_served(door: Door) -> None:
    """Only POST to the two paths is answered; a source must be a plain lower-case name."""
    assert (await door.post(group(), "/v1/alertmanager/UP%2Fdown")).status == 404
    assert (await door.post(group(), "/")).status == 404
    async with door.http.get(door.url + "/v1/alertmanager") as answer:
        assert answer.status == 405


async def test_ten_thousand_alerts_pass_within_a_second(door: Door) -> None:
    """One delivery of 10,000 alerts (about 5 MB) is durable for less than a second of CPU."""
    body = json.dumps(group(*(alert(n) for n in range(10_000)))).encode()
    assert len(body) > 4_800_000
    began = time.process_time()
    assert (await door.post(body)).status == 200
    assert time.process_time() - began < 1.0
    assert (await door.store.counts())["inbox"] == 10_000
