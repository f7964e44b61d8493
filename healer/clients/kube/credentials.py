"""Who we say we are: an Authorization header that follows a token which changes."""

import asyncio
from pathlib import Path
from typing import Protocol

import aiohttp
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException
from kubernetes_asyncio.config.kube_config import KubeConfigLoader

from healer.errors import Unauthorized
from healer.kernel.clock import Clock
from healer.kernel.secrets import Secret, SecretFile, same

#: How often a credential with an expiry is looked at again.
REFRESH_SECONDS = 60.0
#: A credential plug-in that takes longer is taken for hung.
PLUGIN_SECONDS = 30.0


class Credential(Protocol):
    """Gives the Authorization header of each request; empty when TLS alone says who we are."""

    async def header(self) -> str:
        """The header now. Raises Unauthorized when there is none to be had."""
        ...

    async def renew(self) -> bool:
        """After a 401: whether the next `header` is a new one worth trying."""
        ...


class FixedCredential:
    """A header that never changes, or none at all."""

    def __init__(self, header: str = "") -> None:
        self._secret = Secret(header)

    async def header(self) -> str:
        """The same header."""
        return self._secret.reveal()

    async def renew(self) -> bool:
        """Never."""
        return False


class TokenFileCredential:
    """A bearer token in a file that somebody rotates: read again whenever the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = SecretFile(path)
        self._sent = Secret("")

    async def header(self) -> str:
        """`Bearer` and the token that is in the file now."""
        self._sent = self._read()
        return f"Bearer {self._sent.reveal()}"

    async def renew(self) -> bool:
        """Whether the file holds another token than was last sent."""
        return not same(self._read().reveal(), self._sent)

    def _read(self) -> Secret:
        try:
            return self._file.read()
        except (OSError, ValueError) as error:
            raise Unauthorized(
                f"{self._path}: the token of the API server cannot be read ({error}); is the "
                "service account's token mounted?"
            ) from error


class LoadedCredential:
    """A credential that kubernetes_asyncio fetches: an exec plug-in, OIDC or GCP.

    Only one fetch at a time, with a limit; the library's own refresh loop has neither.
    """

    def __init__(
        self, loader: KubeConfigLoader, configuration: Configuration, clock: Clock
    ) -> None:
        self._loader = loader
        self._configuration = configuration
        self._clock = clock
        self._loaded_at = clock.monotonic()
        self._lock = asyncio.Lock()

    async def header(self) -> str:
        """The header, fetched again when it is about to expire."""
        if self._clock.monotonic() - self._loaded_at > REFRESH_SECONDS and self._expires():
            async with self._lock:
                if self._clock.monotonic() - self._loaded_at > REFRESH_SECONDS:
                    await self._load()
        return str(self._configuration.api_key.get("BearerToken", ""))

    async def renew(self) -> bool:
        """Whether fetching again gave another token."""
        before = self._configuration.api_key.get("BearerToken", "")
        async with self._lock:
            if self._configuration.api_key.get("BearerToken", "") == before:
                if hasattr(self._loader, "exec_plugin_expiry"):
                    del self._loader.exec_plugin_expiry  # else the plug-in is not asked
                await self._load()
        return bool(self._configuration.api_key.get("BearerToken", "") != before)

    def _expires(self) -> bool:
        # A plug-in that gave no expiry is asked again only after a 401, as kubectl does.
        return bool(self._loader.provider) or hasattr(self._loader, "exec_plugin_expiry")

    async def _load(self) -> None:
        try:
            async with asyncio.timeout(PLUGIN_SECONDS):
                await self._loader.load_and_set(self._configuration)
        except (ConfigException, OSError, ValueError, KeyError, aiohttp.ClientError) as error:
            raise Unauthorized(
                f"the kubeconfig's credential could not be renewed ({error}); run its plug-in or "
                "log in by hand to see why"
            ) from error
        self._loaded_at = self._clock.monotonic()
