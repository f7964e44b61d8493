"""The metrics API behind the Kubernetes aggregation layer: what the HPA reads, from memory.

`MetricsApi` serves `external.metrics.k8s.io/v1beta1` and `custom.metrics.k8s.io/v1beta1` and
`v1beta2` on a TLS listener of its own. The contract is that of custom-metrics-apiserver and
k8s.io/metrics 0.36; what it needs of the cluster are the ports in `scalers.apiserver.contract`.
"""

from scalers.apiserver.contract import (
    ApiServices,
    AuthenticationSource,
    Listening,
    MetricsApiError,
    Question,
    Reviewer,
    Unavailable,
    Who,
)
from scalers.apiserver.server import MetricsApi

__all__ = [
    "ApiServices",
    "AuthenticationSource",
    "Listening",
    "MetricsApi",
    "MetricsApiError",
    "Question",
    "Reviewer",
    "Unavailable",
    "Who",
]
