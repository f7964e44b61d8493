"""What the API server, or the way to it, said no with, as one of our errors.

Above all `may_have_happened` must be right. A read, a dry run, a refused connection and every
answer that the API server gives before it stores anything leave no effect; a lost or late answer to
a write may.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from healer.errors import (
    Conflict,
    HealerError,
    NotFound,
    Refused,
    ServerFailed,
    TemporaryError,
    Throttled,
    TimedOut,
    Unauthorized,
    Unreachable,
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call in words, for error texts."""

    verb: str  #: as RBAC writes it: get, list, watch, create, patch, delete
    what: str  #: `deployments.apps default/web`
    writes: bool = False  #: whether it changes something when it succeeds
    tests: bool = False  #: its body holds a precondition of ours (JSON patch `test`)

    def __str__(self) -> str:
        return f"{self.verb} {self.what}"


class Gone(TemporaryError):
    """410: the resourceVersion or continue token is too old; list again."""


# "User … cannot patch resource …" is a missing right; every other 403 is admission saying no
# (quota, PodSecurity, a namespace that is being deleted), which no right would change.
_RIGHT = re.compile(r"cannot \S+ (resource|path) ")
# Admission comes before storage.
_BEFORE_STORAGE = ("failed calling webhook", "failed to call webhook")
_TWO_BUDGETS = "more than one PodDisruptionBudget"


def from_answer(call: Call, code: int, headers: Mapping[str, str], body: bytes) -> HealerError:
    """The error of an answer with a status of 300 or more."""
    said = _status(body)
    text = str(said.get("message") or body[:300].decode(errors="replace").strip() or "no text")
    words = f"{call}: HTTP {code}: {text[:1000]}"
    match code:
        case 404:
            return NotFound(words)
        case 409:
            return Conflict(words)
        case 410:
            return _calm(Gone(words))
        case 429:
            return Throttled(words, retry_after=_retry_after(headers, said))
        case 401:
            return Unauthorized(
                f"{words}; the API server does not accept healer's credential for {call}: check "
                "that its token or certificate is of this cluster and has not expired"
            )
        case 403 if not said or _RIGHT.search(text):
            return Unauthorized(
                f"{words}; healer lacks the right to {call}: grant it to healer's account by RBAC"
            )
        case 422 if _precondition_failed(call, said):
            return Conflict(f"{words} (the object is not the one that was observed)")
        case 500 if _TWO_BUDGETS in text:
            return Refused(f"{words}; leave one PodDisruptionBudget for the pod")
        case _ if code >= 500:
            retry = _retry_after(headers, said)
            effect = call.writes and not _surely_nothing(code, said, text)
            return ServerFailed(words, may_have_happened=effect, retry_after=retry)
        case _:
            return Refused(words)


def from_transport(call: Call, error: Exception, timeout_seconds: float) -> HealerError:
    """The error of a call that got no whole answer."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Unreachable(
            f"{call}: no connection to the API server in time ({error}); is it up, and is the "
            "network open?",
            sent=False,
        )
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return Unreachable(
            f"{call}: no trusted connection to the API server ({error}); check the certificate "
            "authority and the server name of the configuration",
            sent=False,
        )
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL):
        return Unreachable(f"{call}: no connection to the API server ({error})", sent=False)
    if isinstance(error, TimeoutError):
        late = TimedOut(f"{call}: no answer from the API server within {timeout_seconds:g} s")
        return late if call.writes else _calm(late)
    words = str(error) or type(error).__name__
    return Unreachable(
        f"{call}: the connection to the API server broke before the answer came ({words})",
        sent=call.writes,
    )


def unreadable(call: Call, error: Exception) -> HealerError:
    """The error of a good status with a body that is not what was asked for."""
    return ServerFailed(
        f"{call}: the answer is not the JSON of a Kubernetes API server ({error}); is a proxy in "
        "between?",
        may_have_happened=call.writes,
    )


def _calm(error: HealerError) -> HealerError:
    error.may_have_happened = False
    return error


def _status(body: bytes) -> dict[str, Any]:
    with contextlib.suppress(msgspec.DecodeError):  # a proxy's page: no Status, which says enough
        value = msgspec.json.decode(body)
        if isinstance(value, dict) and value.get("kind") == "Status":
            return value
    return {}


def _retry_after(headers: Mapping[str, str], said: Mapping[str, Any]) -> float | None:
    text = headers.get("Retry-After", "")
    if text.isdigit():
        return float(text)
    seconds = (said.get("details") or {}).get("retryAfterSeconds")
    return float(seconds) if seconds else None


def _precondition_failed(call: Call, said: Mapping[str, Any]) -> bool:
    # Seen on 1.36: a merge patch with another uid is "metadata.uid: field is immutable"; a JSON
    # patch whose `test` fails is an Invalid without any details.
    causes = (said.get("details") or {}).get("causes") or ()
    if any(cause.get("field") == "metadata.uid" for cause in causes):
        return True
    return call.tests and not causes


def _surely_nothing(code: int, said: Mapping[str, Any], text: str) -> bool:
    # 503 from the API server itself comes before the request is handled; from a proxy it may come
    # after the request was passed on.
    return bool(said) and (code == 503 or any(words in text for words in _BEFORE_STORAGE))
