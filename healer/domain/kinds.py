"""How the API server names each kind: group, version, plural, and whether it is namespaced."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from healer.domain.target import CLUSTER_SCOPED, Kind


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind is served."""

    group: str  #: empty for the core group
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


RESOURCES: Mapping[Kind, Resource] = {
    Kind.POD: Resource("", "v1", "pods"),
    Kind.NODE: Resource("", "v1", "nodes"),
    Kind.NAMESPACE: Resource("", "v1", "namespaces"),
    Kind.SERVICE: Resource("", "v1", "services"),
    Kind.CONFIG_MAP: Resource("", "v1", "configmaps"),
    Kind.PVC: Resource("", "v1", "persistentvolumeclaims"),
    Kind.EVENT: Resource("", "v1", "events"),
    Kind.DEPLOYMENT: Resource("apps", "v1", "deployments"),
    Kind.REPLICA_SET: Resource("apps", "v1", "replicasets"),
    Kind.STATEFUL_SET: Resource("apps", "v1", "statefulsets"),
    Kind.DAEMON_SET: Resource("apps", "v1", "daemonsets"),
    Kind.JOB: Resource("batch", "v1", "jobs"),
    Kind.CRON_JOB: Resource("batch", "v1", "cronjobs"),
    Kind.HPA: Resource("autoscaling", "v2", "horizontalpodautoscalers"),
    Kind.PDB: Resource("policy", "v1", "poddisruptionbudgets"),
    Kind.INGRESS: Resource("networking.k8s.io", "v1", "ingresses"),
    Kind.HTTP_ROUTE: Resource("gateway.networking.k8s.io", "v1", "httproutes"),
    Kind.CONTROLLER_REVISION: Resource("apps", "v1", "controllerrevisions"),
    Kind.STORAGE_CLASS: Resource("storage.k8s.io", "v1", "storageclasses"),
    Kind.ENDPOINT_SLICE: Resource("discovery.k8s.io", "v1", "endpointslices"),
}


def is_namespaced(kind: Kind) -> bool:
    """Whether objects of the kind live in a namespace."""
    return kind not in CLUSTER_SCOPED


def group_of(api_version: str) -> str:
    """The group of an `apiVersion`: `apps` of `apps/v1`, empty for `v1`."""
    group, slash, _ = api_version.partition("/")
    return group if slash else ""


def kind_of(value: Mapping[str, Any]) -> Kind | None:
    """The kind of an object or reference by its `kind` and `apiVersion`, None when not ours.

    The group counts: `Job` of `batch.volcano.sh` is not the Job healer knows.
    """
    try:
        kind = Kind(str(value.get("kind", "")))
    except ValueError:
        return None
    same = group_of(str(value.get("apiVersion", ""))) == RESOURCES[kind].group
    return kind if same else None
