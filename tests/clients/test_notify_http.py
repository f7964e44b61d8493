"""PagerDuty, Slack and webhook notifiers against servers that refuse what the real ones refuse."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from healer.clients.assembly import open_notifiers
from healer.clients.notify.pagerduty import PagerDuty
from healer.clients.notify.slack import Slack, blocks
from healer.clients.notify.webhook import Webhook
from healer.domain.message import Notice, NoticeEvent, Severity
from healer.errors import (
    ConfigError,
    HealerError,
    Refused,
    TemporaryError,
    Throttled,
    Unauthorized,
    Unreachable,
)
from healer.ports import Message
from healer.settings import Settings
from healer.testing.clock import START, FakeClock

NOTICE = Notice(
    NoticeEvent.TRIGGER, Severity.CRITICAL, "payments is down", "It <stays> & <is> down.", START,
    "ep-1", "restart-payments", "Deployment/shop/payments", "not_recovered",
    {"alertname": "Down", "namespace": "shop"}, {"runbook": "https://example.com/r?a=1&b=2"},
    {"logs": "panic: ```x```"},
)  # fmt: skip
RESOLVE = replace(NOTICE, event=NoticeEvent.RESOLVE, title="payments is back")
EMPTY = Notice(NoticeEvent.TRIGGER, Severity.INFO, "", "", START)
HUGE = replace(
    NOTICE, title="t" * 5000, text="<&>" * 9000, target="x" * 3000, playbook="<" * 5000,
    labels={f"l{i}": "v" * 3000 for i in range(200)},
    links={f"n|{i}": f"https://example.com/{'a' * i * 20}>" for i in range(99)},
    evidence={f"e{i}": "&" * 99_999 for i in range(99)},
)  # fmt: skip


def message(notice: Notice = NOTICE, key: str = "m-1") -> Message:
    return Message(key, "x", notice.to_mapping())


class Peer:
    """A server with a forced answer, or the checks of the real one."""

    def __init__(self) -> None:
        self.base = ""
        self.bodies: list[Any] = []
        self.raw: list[bytes] = []
        self.headers: list[Any] = []
        self.forced: web.Response | None = None

    async def handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        self.raw.append(raw)
        self.bodies.append(json.loads(raw))
        self.headers.append(request.headers)
        if self.forced is not None:
            return self.forced
        return {
            "/v2/enqueue": pagerduty, "/services/T/B/x": slack_webhook,
            "/api/chat.postMessage": slack_api,
        }.get(request.path, lambda *_: web.Response(status=202))(
            self.bodies[-1], request, len(raw)
        )  # fmt: skip


def pagerduty(event: Any, _: web.Request, size: int) -> web.Response:
    """The checks of the Events API v2, with its words."""
    errors = []
    if not event.get("routing_key"):
        errors.append("'routing_key' is missing or blank")
    if event.get("event_action") not in {"trigger", "acknowledge", "resolve"}:
        errors.append("'event_action' is invalid")
    if len(event.get("dedup_key", "")) > 255:
        errors.append("'dedup_key' is too long")
    if event.get("event_action") == "trigger":
        payload = event.get("payload", {})
        if not 0 < len(payload.get("summary", "")) <= 1024:
            errors.append("'payload.summary' is missing or too long")
        if not payload.get("source"):
            errors.append("'payload.source' is missing or blank")
        if payload.get("severity") not in {"critical", "error", "warning", "info"}:
            errors.append("'payload.severity' is invalid")
        errors += ["'link' is invalid" for link in event.get("links", []) if not link.get("href")]
    if size > 512 * 1024:
        return web.Response(status=413)
    if errors:
        return web.json_response({"status": "invalid event", "errors": errors}, status=400)
    return web.json_response({"status": "success", "dedup_key": event["dedup_key"]}, status=202)


def block_errors(found: Any) -> list[str]:
    """What Block Kit refuses."""
    errors = [] if 0 < len(found) <= 50 else ["blocks"]
    for block in found:
        texts = (
            [(block["text"], 150 if block["type"] == "header" else 3000)] if "text" in block else []
        )
        texts += [(one, 2000) for one in block.get("fields", [])]
        texts += [(one, 3000) for one in block.get("elements", [])]
        if len(block.get("fields", [])) > 10 or len(block.get("elements", [])) > 10 or not texts:
            errors.append("items")
        if block["type"] == "header" and block["text"]["type"] != "plain_text":
            errors.append("header")
        errors += ["length" for text, limit in texts if not 0 < len(text["text"]) <= limit]
    return errors


def slack_webhook(body: Any, _: web.Request, __: int) -> web.Response:
    if not body.get("text"):
        return web.Response(status=400, text="no_text")
    if block_errors(body["blocks"]):
        return web.Response(status=400, text="invalid_blocks")
    return web.Response(text="ok")


def slack_api(body: Any, request: web.Request, _: int) -> web.Response:
    if request.headers.get("Authorization") != "Bearer xoxb-1":
        return web.json_response({"ok": False, "error": "invalid_auth"})
    if body["channel"] != "#ops":
        return web.json_response({"ok": False, "error": "channel_not_found"})
    if block_errors(body["blocks"]):
        return web.json_response({"ok": False, "error": "invalid_blocks"})
    return web.json_response({"ok": True, "ts": "1.2"})


@pytest.fixture
async def peer(aiohttp_server: Any) -> Peer:
    made = Peer()
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", made.handle)
    made.base = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    return made


@pytest.fixture
async def notifiers(peer: Peer, tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """One notifier of each kind, pointed at the peer."""
    for name, text in (("key", "R0UTE"), ("url", f"{peer.base}/services/T/B/x"),
                       ("token", "xoxb-1"), ("secret", "s3cret")):  # fmt: skip
        (tmp_path / name).write_text(text + "\n")
    made: dict[str, Any] = {
        "pagerduty": PagerDuty("pd", tmp_path / "key", url=f"{peer.base}/v2/enqueue"),
        "slack": Slack("s", url_file=tmp_path / "url"),
        "slack api": Slack("s", token_file=tmp_path / "token", channel="#ops",
                           api=f"{peer.base}/api/chat.postMessage"),
        "webhook": Webhook("w", f"{peer.base}/hook", clock=FakeClock(),
                           secret_file=tmp_path / "secret"),
    }  # fmt: skip
    yield made
    for one in made.values():
        await one.close()


ALL = ("pagerduty", "slack", "slack api", "webhook")


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("notice", [NOTICE, RESOLVE, HUGE, EMPTY],
                         ids=["trigger", "resolve", "huge", "empty"])  # fmt: skip
async def test_every_notice_is_accepted(
    peer: Peer, notifiers: dict[str, Any], kind: str, notice: Notice
) -> None:
    """Whatever a notice holds, each channel's server accepts what is made of it."""
    await notifiers[kind].send(message(notice))
    assert len(peer.bodies) == 1


async def test_pagerduty_resolves_what_it_triggered(peer: Peer, notifiers: dict[str, Any]) -> None:
    """Trigger and resolve of one episode share the key, although their messages differ."""
    await notifiers["pagerduty"].send(message(NOTICE, "m-1"))
    await notifiers["pagerduty"].send(message(RESOLVE, "m-2"))
    trigger, resolve = peer.bodies
    assert trigger["dedup_key"] == resolve["dedup_key"] == "healer/ep-1"
    assert (trigger["event_action"], resolve["event_action"]) == ("trigger", "resolve")
    assert trigger["routing_key"] == "R0UTE"
    assert trigger["payload"]["severity"] == "critical"
    assert trigger["payload"]["source"] == "Deployment/shop/payments"
    assert trigger["payload"]["timestamp"] == "2026-01-05T00:00:00.000+00:00"
    assert trigger["links"] == [{"href": "https://example.com/r?a=1&b=2", "text": "runbook"}]


async def test_a_long_episode_id_still_has_one_key(peer: Peer, notifiers: dict[str, Any]) -> None:
    """A key longer than PagerDuty allows is hashed, and stays the same for the same episode."""
    for key in ("a", "b"):
        await notifiers["pagerduty"].send(message(replace(NOTICE, episode_id="e" * 400), key))
    first, second = (body["dedup_key"] for body in peer.bodies)
    assert first == second
    assert len(first) <= 255


async def test_slack_shows_foreign_text_literally(peer: Peer, notifiers: dict[str, Any]) -> None:
    """Mentions, links and code fences in labels and logs stay text."""
    evil = replace(
        NOTICE, text="<!channel> <http://evil|click> & <@U1>", links={"a": "javascript:x"}
    )
    await notifiers["slack"].send(message(evil))
    text = json.dumps(peer.bodies[0])
    assert "<!channel>" not in text
    assert "<http" not in text
    assert "<@U1>" not in text
    assert "javascript" not in text
    assert "&lt;!channel&gt;" in text
    assert text.count("```") == 2


@given(
    st.builds(
        Notice, st.sampled_from(NoticeEvent), st.sampled_from(Severity), st.text(), st.text(),
        st.just(START), st.text(), st.text(), st.text(), st.text(),
        st.dictionaries(st.text(), st.text(), max_size=5),
        st.dictionaries(st.text(), st.text(), max_size=5),
        st.dictionaries(st.text(), st.text(), max_size=5),
    )
)  # fmt: skip
def test_blocks_are_always_valid(notice: Notice) -> None:
    """Any text at all gives blocks within Block Kit's limits."""
    assert block_errors(blocks(notice)) == []


async def test_the_webhook_is_signed_and_keyed(peer: Peer, notifiers: dict[str, Any]) -> None:
    """The signature is the HMAC-SHA256 of timestamp, a dot and the very bytes that were sent."""
    await notifiers["webhook"].send(message())
    headers = peer.headers[0]
    stamp = headers["X-Healer-Timestamp"]
    expected = hmac.new(b"s3cret", stamp.encode() + b"." + peer.raw[0], hashlib.sha256).hexdigest()
    assert headers["X-Healer-Signature"] == f"v1={expected}"
    assert (stamp, headers["Idempotency-Key"]) == (str(int(START)), "m-1")
    assert peer.bodies[0] == {"version": 1, "id": "m-1", **NOTICE.to_mapping()}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, Refused), (403, Unauthorized), (404, Refused), (429, Throttled), (500, Unreachable),
     (503, Unreachable), (302, Refused), (413, Refused)],
)  # fmt: skip
async def test_each_status_is_its_error(
    peer: Peer, notifiers: dict[str, Any], kind: str, status: int, expected: type[HealerError]
) -> None:
    """A refusal is a refusal, and what may pass is worth another try at the time they say."""
    headers = {"Retry-After": "30", "Location": "http://127.0.0.1:1/"}
    peer.forced = web.Response(status=status, text="words", headers=headers)
    with pytest.raises(expected) as caught:
        await notifiers[kind].send(message())
    assert type(caught.value) is expected
    if isinstance(caught.value, TemporaryError):
        assert caught.value.retry_after == 30.0


@pytest.mark.parametrize(
    ("word", "expected"),
    [("ratelimited", Throttled), ("internal_error", TemporaryError), ("invalid_auth", Unauthorized),
     ("channel_not_found", Refused), ("invalid_blocks", Refused)],
)  # fmt: skip
async def test_slacks_no_in_a_200_is_a_no(
    peer: Peer, notifiers: dict[str, Any], word: str, expected: type[HealerError]
) -> None:
    """`"ok": false` is never taken for delivered."""
    body = {"ok": False, "error": word}
    peer.forced = web.json_response(body, headers={"Retry-After": "9"})
    with pytest.raises(expected, match=word) as caught:
        await notifiers["slack api"].send(message())
    assert type(caught.value) is expected


@pytest.mark.parametrize("kind", ALL)
async def test_what_is_no_notice_is_refused(notifiers: dict[str, Any], kind: str) -> None:
    """A body that cannot be told is refused and named."""
    with pytest.raises(Refused, match="m-9"):
        await notifiers[kind].send(Message("m-9", "x", {"event": "trigger"}))


@pytest.mark.parametrize("kind", ALL)
async def test_a_missing_secret_is_named_and_nothing_is_sent(
    peer: Peer, notifiers: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    """Without its secret file a notifier says which one is missing."""
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        await notifiers[kind].send(message())
    assert peer.bodies == []


async def test_slacks_address_is_in_no_error(tmp_path: Path, unused_tcp_port: int) -> None:
    """The webhook's path is a secret, so no error shows it."""
    (tmp_path / "url").write_text(f"http://127.0.0.1:{unused_tcp_port}/services/SECRET")
    slack = Slack("s", url_file=tmp_path / "url")
    with pytest.raises(Unreachable) as caught:
        await slack.send(message())
    assert "SECRET" not in str(caught.value)
    (tmp_path / "url").write_text("SECRET://x")
    with pytest.raises(ConfigError) as wrong:
        await slack.send(message())
    assert "SECRET" not in str(wrong.value)
    await slack.close()


@pytest.mark.parametrize(
    "given_",
    [{}, {"url_file": Path("a"), "token_file": Path("b"), "channel": "c"},
     {"token_file": Path("b")}, {"url_file": Path("a"), "channel": "c"}],
)  # fmt: skip
def test_slack_needs_one_way_in(given_: dict[str, Any]) -> None:
    """A webhook URL, or a token with a channel, and never both."""
    with pytest.raises(ConfigError, match="url_file"):
        Slack("s", **given_)


async def test_the_setting_secret_file_signs(peer: Peer, tmp_path: Path) -> None:
    """A webhook made from settings with `secret_file` signs, and one without does not."""
    (tmp_path / "secret").write_text("s3cret")
    channels = {
        "signed": {
            "type": "webhook",
            "url": f"{peer.base}/hook",
            "secret_file": str(tmp_path / "secret"),
        },
        "plain": {"type": "webhook", "url": f"{peer.base}/hook"},
    }
    settings = Settings.model_validate({"notifiers": channels})
    async with AsyncExitStack() as stack:
        made = await open_notifiers(
            settings, stack, FakeClock(), alerts=None, open_notices=_nothing_open
        )
        for name in channels:
            await made[name].send(message())
    assert ["X-Healer-Signature" in headers for headers in peer.headers] == [True, False]


async def _nothing_open() -> list[Notice]:
    return []
