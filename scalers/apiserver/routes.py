"""From a request's path to what it asks for."""

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from scalers.apiserver.contract import Question

EXTERNAL = "external.metrics.k8s.io"
CUSTOM = "custom.metrics.k8s.io"
VERSIONS = {EXTERNAL: ("v1beta1",), CUSTOM: ("v1beta2", "v1beta1")}  #: the preferred one first
EVERY = "*"
SPECIFICATIONS = ("/openapi/v2", "/openapi/v3")


@dataclass(frozen=True, slots=True)
class ExternalAsk:
    """An external metric of a namespace."""

    namespace: str
    metric: str
    labels: str  #: `labelSelector` as it came

    @property
    def question(self) -> Question:
        """What the caller must be allowed, as Go's RequestInfo reads this path."""
        return Question(
            "list", group=EXTERNAL, version="v1beta1", namespace=self.namespace,
            resource=self.metric,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CustomAsk:
    """A custom metric of one object, or (`name` is `*`) of all that match."""

    version: str
    namespace: str  #: empty: objects without one
    resource: str
    group: str  #: of the described object
    name: str
    metric: str
    labels: str  #: of the objects
    metric_labels: str
    special: bool = False  #: came by `namespaces/{name}/metrics/{metric}`

    @property
    def question(self) -> Question:
        """What the caller must be allowed, as Go's RequestInfo reads this path."""
        if self.special:
            return Question(
                "get", group=CUSTOM, version=self.version, namespace=self.name,
                resource="metrics", name=self.metric,
            )  # fmt: skip
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        return Question(
            "get", group=CUSTOM, version=self.version, namespace=self.namespace,
            resource=resource, name=self.name, subresource=self.metric,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class DiscoveryAsk:
    """What is served: of everything, of a group, of one version of it; or a specification."""

    path: str
    group: str = ""
    version: str = ""

    @property
    def question(self) -> Question:
        """What the caller must be allowed: to get the path."""
        return Question("get", path=self.path)


Ask = ExternalAsk | CustomAsk | DiscoveryAsk


def read(target: str) -> Ask | None:
    """What the target of a request line (`/path?query`) asks for; None when nothing is there."""
    path, _, query = target.partition("?")
    if path in SPECIFICATIONS:
        return DiscoveryAsk(path)
    parts = [unquote(part) for part in path.split("/")[1:]]
    if parts and not parts[-1]:
        parts.pop()
    if not parts or parts[0] != "apis" or not all(parts):
        return None
    if len(parts) == 1:
        return DiscoveryAsk("/apis")
    group = parts[1]
    if group not in VERSIONS:
        return None
    if len(parts) == 2:
        return DiscoveryAsk(f"/apis/{group}", group)
    version, rest = parts[2], parts[3:]
    if version not in VERSIONS[group]:
        return None
    if not rest:
        return DiscoveryAsk(f"/apis/{group}/{version}", group, version)
    given = dict(parse_qsl(query, keep_blank_values=True))
    labels = given.get("labelSelector", "")
    if group == EXTERNAL:
        if len(rest) == 3 and rest[0] == "namespaces":
            return ExternalAsk(rest[1], rest[2], labels)
        return None
    return _custom(version, rest, labels, given.get("metricLabelSelector", ""))


def _custom(version: str, rest: list[str], labels: str, metric_labels: str) -> CustomAsk | None:
    match rest:
        case ["namespaces", name, "metrics", metric]:
            return CustomAsk(
                version, "", "namespaces", "", name, metric, labels, metric_labels, special=True
            )
        case ["namespaces", namespace, qualified, name, metric]:
            pass
        case [qualified, name, metric] if qualified != "namespaces":
            namespace = ""
        case _:
            return None
    resource, _, group = qualified.partition(".")
    return CustomAsk(version, namespace, resource, group, name, metric, labels, metric_labels)
