"""A few plain calls to an API server, for starting a cluster and looking at it.

Synchronous and small on purpose: the bed has no event loop, and a kubectl process for
every look would cost more than the look.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.bed.errors import BedError

Json = Any


class ApiError(BedError):
    """The API server refused; `status` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"API server answered {status}: {message}")
        self.status = status


class Api:
    """Calls with the client certificate of a kubeconfig the bed wrote."""

    def __init__(self, kubeconfig: Path, timeout: float = 10.0) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster = content["clusters"][0]["cluster"]
        user = content["users"][0]["user"]
        if "client-certificate-data" not in user or "certificate-authority-data" not in cluster:
            raise BedError(f"{kubeconfig} has no embedded client certificate: use kubectl with it")
        address = urlsplit(cluster["server"])
        self._host, self._port = address.hostname or "", address.port or 443
        self._timeout = timeout
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]))
            pair.write(base64.b64decode(user["client-key-data"]))
            pair.flush()
            self._tls.load_cert_chain(pair.name)

    def get(self, path: str) -> Json:
        """The parsed answer to a GET."""
        return json.loads(self.call("GET", path))

    def text(self, path: str) -> str:
        """The plain answer to a GET."""
        return self.call("GET", path).decode()

    def create(self, path: str, body: Json) -> Json:
        """POST an object; one that is there already is left as it is."""
        try:
            return json.loads(self.call("POST", path, body))
        except ApiError as error:
            if error.status != 409:
                raise
            return None

    def merge(self, path: str, body: Json) -> Json:
        """PATCH an object with a JSON merge patch."""
        return json.loads(self.call("PATCH", path, body, "application/merge-patch+json"))

    def delete(self, path: str) -> None:
        """DELETE an object; one that is not there is fine."""
        try:
            self.call("DELETE", path)
        except ApiError as error:
            if error.status != 404:
                raise

    def call(
        self, method: str, path: str, body: Json = None, kind: str = "application/json"
    ) -> bytes:
        """One request; raises ApiError for a status of 400 or more."""
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=self._tls
        )
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, path, content, {"Content-Type": kind})
            answer = connection.getresponse()
            data = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(answer.status, f"{method} {path}: {data[:500].decode(errors='replace')}")
        return data


def ready(node: Json) -> bool:
    """True when a Node object's Ready condition is True."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
