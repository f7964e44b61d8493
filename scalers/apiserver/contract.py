"""What the metrics API needs of the cluster it serves, and the values that pass between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class MetricsApiError(Exception):
    """The metrics API cannot start or go on as configured; names the place and the remedy."""


class Unavailable(Exception):
    """The cluster could not be asked, or did not answer; trying again later can help."""


@dataclass(frozen=True, slots=True)
class Who:
    """A caller, as the API server that passed the request on named it."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()  #: sorted by key
    _hash: int = field(init=False, compare=False, repr=False)  #: looked up for each request

    def __post_init__(self) -> None:
        key = (self.user, self.uid, self.groups, self.extra)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True)
class Question:
    """May somebody do this? Either `path` is set, or the rest is, as in SubjectAccessReview."""

    verb: str
    path: str = ""  #: a path that names no resource
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        place = (self.group, self.version, self.namespace)
        key = (self.verb, self.path, *place, self.resource, self.subresource, self.name)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash


class AuthenticationSource(Protocol):
    """The ConfigMap `extension-apiserver-authentication` of `kube-system`."""

    async def read(self) -> Mapping[str, str]:
        """Its `data`, fresh. Raises Unavailable."""
        ...


class Reviewer(Protocol):
    """Asks the API server what somebody may do."""

    async def allowed(self, who: Who, question: Question) -> bool:
        """Its answer to one SubjectAccessReview. Raises Unavailable."""
        ...


class ApiServices(Protocol):
    """The APIService objects, whose `caBundle` says which certificate the aggregator trusts."""

    async def bundle(self, name: str) -> tuple[bytes, str]:
        """Its `caBundle` as PEM, perhaps empty, and its resourceVersion. Raises Unavailable."""
        ...

    async def trust(self, name: str, bundle: bytes, version: str) -> None:
        """Put this PEM there, if it is still of that version. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and as whom the metrics API listens."""

    host: str = "0.0.0.0"  # noqa: S104 - the aggregator reaches it from outside of the pod
    port: int = 6443
    service: str = "healer-metrics"
    namespace: str = "healer"
    #: PEM files, read again when they change; None: a certificate is made, and told to APIServices.
    cert_file: Path | None = None
    key_file: Path | None = None
    #: The APIServices whose `caBundle` is kept when the certificate is self-made.
    api_services: Sequence[str] = (
        "v1beta1.external.metrics.k8s.io",
        "v1beta1.custom.metrics.k8s.io",
        "v1beta2.custom.metrics.k8s.io",
    )
    review: bool = True  #: ask a SubjectAccessReview for what the API server passed on

    @property
    def server_name(self) -> str:
        """The name by which the aggregator checks the certificate."""
        return f"{self.service}.{self.namespace}.svc"
