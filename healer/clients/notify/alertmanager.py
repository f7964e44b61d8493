"""Our own alert, `HealerRemediationFailed`: the routes that page people today page them for it.

Alertmanager keeps alerts in memory only, so what is still open is posted again (`repeat`); which
notices those are only the journal knows.
"""

from collections.abc import Awaitable, Callable, Sequence

from healer.clients.notify.wording import cut, notice_of
from healer.domain.alert import Alert, AlertStatus
from healer.domain.message import Notice, NoticeEvent
from healer.kernel.clock import Clock
from healer.kernel.ids import label_fingerprint
from healer.ports import Alerts, Message

ALERT_NAME = "HealerRemediationFailed"
#: Without being posted again an open alert ends after this: long enough for a restart of healer.
HOLD_SECONDS = 4 * 3600.0
EVIDENCE_LIMIT = 2048

OpenNotices = Callable[[], Awaitable[Sequence[Notice]]]


class AlertmanagerNotifier:
    """`healer.ports.Notifier` on the Alertmanagers that are read from."""

    def __init__(
        self,
        name: str,
        alerts: Alerts,
        *,
        clock: Clock,
        open_notices: OpenNotices | None = None,
        hold_seconds: float = HOLD_SECONDS,
    ) -> None:
        """`open_notices` tells, from the journal, which notices are triggered and not resolved."""
        self.name = name
        self._alerts = alerts
        self._clock = clock
        self._open = open_notices
        self._hold = hold_seconds

    async def send(self, message: Message) -> None:
        """Post the alert, or its end. Posting again is the same alert: its labels are equal."""
        await self._alerts.post([self._alert(notice_of(message))])

    async def repeat(self) -> int:
        """Post every open notice again; returns how many. Run it about every minute."""
        if self._open is None:
            return 0
        notices = [n for n in await self._open() if n.event is NoticeEvent.TRIGGER]
        if notices:
            await self._alerts.post([self._alert(notice) for notice in notices])
        return len(notices)

    def _alert(self, notice: Notice) -> Alert:
        labels = failure_labels(notice)
        firing = notice.event is NoticeEvent.TRIGGER
        now = self._clock.now()
        return Alert(
            "healer",
            label_fingerprint(labels),
            AlertStatus.FIRING if firing else AlertStatus.RESOLVED,
            labels,
            min(notice.at, now),
            now + self._hold if firing else now,
            _annotations(notice),
        )


def failure_labels(notice: Notice) -> dict[str, str]:
    """The original's labels under our name, so an inhibit rule can match the two by `equal`.

    Nothing that may differ between trigger and resolve is among them.
    """
    labels = {name: value for name, value in notice.labels.items() if value}
    original = labels.pop("alertname", "")
    labels["alertname"] = ALERT_NAME
    if original:
        labels["original_alertname"] = original
    if not notice.labels and notice.episode_id:
        labels["episode"] = notice.episode_id
    return labels


def _annotations(notice: Notice) -> dict[str, str]:
    found = {
        "summary": notice.title,
        "description": notice.text,
        "reason": notice.reason,
        "playbook": notice.playbook,
        "target": notice.target,
        "episode": notice.episode_id,
        "healer_severity": str(notice.severity),
        **{f"link_{_key(k)}": v for k, v in notice.links.items()},
        **{f"evidence_{_key(k)}": cut(v, EVIDENCE_LIMIT) for k, v in notice.evidence.items()},
    }
    if "runbook" in notice.links:
        found["runbook_url"] = notice.links["runbook"]
    return {name: text for name, text in found.items() if text}


def _key(text: str) -> str:
    """`text` as the end of an annotation's name."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in text)[:60]
