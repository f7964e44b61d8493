"""Who is calling: bearer tokens and client certificates, checked on headers alone."""

import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from aiohttp import web

from healer.errors import ConfigError
from healer.kernel.secrets import SecretFile, same
from healer.settings.listen import Person, Source

_log = logging.getLogger(__name__)


class Refusal(Enum):
    """Why a caller is sent away; the value is the HTTP status."""

    UNAUTHENTICATED = 401  #: no credential, or one that nobody has
    FORBIDDEN = 403  #: a good credential, for something else


class Tokens:
    """Up to two bearer tokens in files; both are good, so that they can be rotated."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [(path, SecretFile(path)) for path in files]

    def check(self) -> None:
        """Read every file once. Raises ConfigError naming the one that cannot be read."""
        for path, file in self._files:
            try:
                file.read()
            except (OSError, ValueError) as error:
                raise ConfigError(f"{path}: {error}; put a token on its first line") from error

    def accept(self, given: str) -> bool:
        """Whether `given` is one of them. A file that cannot be read accepts nothing."""
        for path, file in self._files:
            try:
                secret = file.read()
            except (OSError, ValueError) as error:
                _log.error("token file cannot be read", extra={"file": str(path), "error": error})
                continue
            if same(given, secret):
                return True
        return False


def bearer(request: web.Request) -> str:
    """The bearer token of the request; empty when there is none that could be one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token.isascii() else ""


def certificate_names(request: web.Request) -> frozenset[str]:
    """DNS names and common names of the caller's verified certificate."""
    shown: Any = request.transport.get_extra_info("peercert") if request.transport else None
    if not shown:
        return frozenset()
    names = {value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"}
    for part in shown.get("subject", ()):
        names.update(value for key, value in part if key == "commonName")
    return frozenset(names)


class SourceGate:
    """Who may deliver alerts as which source. Without any configured source everybody may:
    settings then allow loopback only."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._tokens = {name: Tokens(source.token_files) for name, source in sources.items()}
        self._names = {name: frozenset(source.client_names) for name, source in sources.items()}
        for tokens in self._tokens.values():
            tokens.check()

    def refuse(self, request: web.Request, source: str) -> Refusal | None:
        """None when the caller may deliver as `source`."""
        if not self._tokens:
            return None
        token, names = bearer(request), certificate_names(request)
        if source in self._tokens and self._is(source, token, names):
            return None
        if any(self._is(name, token, names) for name in self._tokens):
            return Refusal.FORBIDDEN
        return Refusal.UNAUTHENTICATED

    def _is(self, name: str, token: str, names: frozenset[str]) -> bool:
        if names & self._names[name]:
            return True
        return bool(token) and self._tokens[name].accept(token)


class PeopleGate:
    """Who may use the API. Without any configured person everybody on this machine is an operator:
    settings then allow loopback only."""

    def __init__(self, people: Mapping[str, Person]) -> None:
        self._people = {
            name: (Tokens(person.token_files), person.role) for name, person in people.items()
        }
        for tokens, _ in self._people.values():
            tokens.check()

    @property
    def open(self) -> bool:
        """Whether nobody has a credential."""
        return not self._people

    def who(self, request: web.Request) -> tuple[str, str] | None:
        """Name and role of the caller; None when the credential is nobody's."""
        token = bearer(request)
        for name, (tokens, role) in self._people.items():
            if token and tokens.accept(token):
                return name, role
        return ("", "operator") if self.open else None
