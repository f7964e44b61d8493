"""Paths of the Kubernetes API, built only from names that cannot mean anything else.

An empty name would turn "delete this pod" into "delete all pods", and `..` would climb out of the
namespace, so both are refused here, before a request exists.
"""

import re

from healer.domain.kinds import RESOURCES, Resource, is_namespaced
from healer.domain.target import Kind, TargetRef
from healer.errors import ConfigError, Refused

# DNS-1123 subdomain, what the API server demands of the names of every kind in `Kind`.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def collection_path(kind: Kind, namespace: str = "", resource: Resource | None = None) -> str:
    """The path of all objects of a kind in a namespace; empty is all namespaces."""
    served = resource or RESOURCES[kind]
    root = f"/apis/{served.group}/{served.version}" if served.group else f"/api/{served.version}"
    if not namespace or not is_namespaced(kind):
        return f"{root}/{served.plural}"
    if not _NAMESPACE.fullmatch(namespace):
        raise Refused(f"{namespace[:80]!r} cannot be the name of a namespace; correct the target")
    return f"{root}/namespaces/{namespace}/{served.plural}"


def object_path(ref: TargetRef, subresource: str = "") -> str:
    """The path of exactly one object. Raises Refused when the reference cannot name one."""
    if is_namespaced(ref.kind) and not ref.namespace:
        raise Refused(f"{ref} names no namespace; a {ref.kind} lives in one")
    if not _NAME.fullmatch(ref.name):
        raise Refused(f"{ref.name[:80]!r} cannot be the name of a {ref.kind}; correct the target")
    if subresource and not subresource.isalpha():
        raise Refused(f"{subresource[:80]!r} cannot be a subresource of {ref}")
    path = f"{collection_path(ref.kind, ref.namespace)}/{ref.name}"
    return f"{path}/{subresource}" if subresource else path


def lease_paths(namespace: str, name: str) -> tuple[str, str]:
    """The paths of a namespace's Leases and of one. Raises ConfigError when there can be none."""
    if not _NAMESPACE.fullmatch(namespace) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{namespace[:80]!r}, {name[:80]!r} cannot name a Lease; correct "
            "kubernetes.own_namespace and election.lease_name"
        )
    every = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    return every, f"{every}/{name}"
