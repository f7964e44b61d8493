"""PagerDuty, Events API v2: one incident an episode, resolved when the alert is over."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from healer.clients.notify.wording import cut, notice_of, one_line, thread_of
from healer.clients.outgoing import Outgoing, secret_text
from healer.domain.message import Notice, NoticeEvent
from healer.kernel.ids import digest
from healer.kernel.secrets import SecretFile
from healer.ports import Message

URL = "https://events.pagerduty.com/v2/enqueue"
#: Limits of the Events API; a whole event may have 512 KiB.
SUMMARY_LIMIT, DEDUP_LIMIT, SOURCE_LIMIT = 1024, 255, 255
DETAIL_LIMIT, EVIDENCE_LIMIT, EVIDENCE_COUNT, LINK_COUNT = 4096, 8192, 20, 20


class PagerDuty:
    """`healer.ports.Notifier` on one PagerDuty service integration."""

    def __init__(
        self, name: str, routing_key_file: Path, *, url: str = URL, timeout: float = 10.0
    ) -> None:
        self.name = name
        self._key = SecretFile(routing_key_file)
        self._http = Outgoing(f"pagerduty {name}", url, timeout=timeout)

    async def send(self, message: Message) -> None:
        """Trigger or resolve. Sending again updates the same incident: the key is the episode's.

        Raises Refused when PagerDuty finds the event wrong, Throttled with 429.
        """
        notice = notice_of(message)
        event: dict[str, Any] = {
            "routing_key": secret_text(self._key, f"pagerduty {self.name}: routing key"),
            "event_action": str(notice.event),
            "dedup_key": dedup_key(message, notice),
        }
        if notice.event is NoticeEvent.TRIGGER:
            event |= _content(notice)
        reply = await self._http.call(
            "POST",
            body=msgspec.json.encode(event),
            headers={"Content-Type": "application/json"},
        )
        self._http.refuse(reply)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.close()


def dedup_key(message: Message, notice: Notice) -> str:
    """What trigger and resolve of one episode share; a longer one than allowed is hashed."""
    key = thread_of(message, notice)
    return key if len(key) <= DEDUP_LIMIT else f"healer/{digest(key)}"


def _content(notice: Notice) -> dict[str, Any]:
    details = {
        "text": notice.text,
        "reason": notice.reason,
        "playbook": notice.playbook,
        "episode": notice.episode_id,
        "target": notice.target,
    }
    evidence = list(notice.evidence.items())[:EVIDENCE_COUNT]
    return {
        "payload": {
            "summary": one_line(notice.title, SUMMARY_LIMIT) or "healer needs a person",
            "source": one_line(notice.target, SOURCE_LIMIT) or "healer",
            "severity": str(notice.severity),
            "timestamp": datetime.fromtimestamp(notice.at, UTC).isoformat(timespec="milliseconds"),
            "component": cut(notice.target, SOURCE_LIMIT),
            "group": cut(notice.labels.get("namespace", ""), SOURCE_LIMIT),
            "class": cut(notice.labels.get("alertname", ""), SOURCE_LIMIT),
            "custom_details": {
                **{name: cut(text, DETAIL_LIMIT) for name, text in details.items() if text},
                "labels": {k: cut(v, 1024) for k, v in list(notice.labels.items())[:64]},
                "evidence": {k: cut(v, EVIDENCE_LIMIT) for k, v in evidence},
            },
        },
        "client": "healer",
        "links": [
            {"href": href, "text": text}
            for text, href in list(notice.links.items())[:LINK_COUNT]
            if href.startswith(("https://", "http://"))
        ],
    }
