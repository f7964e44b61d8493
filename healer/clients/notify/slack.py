"""Slack: an incoming webhook, or `chat.postMessage` with a bot token."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from healer.clients.notify.wording import cut, notice_of, one_line
from healer.clients.outgoing import Outgoing, Reply, secret_text
from healer.domain.message import Notice, NoticeEvent
from healer.errors import ConfigError, Refused, TemporaryError, Throttled, Unauthorized, Unreachable
from healer.kernel.secrets import SecretFile
from healer.ports import Message

API = "https://slack.com/api/chat.postMessage"
#: Limits of Block Kit.
HEADER_LIMIT, SECTION_LIMIT, FIELD_LIMIT, BLOCK_LIMIT = 150, 3000, 2000, 50
EVIDENCE_COUNT, LINK_COUNT, LABEL_COUNT = 10, 10, 30
_MARKS = {"critical": "🔴", "error": "🟠", "warning": "🟡", "info": "🔵"}
_PASSING = frozenset(
    {"internal_error", "fatal_error", "service_unavailable", "request_timeout", "rollup_error"}
)
_CREDENTIAL = frozenset(
    {
        "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired",
        "missing_scope", "no_permission", "invalid_token", "not_allowed_token_type",
    }
)  # fmt: skip


class _Answer(msgspec.Struct):
    ok: bool
    error: str = ""


class Slack:
    """`healer.ports.Notifier` on one Slack channel. Delivery is at least once."""

    def __init__(
        self,
        name: str,
        *,
        url_file: Path | None = None,
        token_file: Path | None = None,
        channel: str = "",
        api: str = API,
        timeout: float = 10.0,
    ) -> None:
        """Either `url_file` (an incoming webhook) or `token_file` and `channel`.

        Raises ConfigError for any other combination.
        """
        if (url_file is None) == (token_file is None) or (token_file is None) != (not channel):
            raise ConfigError(
                f"slack {name}: give url_file, or token_file together with channel, and not both"
            )
        self.name = name
        self._url = SecretFile(url_file) if url_file else None
        self._token = SecretFile(token_file) if token_file else None
        self._channel = channel
        self._api = api
        # The address is part of the secret, so it is no part of what errors are given.
        self._http = Outgoing(f"slack {name}", "", timeout=timeout)

    async def send(self, message: Message) -> None:
        """Post one message. Raises Throttled when Slack says when to come back."""
        notice = notice_of(message)
        body: dict[str, Any] = {"text": fallback(notice), "blocks": blocks(notice)}
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if self._token is None:
            reply = await self._http.call(
                "POST", self._address(), body=msgspec.json.encode(body), headers=headers
            )
            self._judge_webhook(reply)
            return
        token = secret_text(self._token, f"slack {self.name}: bot token")
        headers["Authorization"] = f"Bearer {token}"
        body |= {"channel": self._channel, "unfurl_links": False, "unfurl_media": False}
        reply = await self._http.call(
            "POST", self._api, body=msgspec.json.encode(body), headers=headers
        )
        self._judge_api(reply)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.close()

    def _address(self) -> str:
        assert self._url is not None
        address = secret_text(self._url, f"slack {self.name}: webhook URL")
        parts = urlsplit(address)
        if parts.scheme not in {"https", "http"} or not parts.hostname:
            raise ConfigError(f"slack {self.name}: the webhook URL file holds no URL; put it there")
        return address

    def _judge_webhook(self, reply: Reply) -> None:
        """An incoming webhook answers `ok`, or a status with one word."""
        if reply.status == 200:
            return
        if reply.status in {404, 410}:
            raise Refused(
                f"slack {self.name}: {reply.text or 'gone'}; the webhook or its channel is gone, "
                "make a new one and put its URL into the file"
            )
        self._http.refuse(reply)

    def _judge_api(self, reply: Reply) -> None:
        """The Web API says no with 200 and `"ok": false`."""
        self._http.refuse(reply)
        try:
            answer = msgspec.json.decode(reply.body, type=_Answer)
        except msgspec.DecodeError as error:
            raise Unreachable(f"slack {self.name}: not an answer of Slack: {error}") from error
        if answer.ok:
            return
        said = f"slack {self.name}: {answer.error}"
        if answer.error in {"ratelimited", "rate_limited"}:
            raise Throttled(said, retry_after=reply.retry_after)
        if answer.error in _PASSING:
            raise TemporaryError(said, retry_after=reply.retry_after)
        if answer.error in _CREDENTIAL:
            raise Unauthorized(f"{said}; the bot token needs the scope chat:write")
        raise Refused(f"{said}; check the channel, and that the bot was invited to it")


def escaped(text: str, limit: int) -> str:
    """`text` as Slack shows it literally (no mention, no link), in at most `limit` characters."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if len(safe) <= limit:
        return safe
    return re.sub(r"&[a-z]*$", "", safe[: limit - 1]) + "…"


def fallback(notice: Notice) -> str:
    """What a notification on a phone shows."""
    return f"{_mark(notice)} {escaped(one_line(notice.title, 500), 1000)}"


def _mark(notice: Notice) -> str:
    return "🟢" if notice.event is NoticeEvent.RESOLVE else _MARKS[notice.severity]


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def blocks(notice: Notice) -> list[dict[str, Any]]:
    """The notice in Block Kit, within its limits whatever the notice holds."""
    title = one_line(notice.title, HEADER_LIMIT - 2) or "healer needs a person"
    header = cut(f"{_mark(notice)} {title}", HEADER_LIMIT)
    made: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": header, "emoji": True}}
    ]
    if notice.text.strip():
        made.append(_section(escaped(notice.text, SECTION_LIMIT)))
    facts = [("Target", notice.target), ("Playbook", notice.playbook), ("Reason", notice.reason)]
    fields = [
        {"type": "mrkdwn", "text": f"*{name}*\n{escaped(text, FIELD_LIMIT - 20)}"}
        for name, text in facts
        if text
    ]
    if fields:
        made.append({"type": "section", "fields": fields})
    for name, text in list(notice.evidence.items())[:EVIDENCE_COUNT]:
        seen = escaped(text.replace("```", "'''").strip(), SECTION_LIMIT - 200)
        made.append(_section(f"*{escaped(one_line(name, 80), 150)}*\n```{seen or ' '}```"))
    links = " · ".join(_links(notice.links.items()))
    if links:
        made.append(_section(links))
    labels = list(notice.labels.items())[:LABEL_COUNT]
    context = " ".join(f"{k}={v}" for k, v in sorted(labels))
    if notice.episode_id:
        context = f"{notice.episode_id} {context}"
    text = escaped(one_line(context, FIELD_LIMIT), FIELD_LIMIT)
    if text:
        made.append({"type": "context", "elements": [{"type": "mrkdwn", "text": text}]})
    return made[:BLOCK_LIMIT]


def _links(links: Iterable[tuple[str, str]]) -> list[str]:
    """Links as Slack writes them; only web addresses, none that could end its own brackets."""
    made: list[str] = []
    for text, url in list(links)[:LINK_COUNT]:
        safe = url.replace("<", "%3C").replace(">", "%3E").replace("|", "%7C").replace("&", "&amp;")
        if (
            url.startswith(("https://", "http://"))
            and len(safe) <= 200
            and not re.search(r"\s", url)
        ):
            made.append(f"<{safe}|{escaped(one_line(text, 40).replace('|', '/'), 60)}>")
    return made
