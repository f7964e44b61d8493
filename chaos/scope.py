"""Where experiments are allowed: only where the label says so, and nowhere by default."""

from chaos.errors import Refused
from chaos.kube import ApiError, Json, Kube

LABEL = "healer.dev/chaos"
ALLOWED = "allowed"


def is_allowed(it: Json) -> bool:
    """Whether the object carries the label."""
    return bool((it["metadata"].get("labels") or {}).get(LABEL) == ALLOWED)


def require_namespace(kube: Kube, namespace: str) -> None:
    """Raise Refused unless experiments are allowed in the namespace."""
    try:
        found = kube.get(f"/api/v1/namespaces/{namespace}")
    except ApiError as error:
        if error.status != 404:
            raise
        raise Refused(
            f"namespace {namespace!r} does not exist: create it and label it "
            f"`kubectl label namespace {namespace} {LABEL}={ALLOWED}`"
        ) from error
    if not is_allowed(found):
        raise Refused(
            f"namespace {namespace!r} is not labelled for experiments, so nothing is done in it. "
            f"If it may be broken: `kubectl label namespace {namespace} {LABEL}={ALLOWED}`"
        )


def require_node(kube: Kube, name: str) -> None:
    """Raise Refused unless experiments are allowed on the node."""
    if not is_allowed(kube.get(f"/api/v1/nodes/{name}")):
        raise Refused(
            f"node {name!r} is not labelled for experiments, so nothing is done to it. If it and "
            f"all that runs there may be broken: `kubectl label node {name} {LABEL}={ALLOWED}`"
        )
