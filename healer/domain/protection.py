"""What healer never acts on, compiled in: the cluster's own organs, itself, and its senses."""

from collections.abc import Sequence
from dataclasses import dataclass

from healer.domain.target import Kind, Observation

#: Namespaces whose loss takes the cluster, or healer's sight of it, away.
PROTECTED_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})
#: Any of these in the `app.kubernetes.io/name` label marks something healer depends on.
PROTECTED_APPS = frozenset({
    "prometheus", "alertmanager", "prometheus-operator", "kube-state-metrics", "coredns",
    "kube-dns",
    "calico", "cilium", "flannel", "csi-driver", "healer", "cert-manager-webhook",
})  # fmt: skip
#: `"true"` on any object forbids acting on it; nothing in a playbook overrides it.
PROTECT_ANNOTATION = "healer.dev/protect"


@dataclass(frozen=True, slots=True)
class Protection:
    """What the administrator adds, and what a playbook was explicitly given back."""

    own_namespace: str = ""
    namespaces: Sequence[str] = ()
    kinds: Sequence[str] = ()
    objects: Sequence[str] = ()  #: `Kind/namespace/name`, or `Kind/name`
    unprotected_namespaces: Sequence[str] = ()


def protected_because(seen: Observation, protection: Protection) -> str:
    """Why the target must not be touched; empty when it may be."""
    ref = seen.ref
    if seen.annotations.get(PROTECT_ANNOTATION, "").lower() == "true":
        return f"{ref} is annotated {PROTECT_ANNOTATION}=true"
    if ref.kind in protection.kinds or str(ref) in protection.objects:
        return f"{ref} is protected by the settings"
    if ref.kind is Kind.NODE:
        return ""
    namespace = ref.namespace
    if namespace and namespace in protection.unprotected_namespaces:
        return ""
    if namespace == protection.own_namespace and namespace:
        return f"{ref} is in healer's own namespace"
    if namespace in PROTECTED_NAMESPACES or namespace in protection.namespaces:
        return f"namespace {namespace} is protected"
    app = seen.labels.get("app.kubernetes.io/name", seen.labels.get("k8s-app", ""))
    if app in PROTECTED_APPS:
        return f"{ref} is {app}, which healer or the cluster depends on"
    return ""
