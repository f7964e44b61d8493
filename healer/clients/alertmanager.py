"""Alertmanager over its API v2: the present level of alerts, silences, and alerts of our own."""

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from healer.clients.outgoing import Access, Outgoing, Reply, parsed
from healer.domain.alert import Alert, AlertStatus
from healer.errors import Blind, HealerError, TemporaryError
from healer.kernel.clock import Clock, parse_rfc3339, rfc3339
from healer.ports import JsonObject

_log = logging.getLogger(__name__)

BODY_LIMIT = 64 << 20
CREATED_BY = "healer"
#: A silence begins when its asker says, unless that is further than this from the true time.
TOLD_SECONDS = 300.0
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")
_IN_FORCE = frozenset({"active", "pending"})
_T = TypeVar("_T")


class _Alert(msgspec.Struct):
    labels: dict[str, str]
    fingerprint: str
    startsAt: str  # noqa: N815 - as Alertmanager writes it
    annotations: dict[str, str] = {}
    generatorURL: str = ""  # noqa: N815


class _Status(msgspec.Struct):
    state: str


class _Silence(msgspec.Struct):
    id: str
    comment: str
    status: _Status


class _Created(msgspec.Struct):
    silenceID: str  # noqa: N815


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Blind(f"alertmanager: the answer is not what its API promises: {error}") from error


def quote_regex(text: str) -> str:
    """`text` as a Go regular expression that matches nothing else (`regexp.QuoteMeta`)."""
    return _META.sub(lambda match: "\\" + match[0], text)


class Alertmanager:
    """`healer.ports.Alerts` on one Alertmanager or the members of one cluster.

    Members share silences but not alerts: so alerts are posted to all, as Prometheus does, and
    everything else is asked of whichever answers, the one that did last time first.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        clock: Clock,
        access: Access | None = None,
        timeout: float = 10.0,
        source: str = "alertmanager",
    ) -> None:
        """`source` names the alerts read from it. Raises ValueError without any URL."""
        if not urls:
            raise ValueError("alertmanager: no URL; set alertmanager.urls")
        self._members = [
            Outgoing(f"alertmanager {url}", url, access=access, timeout=timeout, limit=BODY_LIMIT)
            for url in urls
        ]
        self._clock = clock
        self._source = source

    async def firing(self, receiver: str = "") -> Sequence[Alert]:
        """Active alerts (silenced and inhibited ones included), of one receiver when named."""
        params = dict.fromkeys(("active", "silenced", "inhibited", "unprocessed"), "true")
        if receiver:
            params["receiver"] = quote_regex(receiver)
        reply = await self._any("GET", "/api/v2/alerts", params)
        now = self._clock.now()
        return await parsed(reply.body, lambda body: self._alerts(body, now))

    def _alerts(self, body: bytes, now: float) -> list[Alert]:
        try:
            return [
                Alert(
                    self._source,
                    alert.fingerprint,
                    AlertStatus.FIRING,
                    alert.labels,
                    parse_rfc3339(alert.startsAt),
                    annotations=alert.annotations,
                    generator_url=alert.generatorURL,
                    polled_at=now,
                )
                for alert in _decode(body, list[_Alert])
            ]
        except ValueError as error:
            raise Blind(f"alertmanager: an alert's startsAt is {error}") from error

    async def silence(
        self, matchers: Mapping[str, str], seconds: float, comment: str, now: float
    ) -> str:
        """Create a silence unless one with this comment is in force; returns its id.

        Raises ValueError without matchers, without a comment, or when all of them match nothing in
        particular: empty never means all.
        """
        if not comment or seconds <= 0 or not any(matchers.values()):
            raise ValueError("a silence needs a comment, a duration, and a label with a value")
        listed = await self._any("GET", "/api/v2/silences", {})
        for known in await parsed(listed.body, lambda body: _decode(body, list[_Silence])):
            if known.comment == comment and known.status.state in _IN_FORCE:
                return known.id
        # One who asks by a time of its own, behind the true one since a jump, would be refused.
        wall = self._clock.now()
        begins = now if abs(wall - now) <= TOLD_SECONDS else wall
        body = {
            "matchers": [
                {"name": name, "value": value, "isRegex": False, "isEqual": True}
                for name, value in sorted(matchers.items())
            ],
            "startsAt": rfc3339(begins),
            "endsAt": rfc3339(begins + seconds),
            "createdBy": CREATED_BY,
            "comment": comment,
        }
        reply = await self._any("POST", "/api/v2/silences", {}, body)
        return _decode(reply.body, _Created).silenceID

    async def expire(self, silence_id: str) -> None:
        """End a silence; one that is gone is fine."""
        if not re.fullmatch(r"[0-9a-fA-F-]{1,64}", silence_id):
            raise ValueError(f"not the id of a silence: {silence_id[:64]!r}")
        path = f"/api/v2/silence/{silence_id}"
        looked = await self._any("GET", path, {}, missing=True)
        if looked.status == 404 or _decode(looked.body, _Silence).status.state not in _IN_FORCE:
            return
        await self._any("DELETE", path, {}, missing=True)

    async def post(self, alerts: Sequence[Alert]) -> None:
        """Send our own alerts to every member; one that takes them is enough.

        A firing alert without `ends_at` ends by itself after Alertmanager's `resolve_timeout`
        (5 minutes) unless it is posted again.
        """
        body = [_posted(alert, self._clock.now()) for alert in alerts]
        if not body:
            return
        outcomes = await asyncio.gather(
            *(self._one(member, "POST", "/api/v2/alerts", {}, body) for member in self._members),
            return_exceptions=True,
        )
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for error in errors:
            if len(errors) == len(outcomes) or not isinstance(error, HealerError):
                raise error
            _log.warning("one alertmanager took no alerts", extra={"error": str(error)})

    async def ready(self) -> None:
        """Returns when one member answers; raises TemporaryError otherwise."""
        await self._any("GET", "/-/ready", {})

    async def close(self) -> None:
        """Let go of the connections."""
        for member in self._members:
            await member.close()

    async def _any(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: Any = None,
        *,
        missing: bool = False,
    ) -> Reply:
        """The answer of the first member that gives one. A refusal is an answer: it is final."""
        trouble: list[TemporaryError] = []
        for member in list(self._members):
            try:
                reply = await self._one(member, method, path, params, body, missing=missing)
            except TemporaryError as error:
                trouble.append(error)
                # The next call begins with a member that is not known to be down.
                self._members.remove(member)
                self._members.append(member)
            else:
                return reply
        raise trouble[0]

    async def _one(
        self,
        member: Outgoing,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: Any = None,
        *,
        missing: bool = False,
    ) -> Reply:
        reply = await member.call(
            method,
            path,
            params=params,
            body=None if body is None else msgspec.json.encode(body),
            headers={} if body is None else {"Content-Type": "application/json"},
            repeatable=method == "GET",
        )
        if not (missing and reply.status == 404):
            member.refuse(reply)
        return reply


def _posted(alert: Alert, now: float) -> JsonObject:
    """`alert` as Alertmanager takes it; a resolved one ends now at the latest."""
    posted: JsonObject = {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": rfc3339(alert.starts_at),
    }
    ends_at = alert.ends_at
    if alert.status is AlertStatus.RESOLVED:
        ends_at = min(now if ends_at is None else ends_at, now)
    if ends_at is not None:
        posted["endsAt"] = rfc3339(ends_at)
    if alert.generator_url:
        posted["generatorURL"] = alert.generator_url
    return posted
