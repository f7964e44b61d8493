"""What is captured of a target before the first action, because the action destroys it."""

from typing import Any

from healer.domain.target import Observation

#: Pods listed in one evidence record; a larger workload is summed up.
MAX_PODS = 50


def capture(seen: Observation) -> dict[str, Any]:
    """The observation as a JSON value: enough for a person to see what healer saw."""
    bad = [pod for pod in seen.pods if not pod.ready]
    return {
        "target": str(seen.ref),
        "uid": seen.ref.uid,
        "resourceVersion": seen.resource_version,
        "owner": str(seen.owner) if seen.owner else "",
        "replicas": seen.replicas,
        "ready": seen.ready,
        "updated": seen.updated,
        "rolloutInProgress": seen.rollout_in_progress,
        "node": seen.node,
        "zone": seen.zone,
        "pods": len(seen.pods),
        "badPods": [
            {
                "name": pod.ref.name, "node": pod.node, "zone": pod.zone, "phase": pod.phase,
                "reason": pod.reason, "restarts": pod.restarts,
            }
            for pod in bad[:MAX_PODS]
        ],
    }  # fmt: skip
