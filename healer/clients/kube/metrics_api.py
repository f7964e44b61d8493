"""What `scalers.apiserver` asks of the cluster: whom to believe, who may what, who trusts us."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Self

from healer.clients.kube.connection import FIELD_MANAGER, Connection
from healer.clients.kube.errors import Call
from healer.clients.kube.reading import decode
from healer.errors import HealerError
from healer.kernel.clock import Clock
from healer.ports import Permission
from scalers.apiserver.contract import Question, Unavailable, Who

_AUTHENTICATION = "kube-system/extension-apiserver-authentication"
_AUTHENTICATION_PATH = (
    "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
)
_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
#: What it needs everywhere; the ConfigMap is read by a Role that every cluster has
#: (`extension-apiserver-authentication-reader`).
REVIEW = Permission("create", "subjectaccessreviews", "authorization.k8s.io")
#: What it needs of its own APIServices when it makes its certificate itself.
TRUST = (
    Permission("get", "apiservices", "apiregistration.k8s.io"),
    Permission("patch", "apiservices", "apiregistration.k8s.io"),
)


class KubeMetricsApi:
    """An `AuthenticationSource`, a `Reviewer` and `ApiServices` on one connection of their own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(
        cls, clock: Clock, *, kubeconfig: str = "", context: str = "", timeout_seconds: float = 5.0
    ) -> Self:
        """On the API server that `find_access` finds; nothing is sent yet. Raises ConfigError."""
        return cls(
            await Connection.open(
                clock, kubeconfig=kubeconfig, context=context, timeout_seconds=timeout_seconds
            )
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def read(self) -> Mapping[str, str]:
        """The data of the ConfigMap that tells whom to believe. Raises Unavailable."""
        call = Call("get", f"configmaps {_AUTHENTICATION}")
        return dict((await self._call("GET", _AUTHENTICATION_PATH, call)).get("data") or {})

    async def allowed(self, who: Who, question: Question) -> bool:
        """One SubjectAccessReview. Raises Unavailable."""
        asked: dict[str, Any] = {
            "user": who.user, "uid": who.uid, "groups": list(who.groups),
            "extra": {key: list(values) for key, values in who.extra},
        }  # fmt: skip
        if question.path:
            asked["nonResourceAttributes"] = {"verb": question.verb, "path": question.path}
        else:
            asked["resourceAttributes"] = {
                "verb": question.verb, "group": question.group, "version": question.version,
                "namespace": question.namespace, "resource": question.resource,
                "subresource": question.subresource, "name": question.name,
            }  # fmt: skip
        body = {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": asked,
        }  # fmt: skip
        call = Call("create", "subjectaccessreviews.authorization.k8s.io")
        status = (await self._call("POST", _REVIEWS, call, body)).get("status") or {}
        return bool(status.get("allowed")) and not status.get("denied")

    async def bundle(self, name: str) -> tuple[bytes, str]:
        """The `caBundle` of an APIService and its resourceVersion. Raises Unavailable."""
        call = Call("get", f"apiservices.apiregistration.k8s.io {name}")
        found = await self._call("GET", f"{_SERVICES}/{name}", call)
        text = str((found.get("spec") or {}).get("caBundle") or "")
        version = str((found.get("metadata") or {}).get("resourceVersion") or "")
        try:
            return base64.b64decode(text, validate=True), version
        except binascii.Error as error:
            raise Unavailable(f"{call}: its caBundle is not base64 ({error}); clear it") from error

    async def trust(self, name: str, bundle: bytes, version: str) -> None:
        """Put this PEM there if it is still of that version. Raises Unavailable."""
        call = Call("patch", f"apiservices.apiregistration.k8s.io {name}", writes=True)
        text = base64.b64encode(bundle).decode()
        body = {
            "metadata": {"resourceVersion": version},
            "spec": {"caBundle": text, "insecureSkipTLSVerify": False},
        }
        await self._call("PATCH", f"{_SERVICES}/{name}", call, body)

    async def _call(self, method: str, path: str, call: Call, body: Any = None) -> dict[str, Any]:
        query = {"fieldManager": FIELD_MANAGER} if call.writes else None
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            content = await self._connection.call(
                method, path, call, query=query, body=body, content_type=kind
            )
            return decode(call, content)
        except HealerError as error:
            raise Unavailable(str(error)) from error
