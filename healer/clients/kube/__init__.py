"""The Kubernetes API server: `KubeCluster` implements `healer.ports.Cluster`."""

from healer.clients.kube.cluster import KubeCluster
from healer.clients.kube.observing import RIGHTS

__all__ = ["RIGHTS", "KubeCluster"]
