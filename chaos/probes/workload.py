"""The steady states: is the victim well, as the API server and Prometheus tell?"""

from typing import Any

from chaos.kube import condition, living
from chaos.play import current
from chaos.web import value

Configuration = dict[str, Any]


def all_pods_ready(configuration: Configuration | None = None) -> bool:
    """Whether the victim has all its pods, and each is ready."""
    play = current(configuration)
    pods = living(play.pods())
    ready = [pod for pod in pods if condition(pod, "Ready") == "True"]
    return len(pods) == len(ready) == play.claim.replicas


def rolled_out(configuration: Configuration | None = None) -> bool:
    """Whether every pod of the victim is of its newest template, and ready."""
    play = current(configuration)
    it = play.deployment()
    status, wanted = it.get("status", {}), it["spec"]["replicas"]
    numbers = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    seen = status.get("observedGeneration") == it["metadata"]["generation"]
    return seen and all(status.get(name, 0) == wanted for name in numbers)


def memory_below(share: float, configuration: Configuration | None = None) -> bool:
    """Whether no pod of the victim keeps more than this share of its memory limit.

    Nothing seen is an error, not a yes.
    """
    play = current(configuration)
    pods = living(play.pods())
    names = "|".join(pod["metadata"]["name"] for pod in pods)
    series = f'{{namespace="{play.namespace}",pod=~"{names}"}}'
    kept = value(play.site, f"app_leaked_bytes{series}")
    if not kept:
        raise RuntimeError("Prometheus holds no app_leaked_bytes of the victim")
    return max(kept) <= share * 128 * 2**20
