"""A policy as the HorizontalPodAutoscaler that follows it.

The target is always AverageValue: with `Value` the controller multiplies the replicas of now at
each look, and they grow without end (prometheus-adapter #294).
"""

from typing import Any

from scalers.hpa import TOLERANCE
from scalers.policy import ScalingPolicy

#: A window in which the pods of a peak are kept, as the controller does by default. Seconds.
DOWN_SECONDS = 300


def average_value(policy: ScalingPolicy, capacity: float, *, tolerance_field: bool) -> float:
    """Demand for each replica, so that none is asked for more than its `capacity` unnoticed.

    The controller does nothing until a metric is a tenth beyond its target. Where the object can
    say otherwise (`tolerance_field`, Kubernetes 1.35 and later) the target is capacity times
    utilisation; where it cannot, it is at most capacity / 1.1.
    """
    wanted = capacity * policy.utilisation
    return wanted if tolerance_field else min(wanted, capacity / (1 + TOLERANCE))


def manifest(
    policy: ScalingPolicy, capacity: float, *, tolerance_field: bool = True
) -> dict[str, Any]:
    """The object, in `autoscaling/v2`; `capacity` is the policy's own, or the one learned.

    Raises ValueError when the capacity is not above zero.
    """
    if not capacity > 0:
        raise ValueError(f"policy {policy.name}: capacity {capacity} must be above zero")
    up: dict[str, Any] = {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 15},
            {"type": "Pods", "value": policy.caps.step_replicas, "periodSeconds": 15},
        ],
    }
    if tolerance_field:
        up["tolerance"] = "0"
    value = average_value(policy, capacity, tolerance_field=tolerance_field)
    workload = policy.workload
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": policy.name,
            "namespace": workload.namespace,
            "labels": {"app.kubernetes.io/managed-by": "healer"},
        },
        "spec": {
            "scaleTargetRef": {
                "apiVersion": workload.api_version,
                "kind": workload.kind,
                "name": workload.name,
            },
            "minReplicas": policy.min_replicas,
            "maxReplicas": policy.max_replicas,
            "metrics": [
                {
                    "type": "External",
                    "external": {
                        "metric": {"name": policy.metric},
                        "target": {"type": "AverageValue", "averageValue": quantity(value)},
                    },
                }
            ],
            "behavior": {
                "scaleUp": up,
                "scaleDown": {
                    "stabilizationWindowSeconds": DOWN_SECONDS,
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
                },
            },
        },
    }


def quantity(value: float) -> str:
    """A quantity in thousandths, which is as fine as the controller reckons, never zero."""
    milli = max(1, int(value * 1000))
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"
