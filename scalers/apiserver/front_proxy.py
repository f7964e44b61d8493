"""Who the caller is: told in headers by an API server that proved itself with a certificate.

Facts of `kube-system/extension-apiserver-authentication`, as k8s.io/apiserver reads them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from multidict import CIMultiDictProxy

from scalers.apiserver.contract import MetricsApiError, Who

ANONYMOUS = "system:anonymous"
AUTHENTICATED, UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"
#: So many callers are remembered, each by what its headers say.
MET = 1024
_PLACE = "ConfigMap kube-system/extension-apiserver-authentication"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose word counts, and in which headers it comes."""

    authority: str  #: PEM
    names: frozenset[str]  #: common names that may speak for others; empty: any
    user_headers: tuple[str, ...]
    uid_headers: tuple[str, ...]
    group_headers: tuple[str, ...]
    extra_prefixes: tuple[str, ...]  #: lower case
    single: frozenset[str]  #: the names of all other headers, lower case
    _met: dict[tuple[str, ...], Who | None] = field(default_factory=dict, compare=False, repr=False)

    def who(self, headers: CIMultiDictProxy[str]) -> Who | None:
        """Whom the headers name; None when they name nobody. The same caller is the same value."""
        said: list[str] = []
        for name, value in headers.items():
            lower = name.lower()
            if lower in self.single or lower.startswith(self.extra_prefixes):
                said += (lower, value)
        key = tuple(said)
        try:
            return self._met[key]
        except KeyError:
            if len(self._met) >= MET:
                self._met.clear()
            who = self._met[key] = self._read(headers)
            return who

    def _read(self, headers: CIMultiDictProxy[str]) -> Who | None:
        user = next(iter(_values(headers, self.user_headers)), "")
        if not user:
            return None
        extra: dict[str, list[str]] = {}
        for name, value in headers.items():
            lower = name.lower()
            for prefix in self.extra_prefixes:
                if lower.startswith(prefix):
                    extra.setdefault(unquote(lower[len(prefix) :]), []).append(value)
        return Who(
            user,
            next(iter(_values(headers, self.uid_headers)), ""),
            _with_authenticated(user, tuple(_values(headers, self.group_headers))),
            tuple((key, tuple(extra[key])) for key in sorted(extra)),
        )

    def speaks(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether the holder of this verified certificate may name users."""
        if not certificate:
            return False
        return not self.names or bool(self.names & set(_common_names(certificate)))


def read(data: Mapping[str, str]) -> Trust:
    """The trust that this ConfigMap tells of. Raises MetricsApiError."""
    authority = data.get("requestheader-client-ca-file", "")
    if not authority.strip():
        raise MetricsApiError(
            f"{_PLACE} has no requestheader-client-ca-file: the API server runs without "
            "--requestheader-client-ca-file, so the aggregation layer is off; turn it on"
        )
    names = frozenset(_list(data, "requestheader-allowed-names"))
    if not names and authority.strip() == data.get("client-ca-file", "").strip():
        raise MetricsApiError(
            f"{_PLACE}: the front proxy's authority signs users too and no name is demanded, so "
            "every user could speak for every other; set --requestheader-allowed-names"
        )
    users = _list(data, "requestheader-username-headers")
    if not users:
        raise MetricsApiError(
            f"{_PLACE} names no requestheader-username-headers; set it at the API server"
        )
    uids = _list(data, "requestheader-uid-headers")
    groups = _list(data, "requestheader-group-headers")
    prefixes = _list(data, "requestheader-extra-headers-prefix")
    return Trust(
        authority, names, users, uids, groups, tuple(one.lower() for one in prefixes),
        frozenset(one.lower() for one in (*users, *uids, *groups)),
    )  # fmt: skip


def _with_authenticated(user: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    # As k8s.io/apiserver does for everybody whom an authenticator knows: the aggregator itself
    # comes without any group.
    if user == ANONYMOUS or AUTHENTICATED in groups or UNAUTHENTICATED in groups:
        return groups
    return (*groups, AUTHENTICATED)


def _list(data: Mapping[str, str], key: str) -> tuple[str, ...]:
    text = data.get(key, "")
    if not text.strip():
        return ()
    try:
        value = json.loads(text)
    except ValueError as error:
        raise MetricsApiError(f"{_PLACE}: {key} is not JSON ({error})") from error
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise MetricsApiError(f"{_PLACE}: {key} is not a list of texts")
    return tuple(value)


def _values(headers: CIMultiDictProxy[str], names: Iterable[str]) -> list[str]:
    return [value for name in names for value in headers.getall(name, ()) if value]


def _common_names(certificate: Mapping[str, Any]) -> list[str]:
    return [
        value for part in certificate.get("subject", ()) for key, value in part
        if key == "commonName"
    ]  # fmt: skip
