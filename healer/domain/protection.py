"""What healer never acts on, compiled in: the cluster's own organs, itself, and its senses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from healer.domain.target import Kind, Observation

#: Namespaces whose loss takes the cluster, or healer's sight of it, away.
PROTECTED_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})
#: Labels that name the application an object is part of.
APP_LABELS = ("app.kubernetes.io/name", "k8s-app")
#: Any of these in one of `APP_LABELS` marks something healer depends on.
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


def is_annotated(annotations: Mapping[str, str]) -> bool:
    """Whether somebody wrote on the object that it must be left alone."""
    return annotations.get(PROTECT_ANNOTATION, "").strip().lower() == "true"


def protected_because(seen: Observation, protection: Protection) -> str:
    """Why the target must not be touched; empty when it may be. What protects its controller
    protects it too: to delete a workload's pods is to touch the workload."""
    ref = seen.ref
    if is_annotated(seen.annotations):
        return f"{ref} is annotated {PROTECT_ANNOTATION}=true"
    if seen.owner is not None and is_annotated(seen.owner_annotations):
        return f"{seen.owner}, which owns {ref}, is annotated {PROTECT_ANNOTATION}=true"
    for one in (ref, seen.owner):
        if one and (one.kind in protection.kinds or str(one) in protection.objects):
            return f"{one} is protected by the settings"
    if ref.kind is Kind.NODE:
        return ""
    namespace = ref.namespace
    if namespace and namespace in protection.unprotected_namespaces:
        return ""
    why = protected_namespace(namespace, protection)
    if why:
        return f"{ref}: {why}"
    for key in APP_LABELS:
        app = seen.labels.get(key, "")
        if app in PROTECTED_APPS:
            return f"{ref} is {app}, which healer or the cluster depends on"
    return ""


def protected_namespace(namespace: str, protection: Protection) -> str:
    """Why nothing may be done in a namespace; empty when it may be."""
    if not namespace or namespace in protection.unprotected_namespaces:
        return ""
    if namespace == protection.own_namespace:
        return f"namespace {namespace} is healer's own"
    if namespace in PROTECTED_NAMESPACES or namespace in protection.namespaces:
        return f"namespace {namespace} is protected"
    return ""
