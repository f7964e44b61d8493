"""A fake Alertmanager: what was posted fires until it ends, and silences run by the clock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from healer.domain.alert import Alert, AlertStatus
from healer.errors import HealerError
from healer.kernel.clock import Clock
from healer.kernel.ids import label_fingerprint, random_id


@dataclass(frozen=True, slots=True)
class FakeSilence:
    """One silence."""

    id: str
    matchers: Mapping[str, str]
    ends_at: float
    comment: str


class FakeAlerts:
    """`healer.ports.Alerts` in memory. `down` is raised by every call while it is set."""

    def __init__(
        self,
        clock: Clock,
        *,
        source: str = "alertmanager",
        route: Callable[[Mapping[str, str]], str] = lambda labels: "default",
    ) -> None:
        """`route` names the receiver of an alert by its labels."""
        self._clock = clock
        self._source = source
        self._route = route
        self._alerts: dict[str, Alert] = {}
        self.silences: list[FakeSilence] = []
        self.posted: list[Alert] = []  #: everything that was ever posted, in order
        self.down: HealerError | None = None

    def fire(self, labels: Mapping[str, str], starts_at: float | None = None) -> Alert:
        """Have an alert fire, as if Prometheus had sent it."""
        at = self._clock.now() if starts_at is None else starts_at
        fingerprint = label_fingerprint(labels)
        alert = Alert(self._source, fingerprint, AlertStatus.FIRING, dict(labels), at)
        self._alerts[fingerprint] = alert
        return alert

    def end(self, labels: Mapping[str, str]) -> None:
        """Have an alert resolve."""
        self._alerts.pop(label_fingerprint(labels), None)

    def _here(self) -> None:
        if self.down is not None:
            raise self.down

    async def firing(self, receiver: str = "") -> Sequence[Alert]:
        """Alerts that have not ended, of one receiver when named."""
        self._here()
        now = self._clock.now()
        return [
            replace(alert, ends_at=None, polled_at=now)
            for alert in self._alerts.values()
            if (alert.ends_at is None or alert.ends_at > now)
            and (not receiver or self._route(alert.labels) == receiver)
        ]

    async def silence(
        self, matchers: Mapping[str, str], seconds: float, comment: str, now: float
    ) -> str:
        """Create a silence unless one with this comment is in force; returns its id."""
        if not comment or seconds <= 0 or not any(matchers.values()):
            raise ValueError("a silence needs a comment, a duration, and a label with a value")
        self._here()
        for known in self.silences:
            if known.comment == comment and known.ends_at > self._clock.now():
                return known.id
        made = FakeSilence(random_id("silence"), dict(matchers), now + seconds, comment)
        self.silences.append(made)
        return made.id

    async def expire(self, silence_id: str) -> None:
        """End a silence; one that is gone is fine."""
        self._here()
        now = self._clock.now()
        self.silences = [
            replace(s, ends_at=min(s.ends_at, now)) if s.id == silence_id else s
            for s in self.silences
        ]

    async def post(self, alerts: Sequence[Alert]) -> None:
        """Take alerts: a firing one fires, a resolved one ends."""
        self._here()
        self.posted.extend(alerts)
        for alert in alerts:
            fingerprint = label_fingerprint(alert.labels)
            if alert.status is AlertStatus.RESOLVED:
                self._alerts.pop(fingerprint, None)
                continue
            self._alerts[fingerprint] = replace(alert, source=self._source, fingerprint=fingerprint)

    async def ready(self) -> None:
        """Returns unless `down` is set."""
        self._here()
