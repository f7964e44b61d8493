"""What Prometheus' API answers, as domain values; what is not a plain number becomes Blind."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from healer.clients.relabel import Relabel
from healer.domain.alert import Alert, AlertStatus
from healer.errors import Blind, Refused, TimedOut
from healer.kernel.clock import parse_rfc3339
from healer.kernel.ids import label_fingerprint
from healer.ports import AlertingRule, Sample

#: Warnings of the PromQL engine are about the expression; any other is about missing data.
_ENGINE_WARNING = "PromQL warning"


class _Envelope(msgspec.Struct):
    status: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")
    errorType: str = ""  # noqa: N815 - as Prometheus writes it
    error: str = ""
    warnings: list[str] | None = None  # `infos` are hints to the author of the query, not faults


class _QueryData(msgspec.Struct):
    resultType: str  # noqa: N815
    result: msgspec.Raw


class Row(msgspec.Struct):
    """One series of an instant vector, unchecked."""

    metric: dict[str, str]
    value: tuple[float, str] | None = None  #: None for a native histogram


class _Rule(msgspec.Struct):
    type: str = ""
    name: str = ""
    query: str = ""
    duration: float = 0.0
    keepFiringFor: float = 0.0  # noqa: N815
    labels: dict[str, str] = {}


class _RuleGroup(msgspec.Struct):
    rules: list[_Rule] = []
    interval: float = 60.0


class _Rules(msgspec.Struct):
    groups: list[_RuleGroup] = []


class _Alert(msgspec.Struct):
    labels: dict[str, str]
    state: str
    activeAt: str | None = None  # noqa: N815
    annotations: dict[str, str] = {}


class _Alerts(msgspec.Struct):
    alerts: list[_Alert] = []


class _Config(msgspec.Struct):
    yaml: str


class Partial(Blind):
    """The answer is incomplete; `everywhere` when whatever is asked would be."""

    def __init__(self, message: str, *, everywhere: bool) -> None:
        super().__init__(message)
        self.everywhere = everywhere


def _decode(body: bytes | msgspec.Raw, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Blind(f"prometheus: the answer is not what its API promises: {error}") from error


def complaint(body: bytes) -> tuple[str, str]:
    """(errorType, error) of an error answer; empty texts when it is not one of Prometheus."""
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, RecursionError):
        return "", ""
    return envelope.errorType, envelope.error


def data(body: bytes) -> msgspec.Raw:
    """The `data` of a whole, successful answer. Raises Partial, Blind, Refused or TimedOut."""
    envelope: _Envelope = _decode(body, _Envelope)
    if envelope.status != "success":
        text = f"prometheus: {envelope.errorType}: {envelope.error}"
        raise TimedOut(text) if envelope.errorType == "timeout" else Refused(text)
    if envelope.warnings:
        everywhere = not all(w.startswith(_ENGINE_WARNING) for w in envelope.warnings)
        raise Partial(
            f"prometheus: the answer may be incomplete: {'; '.join(envelope.warnings)[:500]}",
            everywhere=everywhere,
        )
    return envelope.data


def rows(body: bytes) -> tuple[str, list[Row]]:
    """(result type, rows) of an instant query; a scalar is one row without labels."""
    found: _QueryData = _decode(data(body), _QueryData)
    match found.resultType:
        case "vector":
            return "vector", _decode(found.result, list[Row])
        case "scalar":
            return "scalar", [Row({}, _decode(found.result, tuple[float, str]))]
        case other:
            raise Refused(
                f"prometheus: the expression gives a {other}, not a vector; "
                "put a function such as rate() or last_over_time() around it"
            )


def samples(found: Sequence[Row], now: float, max_age: float) -> list[Sample]:
    """The rows as samples. Raises Blind for a value or time that nothing may be decided on."""
    checked: list[Sample] = []
    seen: set[frozenset[tuple[str, str]]] = set()
    for row in found:
        if row.value is None:
            raise Refused(
                f"prometheus: {_series(row)} is a native histogram; "
                "use histogram_quantile() or histogram_count()"
            )
        at, text = row.value
        try:
            value = float(text)
        except ValueError as error:
            raise Blind(f"prometheus: {_series(row)} has the value {text[:40]!r}") from error
        if not math.isfinite(value):
            raise Blind(f"prometheus: {_series(row)} is {text}: there is nothing to decide on")
        if not abs(now - at) <= max_age:
            raise Blind(
                f"prometheus: {_series(row)} is {now - at:+.0f} s old, more than {max_age:g} s "
                "apart from our clock; check both clocks and any cache between"
            )
        identity = frozenset(row.metric.items())
        if identity in seen:
            raise Blind(f"prometheus: {_series(row)} came twice in one answer")
        seen.add(identity)
        checked.append(Sample(row.metric, value, at))
    return checked


def _series(row: Row) -> str:
    labels = ", ".join(f'{k}="{v}"' for k, v in sorted(row.metric.items()) if k != "__name__")
    return f"{row.metric.get('__name__', '')}{{{labels}}}"[:300]


def rules(body: bytes) -> list[AlertingRule]:
    """Every alerting rule in the answer."""
    found: _Rules = _decode(data(body), _Rules)
    return [
        AlertingRule(
            rule.name, rule.query, rule.duration, rule.keepFiringFor, rule.labels, group.interval
        )
        for group in found.groups
        for rule in group.rules
        if rule.type == "alerting"
    ]


@dataclass(frozen=True, slots=True)
class Outward:
    """How Prometheus changes an alert's labels before Alertmanager sees it."""

    external_labels: Mapping[str, str]
    relabel: tuple[Relabel, ...] = ()

    def labels(self, given: Mapping[str, str]) -> dict[str, str] | None:
        """Labels as sent; None when the alert is dropped. A label of its own wins over ours."""
        labels = {**self.external_labels, **{k: v for k, v in given.items() if v}}
        for rule in self.relabel:
            changed = rule.apply(labels)
            if changed is None:
                return None
            labels = changed
        return {name: value for name, value in labels.items() if value}


def firing(body: bytes, outward: Outward, source: str, now: float) -> list[Alert]:
    """The firing alerts, each as Alertmanager gets it; copies that relabelling made equal are one.

    `starts_at` is when the expression became true, so earlier by `for` than Alertmanager says.
    """
    found: _Alerts = _decode(data(body), _Alerts)
    by_fingerprint: dict[str, Alert] = {}
    for alert in found.alerts:
        labels = outward.labels(alert.labels) if alert.state == "firing" else None
        if labels is None:
            continue
        try:
            starts_at = parse_rfc3339(alert.activeAt or "")
        except ValueError as error:
            raise Blind(f"prometheus: an alert's activeAt is {error}") from error
        fingerprint = label_fingerprint(labels)
        known = by_fingerprint.get(fingerprint)
        if known is None or starts_at < known.starts_at:
            by_fingerprint[fingerprint] = Alert(
                source,
                fingerprint,
                AlertStatus.FIRING,
                labels,
                starts_at,
                annotations=alert.annotations,
                polled_at=now,
            )
    return list(by_fingerprint.values())


_SECTION = re.compile(r"^(?:global|alerting):.*\n(?:[ \-].*\n?|\n)*", re.MULTILINE)


def outgoing_sections(body: bytes) -> str:
    """The `global` and `alerting` sections of the loaded configuration: a whole one may be MBs.

    Prometheus writes top-level keys at the start of a line, and nothing else there.
    """
    config: _Config = _decode(data(body), _Config)
    return "".join(_SECTION.findall(config.yaml + "\n"))
