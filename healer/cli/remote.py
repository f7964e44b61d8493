"""Asking the daemon: JSON over HTTP, one request, a timeout, no redirects, no proxies."""

import functools
import getpass
import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import click

from healer import __version__
from healer.errors import (
    ConfigError,
    Conflict,
    HealerError,
    NotFound,
    Refused,
    StoreUnavailable,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from healer.kernel.secrets import SecretFile

#: Where the daemon's API is when nothing else is said; the default of `listen.api`.
DEFAULT_SERVER = "http://127.0.0.1:8081"
SECONDS = 15.0
#: Largest answer that is read. Bytes.
ANSWER_BYTES = 64 << 20

_ERRORS: Mapping[int, type[HealerError]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    503: StoreUnavailable,
}


class Remote:
    """The daemon's API at one address."""

    def __init__(self, server: str, token_file: Path | None, ca_file: Path | None) -> None:
        """Raises ConfigError when the address or a file cannot be used."""
        where = urlsplit(server)
        if where.scheme not in {"http", "https"} or not where.hostname:
            raise ConfigError(f"--server {server}: write http://host:port or https://host:port")
        self._server = server
        self._where = where
        self._token = ""
        self._tls: ssl.SSLContext | None = None
        try:
            if token_file is not None:
                self._token = SecretFile(token_file).read().reveal()
            if where.scheme == "https":
                self._tls = ssl.create_default_context(cafile=ca_file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{token_file or ca_file}: {error}; give a readable file") from error

    def get(self, path: str, **query: Any) -> Any:
        """GET `path`; query values that are None are left out."""
        given = {key: value for key, value in query.items() if value is not None}
        text = urlencode(given, doseq=True)
        return self._ask("GET", path + (f"?{text}" if text else ""))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST `body` as JSON."""
        return self._ask("POST", path, json.dumps(body).encode())

    def delete(self, path: str, **query: Any) -> Any:
        """DELETE `path`."""
        return self._ask("DELETE", f"{path}?{urlencode(query)}")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        headers = {"Accept": "application/json", "User-Agent": f"healer-cli/{__version__}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        host, port = self._where.hostname or "", self._where.port
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
        try:
            connection.request(method, self._where.path.rstrip("/") + path, body, headers)
            answer = connection.getresponse()
            text = answer.read(ANSWER_BYTES)
        except TimeoutError as error:
            raise TimedOut(f"{self._server}: no answer within {SECONDS:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"{self._server} cannot be reached: {str(error) or type(error).__name__}; is the "
                "daemon running there? Set --server or HEALER_SERVER, or forward its port: "
                "kubectl -n healer port-forward deploy/healer 8081"
            ) from error
        finally:
            connection.close()
        return self._understood(answer.status, text)

    def _understood(self, status: int, text: bytes) -> Any:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise Refused(
                f"{self._server} answered {status} and no JSON: is it healer's API?"
            ) from error
        if status < 400:
            return value
        problem = value.get("error", "") if isinstance(value, dict) else ""
        raise _ERRORS.get(status, Refused)(problem or f"{self._server} answered {status}")


def asks_daemon(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--server`, `--token-file`, `--ca-file`; the command gets a `Remote` as first value."""

    @click.option(
        "--server",
        envvar="HEALER_SERVER",
        default=DEFAULT_SERVER,
        show_default=True,
        help="The daemon's API [HEALER_SERVER].",
    )
    @click.option(
        "--token-file",
        envvar="HEALER_TOKEN_FILE",
        type=click.Path(path_type=Path),
        help="File with a bearer token [HEALER_TOKEN_FILE].",
    )
    @click.option(
        "--ca-file",
        envvar="HEALER_CA_FILE",
        type=click.Path(path_type=Path),
        help="PEM bundle to trust for https [HEALER_CA_FILE].",
    )
    @functools.wraps(command)
    def asking(
        *args: Any, server: str, token_file: Path | None, ca_file: Path | None, **kwargs: Any
    ) -> Any:
        return command(Remote(server, token_file, ca_file), *args, **kwargs)

    return asking


def part(text: str) -> str:
    """`text` as one part of a path."""
    return quote(text, safe="")


def me() -> str:
    """Who is typing, for the journal."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"
