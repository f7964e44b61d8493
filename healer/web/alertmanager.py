"""Alertmanager's webhook body as alerts. Lenient: one bad alert costs only itself.

Only `alerts[].labels`, `status` and `startsAt` are required; unknown keys are ignored, and the
group's own status is never looked at (contract: Alertmanager `template.Data`, version 4).
"""

import re
from dataclasses import dataclass

import msgspec

from healer.domain.alert import Alert, AlertStatus, Rejected
from healer.kernel.clock import parse_rfc3339
from healer.kernel.ids import label_fingerprint
from healer.settings.listen import Limits

#: How much of a rejected alert is kept. Bytes.
KEPT_BYTES = 16_384
#: An alert larger than this is rejected unread: 64 labels of 1 KiB, and long annotations. Bytes.
ALERT_BYTES = 1 << 20
#: Annotations are for people and no identity, so a longer one is cut, not refused. Characters.
ANNOTATION_LENGTH = 16_384
#: From here on the shape of a body is looked at before anything of it is made. Bytes.
LARGE_BYTES = 1 << 20
#: Most list elements that are picked apart one by one when some are no alerts at all.
LOOSE_ELEMENTS = 500_000

_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_QUOTED = re.compile(r"\\(.)", re.DOTALL)


class Malformed(ValueError):
    """The body is not what Alertmanager sends; sending it again cannot help."""


class TooLarge(ValueError):
    """The body is larger than the limits allow; the text names the limit."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One body, understood."""

    alerts: tuple[Alert, ...]
    rejected: tuple[Rejected, ...]
    receiver: str  #: as configured, unescaped
    truncated: int  #: alerts that Alertmanager cut off


class _Body(msgspec.Struct):
    alerts: list[msgspec.Raw]
    receiver: msgspec.Raw = msgspec.Raw(b'""')
    truncatedAlerts: msgspec.Raw = msgspec.Raw(b"0")  # noqa: N815 - Alertmanager's spelling


class _Object(msgspec.Struct):
    """Any JSON object; nothing of it is kept."""


class _Shape(msgspec.Struct):
    alerts: list[_Object]


class _Required(msgspec.Struct):
    labels: dict[str, str]
    status: str
    startsAt: str  # noqa: N815


class _Full(_Required):
    annotations: dict[str, str] | None = None
    endsAt: str = ""  # noqa: N815
    generatorURL: str = ""  # noqa: N815
    fingerprint: str = ""


_body = msgspec.json.Decoder(_Body)
_shape = msgspec.json.Decoder(_Shape)
_required = msgspec.json.Decoder(_Required)
_full = msgspec.json.Decoder(_Full)
_text = msgspec.json.Decoder(str)
_number = msgspec.json.Decoder(int)
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def parse(body: bytes, source: str, limits: Limits) -> Delivery:
    """The alerts of `body`, each valid or rejected. Raises Malformed or TooLarge for all of it.

    Pure and free of the event loop: large bodies are parsed in a thread. No single call in it holds
    the interpreter for more than about 50 ms at 32 MiB.
    """
    whole = _open(body, limits)
    if len(whole.alerts) > limits.alerts:
        raise TooLarge(f"{len(whole.alerts)} alerts; limits.alerts is {limits.alerts}")
    alerts: list[Alert] = []
    rejected: list[Rejected] = []
    for index, raw in enumerate(whole.alerts):
        try:
            alerts.append(_alert(raw, source, limits))
        except (ValueError, OverflowError, *_ERRORS) as error:
            kept = bytes(memoryview(raw)[:KEPT_BYTES]).decode(errors="replace")
            rejected.append(Rejected(source, f"alerts[{index}]: {error}", kept))
    return Delivery(tuple(alerts), tuple(rejected), _receiver(whole), _truncated(whole))


def _open(body: bytes, limits: Limits) -> _Body:
    try:
        if len(body) > LARGE_BYTES:
            _check_shape(body, limits)
        return _body.decode(body)
    except _ERRORS as error:
        raise Malformed(str(error)) from error


def _check_shape(body: bytes, limits: Limits) -> None:
    """Refuse what would make millions of values out of a few megabytes, before making them."""
    # An alert has three objects: itself, labels, annotations. One more leaves room for text.
    if _count(body, b"{") > 4 * limits.alerts:
        raise TooLarge(f"more objects than {limits.alerts} alerts have; limits.alerts is that")
    try:
        found = len(_shape.decode(body).alerts)
    except msgspec.ValidationError as error:
        if _count(body, b",") > LOOSE_ELEMENTS:
            raise Malformed(f"not a list of alerts: {error}") from error
        return
    if found > limits.alerts:
        raise TooLarge(f"{found} alerts; limits.alerts is {limits.alerts}")


def _count(body: bytes, byte: bytes) -> int:
    """Occurrences of `byte`, counted in pieces so that other threads get their turn."""
    piece = 1 << 20
    return sum(body.count(byte, start, start + piece) for start in range(0, len(body), piece))


def _alert(raw: msgspec.Raw, source: str, limits: Limits) -> Alert:
    if len(memoryview(raw)) > ALERT_BYTES:
        raise ValueError(f"larger than {ALERT_BYTES} bytes")
    try:
        given = _full.decode(raw)
    except msgspec.ValidationError:
        needed = _required.decode(raw)  # what is wrong may be something we can do without
        given = _Full(needed.labels, needed.status, needed.startsAt)
    if given.status not in _STATUS:
        raise ValueError(f"status {given.status[:40]!r} is neither firing nor resolved")
    _check_labels(given.labels, limits)
    starts_at = parse_rfc3339(given.startsAt)
    if starts_at < 0:
        raise ValueError("startsAt is not set")
    status = AlertStatus(given.status)
    ends_at = None
    if status is AlertStatus.RESOLVED and given.endsAt:
        ends_at = parse_rfc3339(given.endsAt)
        if ends_at < 0:
            ends_at = None
    fingerprint = given.fingerprint
    if not _FINGERPRINT.fullmatch(fingerprint):
        fingerprint = label_fingerprint(given.labels)
    return Alert(
        source=source,
        fingerprint=fingerprint,
        status=status,
        labels=given.labels,
        starts_at=starts_at,
        ends_at=ends_at,
        annotations={
            name[:ANNOTATION_LENGTH]: text[:ANNOTATION_LENGTH]
            for name, text in list((given.annotations or {}).items())[: limits.labels]
        },
        generator_url=given.generatorURL[:ANNOTATION_LENGTH],
    )


_STATUS = frozenset(AlertStatus)


def _check_labels(labels: dict[str, str], limits: Limits) -> None:
    if not labels:
        raise ValueError("it has no labels; an alert without any would match nothing or all")
    if len(labels) > limits.labels:
        raise ValueError(f"{len(labels)} labels; limits.labels is {limits.labels}")
    longest = limits.label_bytes
    for name, value in labels.items():
        # A character is at most four bytes: short text needs no encoding to be known short.
        if 4 * max(len(name), len(value)) > longest and (
            len(name.encode()) > longest or len(value.encode()) > longest
        ):
            raise ValueError(f"label {name[:40]!r} is longer than limits.label_bytes, {longest}")


def _receiver(whole: _Body) -> str:
    """Alertmanager sends `regexp.QuoteMeta(name)`; this is the name (Alertmanager #1718)."""
    try:
        return _QUOTED.sub(r"\1", _text.decode(whole.receiver))[:256]
    except _ERRORS:
        return ""


def _truncated(whole: _Body) -> int:
    try:
        return max(0, _number.decode(whole.truncatedAlerts))
    except _ERRORS:
        return 0
