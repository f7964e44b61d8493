"""The Alertmanager client against local servers that fail, one and several of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from healer.clients.alertmanager import Alertmanager, quote_regex
from healer.domain.alert import Alert, AlertStatus
from healer.errors import Blind, Refused, TimedOut, Unauthorized, Unreachable
from healer.testing.clock import START, FakeClock

ALERT = {
    "labels": {"alertname": "A"}, "annotations": {"s": "t"}, "fingerprint": "0123456789abcdef",
    "startsAt": "2026-01-05T00:00:00.000Z", "endsAt": "2026-01-05T00:05:00.000Z",
    "generatorURL": "http://p/g", "status": {"state": "suppressed"}, "receivers": [{"name": "r"}],
}  # fmt: skip


class Member:
    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self.answer: Callable[[], web.Response] = lambda: web.json_response([ALERT])
        self.hang: asyncio.Event | None = None

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path_qs))
        if request.can_read_body:
            self.bodies.append(await request.json())
        if self.hang is not None:
            await self.hang.wait()
        return self.answer()


@pytest.fixture
async def members(aiohttp_server: Any) -> list[Member]:
    made = [Member(), Member()]
    for one in made:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", one.handle)
        one.url = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    return made


@pytest.fixture
async def client(members: list[Member]) -> AsyncIterator[Alertmanager]:
    made = Alertmanager([m.url for m in members], clock=FakeClock(), timeout=1.0, source="am")
    yield made
    await made.close()


OWN = Alert("healer", "", AlertStatus.FIRING, {"alertname": "X"}, START - 60)


async def test_an_alert_is_read_with_all_it_says(
    members: list[Member], client: Alertmanager
) -> None:
    """Fingerprint, labels, annotations, start and source arrive, silenced alerts included."""
    (alert,) = await client.firing("a.b|c")
    assert alert == Alert(
        "am", "0123456789abcdef", AlertStatus.FIRING, {"alertname": "A"}, START, None, {"s": "t"},
        "http://p/g", START,
    )  # fmt: skip
    (_, path) = members[0].asked[0]
    assert "receiver=a%5C.b%5C%7Cc" in path
    for word in ("active", "silenced", "inhibited", "unprocessed"):
        assert f"{word}=true" in path
    assert members[1].asked == []


async def test_reads_go_on_with_whoever_answers(
    members: list[Member], client: Alertmanager
) -> None:
    """A member that fails is passed over, and asked last the next time."""
    members[0].answer = lambda: web.Response(status=503)
    await client.firing()
    await client.firing()
    assert (len(members[0].asked), len(members[1].asked)) == (1, 2)


async def test_when_all_fail_the_first_error_is_raised(
    members: list[Member], client: Alertmanager
) -> None:
    """Without any answer there is an error and never an empty list."""
    members[0].answer = lambda: web.Response(status=500, text="first")
    members[1].hang = asyncio.Event()
    with pytest.raises(Unreachable, match="first"):
        await client.firing()
    members[0].hang = members[1].hang
    with pytest.raises(TimedOut):
        await client.firing()
    members[1].hang.set()


async def test_a_refusal_is_final(members: list[Member], client: Alertmanager) -> None:
    """Who refuses has answered: another member is not asked."""
    members[0].answer = lambda: web.Response(status=401, text="who?")
    with pytest.raises(Unauthorized):
        await client.firing()
    assert members[1].asked == []


async def test_posts_go_to_all_and_one_is_enough(
    members: list[Member], client: Alertmanager, caplog: pytest.LogCaptureFixture
) -> None:
    """Members do not share alerts, so each gets them; one that takes them is enough, and the
    other is named in the log."""
    await client.post([OWN])
    assert members[0].bodies == members[1].bodies
    assert members[0].bodies[0][0]["labels"] == {"alertname": "X"}
    assert "endsAt" not in members[0].bodies[0][0]
    members[0].answer = lambda: web.Response(status=500)
    await client.post([OWN])
    assert "took no alerts" in caplog.text
    members[1].answer = lambda: web.Response(status=400, text="bad")
    with pytest.raises((Unreachable, Refused)):
        await client.post([OWN])


async def test_nothing_to_post_is_not_posted(members: list[Member], client: Alertmanager) -> None:
    """No alerts make no request."""
    await client.post([])
    assert members[0].asked == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b'[{"labels":{}}]', b"[" * 50_000,
     json.dumps([{**ALERT, "startsAt": "yesterday"}]).encode()],
)  # fmt: skip
async def test_what_is_not_an_answer_is_blind(
    members: list[Member], client: Alertmanager, body: bytes
) -> None:
    """A 200 that is not Alertmanager's JSON is never "nothing fires"."""
    for member in members:
        member.answer = lambda: web.Response(body=body)
    with pytest.raises(Blind):
        await client.firing()


async def test_an_id_cannot_change_the_path(members: list[Member], client: Alertmanager) -> None:
    """Only what looks like a silence's id goes into the URL."""
    with pytest.raises(ValueError, match="id of a silence"):
        await client.expire("../alerts")
    assert members[0].asked == []


async def test_an_expired_silence_is_not_expired_again(
    members: list[Member], client: Alertmanager
) -> None:
    """Some versions answer 500 to expiring what has expired, so it is looked at first."""
    body = {"id": "a-1", "comment": "c", "status": {"state": "expired"}}
    members[0].answer = lambda: web.json_response(body)
    await client.expire("a-1")
    assert members[0].asked == [("GET", "/api/v2/silence/a-1")]


def test_no_url_is_no_client() -> None:
    """Without a URL there is nothing to ask, and the error names the setting."""
    with pytest.raises(ValueError, match=r"alertmanager\.urls"):
        Alertmanager([], clock=FakeClock())


def test_a_quoted_name_matches_itself_only() -> None:
    """Every character with a meaning in a regular expression loses it."""
    assert (
        quote_regex(r"a.b+c*(d)[e]{f}^g$h|i?j\k-l") == r"a\.b\+c\*\(d\)\[e\]\{f\}\^g\$h\|i\?j\\k-l"
    )
