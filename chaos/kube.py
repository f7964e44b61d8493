"""A small synchronous client of the API server, with a timeout on each call.

kubernetes_asyncio finds the credentials (certificates, tokens, exec plugins); the calls are plain
HTTP, because the Chaos Toolkit runs probes and actions in threads, without an event loop.
"""

import asyncio
import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from kubernetes_asyncio import config
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config.config_exception import ConfigException

from chaos.errors import ChaosError

Json = dict[str, Any]
AGENT = "healer-chaos"
TIMEOUT_SECONDS = 10.0


class ApiError(ChaosError):
    """The API server refused; `status` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the API server answered {status}: {message}")
        self.status = status


class Kube:
    """Calls to one cluster, by the context that was named."""

    def __init__(self, kubeconfig: Path | None, context: str) -> None:
        self._kubeconfig, self._context = kubeconfig, context
        self._load()

    def _load(self) -> None:
        told = Configuration()
        file = str(self._kubeconfig) if self._kubeconfig else None
        try:
            asyncio.run(
                config.load_kube_config(
                    config_file=file, context=self._context, client_configuration=told
                )
            )
        except (ConfigException, OSError) as error:
            raise ChaosError(f"context {self._context!r} of the kubeconfig: {error}") from error
        self._address = urlsplit(str(told.host))
        self._headers = {"User-Agent": AGENT, "Accept": "application/json"}
        if token := told.api_key.get("BearerToken"):
            self._headers["Authorization"] = token
        self._tls = ssl.create_default_context(cafile=told.ssl_ca_cert)
        if told.cert_file:
            self._tls.load_cert_chain(told.cert_file, told.key_file)

    def get(self, path: str, **query: str) -> Json:
        """One object, or a list."""
        found = self.call("GET", f"{path}?{urlencode(query)}" if query else path)
        return dict(found)

    def items(self, path: str, **query: str) -> list[Json]:
        """The objects of a list."""
        return list(self.get(path, **query)["items"])

    def text(self, path: str) -> str:
        """A plain answer."""
        return self._ask("GET", path, None, "").decode(errors="replace")

    def create(self, path: str, body: Json) -> Json:
        """POST an object."""
        return dict(self.call("POST", path, body))

    def patch(self, path: str, body: Json) -> Json:
        """PATCH with a JSON merge patch."""
        return dict(self.call("PATCH", path, body, "application/merge-patch+json"))

    def delete(self, path: str, *, uid: str = "", grace: int | None = None) -> bool:
        """DELETE an object, only this incarnation when `uid` is given; False when it is gone."""
        body: Json = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
        }
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        try:
            self.call("DELETE", path, body)
        except ApiError as error:
            if error.status in {404, 409}:
                return False
            raise
        return True

    def call(
        self, method: str, path: str, body: Json | None = None, kind: str = "application/json"
    ) -> Any:
        """One request, its answer parsed; credentials that ran out are read again once."""
        try:
            answer = self._ask(method, path, body, kind)
        except ApiError as error:
            if error.status != 401:
                raise
            self._load()
            answer = self._ask(method, path, body, kind)
        return json.loads(answer)

    def _ask(self, method: str, path: str, body: Json | None, kind: str) -> bytes:
        host, port = self._address.hostname or "", self._address.port
        connection: http.client.HTTPConnection
        if self._address.scheme == "http":
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        else:
            connection = http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT_SECONDS, context=self._tls
            )
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = kind
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, self._address.path.rstrip("/") + path, content, headers)
            answer = connection.getresponse()
            data = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(answer.status, f"{method} {path}: {data[:400].decode(errors='replace')}")
        return data


def condition(it: Json, kind: str) -> str:
    """The status of a condition; empty when it is not there."""
    conditions = it.get("status", {}).get("conditions") or []
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "")


def living(pods: list[Json]) -> list[Json]:
    """The pods that are not on their way out."""
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
