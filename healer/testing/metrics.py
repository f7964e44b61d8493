"""A fake Prometheus: each expression answers what the test says it does."""

from collections.abc import Mapping, Sequence

from healer.domain.alert import Alert, AlertStatus
from healer.domain.promql import tokens
from healer.errors import HealerError, Refused
from healer.kernel.clock import Clock
from healer.kernel.ids import label_fingerprint
from healer.ports import AlertingRule, Sample

_Answer = Sequence[Sample] | Exception


class FakeMetrics:
    """`healer.ports.Metrics` in memory. `down` is raised by every call while it is set.

    An expression nobody set finds nothing, as a metric nobody exports; one whose brackets do not
    pair up is refused.
    """

    def __init__(self, clock: Clock, *, external_labels: Mapping[str, str] | None = None) -> None:
        self._clock = clock
        self._external = dict(external_labels or {})
        self._answers: dict[str, list[tuple[Mapping[str, str], float]] | Exception] = {}
        self._alerts: dict[str, Alert] = {}
        self.alerting_rules: list[AlertingRule] = []
        self.asked: list[str] = []  #: every expression that was asked, in order
        self.down: HealerError | None = None

    def set(self, expr: str, *series: float | tuple[Mapping[str, str], float]) -> None:
        """`expr` answers these series; a number alone has no labels, and none at all is empty."""
        self._answers[expr] = [s if isinstance(s, tuple) else ({}, float(s)) for s in series]

    def fail(self, expr: str, error: HealerError) -> None:
        """`expr` fails, for instance with Blind."""
        self._answers[expr] = error

    def fire(self, labels: Mapping[str, str], starts_at: float | None = None) -> Alert:
        """Have an alert fire; external labels are added."""
        full = {**self._external, **labels}
        fingerprint = label_fingerprint(full)
        at = self._clock.now() if starts_at is None else starts_at
        self._alerts[fingerprint] = Alert("prometheus", fingerprint, AlertStatus.FIRING, full, at)
        return self._alerts[fingerprint]

    def end(self, labels: Mapping[str, str]) -> None:
        """Have an alert stop."""
        self._alerts.pop(label_fingerprint({**self._external, **labels}), None)

    def _here(self) -> None:
        if self.down is not None:
            raise self.down

    async def query(self, expr: str) -> Sequence[Sample]:
        """What was set for `expr`, at the clock's time."""
        self._here()
        self.asked.append(expr)
        try:
            tokens(expr)
        except ValueError as error:
            raise Refused(f"prometheus: parse error: {error}") from error
        found = self._answers.get(expr, [])
        if isinstance(found, Exception):
            raise found
        now = self._clock.now()
        return [Sample(dict(labels), value, now) for labels, value in found]

    async def query_many(self, exprs: Sequence[str]) -> Mapping[str, _Answer]:
        """Each expression's answer or error."""
        found: dict[str, _Answer] = {}
        for expr in dict.fromkeys(exprs):
            try:
                found[expr] = await self.query(expr)
            except HealerError as error:
                found[expr] = error
        return found

    async def rules(self) -> Sequence[AlertingRule]:
        """`alerting_rules`."""
        self._here()
        return list(self.alerting_rules)

    async def firing(self) -> Sequence[Alert]:
        """What was fired and has not ended."""
        self._here()
        now = self._clock.now()
        return [
            Alert(a.source, a.fingerprint, a.status, a.labels, a.starts_at, polled_at=now)
            for a in self._alerts.values()
        ]

    async def ready(self) -> None:
        """Returns unless `down` is set."""
        self._here()
