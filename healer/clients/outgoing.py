"""One bounded, timed HTTP call to a configured server, in our own errors.

No redirects, no cookies, no proxy from the environment, and never more than `limit` bytes read.
"""

import asyncio
import io
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from healer.errors import (
    Blind,
    ConfigError,
    Refused,
    Throttled,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from healer.kernel.secrets import SecretFile

#: Of a foreign error text, so much is repeated in ours.
QUOTE = 500
#: A connection is made within this, or the server counts as unreachable.
CONNECT_SECONDS = 5.0
#: Larger bodies are written piece by piece, so that writing does not hold up the loop.
LARGE = 1 << 20
#: Larger answers are parsed in a thread: this much takes about 3 ms.
OFF_LOOP_BYTES = 256 * 1024

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Access:
    """How to authenticate, and whom to trust. Files are read again when they change, but for the
    certificates: those are read once."""

    token_file: Path | None = None  #: bearer token
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None  #: PEM bundle to trust instead of the system's
    cert_file: Path | None = None
    key_file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  #: e.g. X-Scope-OrgID

    def tls(self) -> ssl.SSLContext:
        """A verifying client context. Raises ConfigError naming the file that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(f) for f in (self.ca_file, self.cert_file, self.key_file) if f)
            raise ConfigError(
                f"TLS files cannot be used: {error}; check that {files} are PEM and match"
            ) from error
        return context


def secret_text(file: SecretFile, what: str) -> str:
    """The secret in `file` as it is now. Raises ConfigError that says which one is missing."""
    try:
        return file.read().reveal()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what} cannot be read: {error}; mount the secret there") from error


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole, bounded answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, cut to what an error message can hold."""
        return self.body[: 4 * QUOTE].decode(errors="replace").strip()[:QUOTE]

    @property
    def retry_after(self) -> float | None:
        """Seconds of `Retry-After`, when it names seconds."""
        value = self.headers.get("Retry-After", "").strip()
        return float(value) if value.isdecimal() else None


class Outgoing:
    """Calls to one server. `name` is how errors call it; `close` it when done."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        access: Access | None = None,
        timeout: float = 10.0,
        limit: int = 1 << 20,
    ) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._access = access or Access()
        self._limit = limit
        self._token = SecretFile(self._access.token_file) if self._access.token_file else None
        password = self._access.password_file
        self._password = SecretFile(password) if password else None
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def call(
        self,
        method: str,
        path: str = "",
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - handed to the client, which enforces it
        repeatable: bool = False,
    ) -> Reply:
        """One request; the status is the caller's to judge (`refuse`).

        `repeatable` sends it once more when a kept-alive connection turned out to be closed.
        Raises Unreachable, TimedOut, Blind (answer larger than the limit) or ConfigError.
        """
        attempts = 2 if repeatable else 1
        while True:
            attempts -= 1
            try:
                data = form or (body if len(body or b"") <= LARGE else io.BytesIO(body or b""))
                return await self._once(method, path, params, data, headers, timeout)
            except Unreachable as error:
                if attempts == 0 or not error.may_have_happened:
                    raise

    async def _once(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        data: Any,
        headers: Mapping[str, str] | None,
        timeout: float | None,  # noqa: ASYNC109
    ) -> Reply:
        seconds = self.timeout if timeout is None else timeout
        limits = aiohttp.ClientTimeout(total=seconds, connect=min(CONNECT_SECONDS, seconds))
        try:
            session = await self._opened()
            async with session.request(
                method,
                self.url + path,
                params=params,
                data=data,
                headers={**self._credentials(), **(headers or {})},
                timeout=limits,
                allow_redirects=False,
            ) as response:
                return Reply(response.status, response.headers, await self._bounded(response))
        except aiohttp.ConnectionTimeoutError as error:
            raise Unreachable(
                f"{self.name}: no connection to {self.url} in time", sent=False
            ) from error
        except TimeoutError as error:
            raise TimedOut(
                f"{self.name}: no answer from {self.url} within {seconds:g} s"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"{self.name}: no connection: {error}", sent=False) from error
        except aiohttp.InvalidURL:
            raise ConfigError(f"{self.name}: {self.url} is not a URL; correct it") from None
        except aiohttp.ClientResponseError as error:
            # Its text and its cause hold the whole URL, and Slack's is a secret.
            raise Unreachable(f"{self.name}: the answer is not HTTP: {error.message}") from None
        except (aiohttp.ClientError, OSError) as error:
            what = str(error) or type(error).__name__
            raise Unreachable(f"{self.name}: the connection broke: {what}") from error

    async def _bounded(self, response: aiohttp.ClientResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self._limit:
                response.close()
                raise Blind(
                    f"{self.name}: the answer is larger than {self._limit >> 10} KiB; "
                    "ask for less, e.g. aggregate with sum by (…)"
                )
            parts.append(part)
        return b"".join(parts)

    def _credentials(self) -> dict[str, str]:
        headers = dict(self._access.headers)
        if self._token is not None:
            headers["Authorization"] = f"Bearer {secret_text(self._token, f'{self.name}: token')}"
        elif self._password is not None:
            password = secret_text(self._password, f"{self.name}: password")
            headers["Authorization"] = aiohttp.encode_basic_auth(self._access.username, password)
        return headers

    async def _opened(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                # Reading the trusted certificates takes tens of milliseconds.
                context = await asyncio.to_thread(self._access.tls)
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=context, limit=16),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"User-Agent": "healer"},
                )
            return self._session

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def refuse(self, reply: Reply, words: str = "") -> None:
        """Raise our error for any status but 2xx; `words` are the server's own, if known."""
        if 200 <= reply.status < 300:
            return
        said = f"{self.name} answered {reply.status}: {words or reply.text or 'nothing more'}"
        if reply.status in {401, 403}:
            raise Unauthorized(f"{said}; check its credential")
        if reply.status == 429:
            raise Throttled(said, retry_after=reply.retry_after)
        if reply.status >= 500 or reply.status == 408:
            error = Unreachable(said)
            error.retry_after = reply.retry_after
            raise error
        if 300 <= reply.status < 400:
            where = reply.headers.get("Location", "elsewhere")
            raise Refused(f"{said}; it redirects to {where[:200]}, and redirects are not followed")
        raise Refused(said)


async def parsed(body: bytes, parse: Callable[[bytes], Parsed]) -> Parsed:
    """`parse(body)`, in a thread when the body is so large that it would hold up the loop."""
    if len(body) <= OFF_LOOP_BYTES:
        return parse(body)
    return await asyncio.to_thread(parse, body)
