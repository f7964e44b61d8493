"""What an action acts on, by exact identity, and what was seen of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Kind(StrEnum):
    """The Kubernetes kinds healer can name; anything else is a `Kind`-less JSON patch target."""

    POD = "Pod"
    DEPLOYMENT = "Deployment"
    REPLICA_SET = "ReplicaSet"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"
    JOB = "Job"
    CRON_JOB = "CronJob"
    NODE = "Node"
    HPA = "HorizontalPodAutoscaler"
    PVC = "PersistentVolumeClaim"
    SERVICE = "Service"
    CONFIG_MAP = "ConfigMap"
    NAMESPACE = "Namespace"
    INGRESS = "Ingress"
    HTTP_ROUTE = "HTTPRoute"
    PDB = "PodDisruptionBudget"
    EVENT = "Event"
    ENDPOINT_SLICE = "EndpointSlice"
    CONTROLLER_REVISION = "ControllerRevision"  #: history of StatefulSets and DaemonSets
    STORAGE_CLASS = "StorageClass"


CLUSTER_SCOPED = frozenset({Kind.NODE, Kind.NAMESPACE, Kind.STORAGE_CLASS})
WORKLOADS = frozenset({Kind.DEPLOYMENT, Kind.STATEFUL_SET, Kind.DAEMON_SET})


@dataclass(frozen=True, slots=True)
class TargetRef:
    """One object by kind, namespace, name and, once observed, uid. Never a selector."""

    kind: Kind
    name: str
    namespace: str = ""  #: empty for cluster-scoped kinds only
    uid: str = ""  #: empty until the API server has been asked

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind}/{place}{self.name}"

    def with_uid(self, uid: str) -> "TargetRef":
        """The same object, pinned to one incarnation."""
        return replace(self, uid=uid)


class Health(StrEnum):
    """Tri-state health of an object."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PodState:
    """What was seen of one pod."""

    ref: TargetRef
    node: str
    zone: str
    ready: bool
    phase: str
    reason: str = ""  #: waiting or termination reason of the worst container, e.g. CrashLoopBackOff
    restarts: int = 0
    created_at: float = 0.0
    terminating: bool = False
    revision: str = ""  #: pod-template-hash or controller-revision-hash


@dataclass(frozen=True, slots=True)
class DomainHealth:
    """How many of a failure domain's pods (an owner's, a zone's) are bad right now."""

    name: str
    total: int
    bad: int

    @property
    def bad_ratio(self) -> float:
        """Bad over total, 0 for an empty domain."""
        return self.bad / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at a target: complete enough to plan, guard and later undo."""

    ref: TargetRef  #: with uid
    at: float  #: Unix seconds of the read
    resource_version: str
    generation: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner: TargetRef | None = None  #: top controller with uid; None when it has none
    owner_annotations: Mapping[str, str] = field(default_factory=dict)
    replicas: int | None = None  #: spec.replicas of a workload (of the owner, for a pod)
    ready: int = 0  #: ready pods of the workload
    updated: int = 0
    observed_generation: int = 0
    rollout_in_progress: bool = False
    paused: bool = False  #: spec.paused of a Deployment
    pods: tuple[PodState, ...] = ()  #: pods of the workload, the target itself included
    node: str = ""
    zone: str = ""
    managers: tuple[str, ...] = ()  #: GitOps tools that own it: `argocd`, `flux`
    hpa: TargetRef | None = None  #: the autoscaler that owns spec.replicas
    terminating: bool = False
    health: Health = Health.UNKNOWN

    @property
    def lock_ref(self) -> TargetRef:
        """What is locked while this target is acted on: its owner, or itself."""
        return self.owner or self.ref

    @property
    def owner_health(self) -> DomainHealth:
        """Bad pods among the workload's pods."""
        bad = sum(1 for pod in self.pods if not pod.ready)
        return DomainHealth(str(self.lock_ref), max(len(self.pods), self.replicas or 0), bad)
