"""Finds the API server and our credential: a service account, or a context of a kubeconfig."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException
from kubernetes_asyncio.config.incluster_config import (
    SERVICE_CERT_FILENAME,
    SERVICE_HOST_ENV_NAME,
    SERVICE_TOKEN_FILENAME,
    InClusterConfigLoader,
)
from kubernetes_asyncio.config.kube_config import KubeConfigLoader, KubeConfigMerger

from healer.clients.kube.credentials import (
    Credential,
    FixedCredential,
    LoadedCredential,
    TokenFileCredential,
)
from healer.errors import ConfigError, HealerError
from healer.kernel.clock import Clock

#: What the library raises for one broken kubeconfig or another.
_BROKEN = (
    ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError,
    yaml.YAMLError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Access:
    """The way to one API server."""

    configuration: Configuration
    credential: Credential

    @property
    def host(self) -> str:
        """Its address, without a slash at the end."""
        return str(self.configuration.host).rstrip("/")


async def find_access(clock: Clock, kubeconfig: str = "", context: str = "") -> Access:
    """The named context of the named kubeconfig; without either, the pod's service account.

    Outside a cluster the kubeconfig is what kubectl would take: `$KUBECONFIG`, else
    `~/.kube/config`. Raises ConfigError.
    """
    if not kubeconfig and not context and os.environ.get(SERVICE_HOST_ENV_NAME):
        return in_cluster(Path(SERVICE_TOKEN_FILENAME), Path(SERVICE_CERT_FILENAME))
    # The library reads $KUBECONFIG when it is imported, which is too early for a test or a CLI.
    default = str(Path.home() / ".kube" / "config")
    paths = kubeconfig or os.environ.get("KUBECONFIG") or default
    return await from_kubeconfig(clock, paths, context)


def in_cluster(token: Path, authority: Path) -> Access:
    """A pod's service account; its token is read again when the kubelet rotates it."""
    configuration = Configuration()
    # The library would send the token as it was up to a minute ago, with its line break.
    loader = InClusterConfigLoader(str(token), str(authority), try_refresh_token=False)
    try:
        loader.load_and_set(configuration)
    except (ConfigException, OSError) as error:
        raise ConfigError(
            f"the pod's service account cannot be used ({error}); mount its token or name a "
            "kubeconfig"
        ) from error
    return Access(_settled(configuration), TokenFileCredential(token))


async def from_kubeconfig(clock: Clock, paths: str, context: str = "") -> Access:
    """A context of one or more kubeconfig files; an empty context is their current one."""
    configuration = Configuration()
    try:
        merger = KubeConfigMerger(paths)
        if merger.config is None:
            raise ConfigError(f"{paths}: there is no kubeconfig; name one that exists")
        loader = KubeConfigLoader(
            merger.config, active_context=context or None, config_base_path=None
        )
        await loader.load_and_set(configuration)
        credential = _credential(clock, merger, loader, configuration)
    except HealerError:
        raise
    except _BROKEN as error:
        named = f"context {context!r}" if context else "the current context"
        raise ConfigError(
            f"{paths}: {named} cannot be used ({error}); see `kubectl config get-contexts`"
        ) from error
    return Access(_settled(configuration), credential)


def _credential(
    clock: Clock, merger: KubeConfigMerger, loader: KubeConfigLoader, configuration: Configuration
) -> Credential:
    user, base = _user(merger, loader)
    if "exec" in user or loader.provider:
        return LoadedCredential(loader, configuration, clock)
    if user.get("tokenFile") and not user.get("token"):
        return TokenFileCredential(base / user["tokenFile"])
    return FixedCredential(configuration.api_key.get("BearerToken", ""))


def _user(merger: KubeConfigMerger, loader: KubeConfigLoader) -> tuple[dict[str, Any], Path]:
    # `tokenFile` is read once by the library and its content forgotten to be a file's.
    current = loader.current_context or {}
    name = (current.get("context") or {}).get("user")
    config = merger.config
    if config is None or not name or not config.safe_get("users"):
        return {}, Path()
    node = config["users"].get_with_name(name, safe=True)
    if not node or not node.safe_get("user"):
        return {}, Path()
    value: dict[str, Any] = node.value["user"]
    return value, Path(node.path or ".").resolve().parent


def _settled(configuration: Configuration) -> Configuration:
    configuration.client_side_validation = False
    return configuration
