"""The Kubernetes API server: `KubeCluster` is a `healer.ports.Cluster`, `KubeLeases` a `Leases`."""

from healer.clients.kube.cluster import KubeCluster
from healer.clients.kube.leases import KubeLeases
from healer.clients.kube.observing import RIGHTS

__all__ = ["RIGHTS", "KubeCluster", "KubeLeases"]
