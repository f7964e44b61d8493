"""PodDisruptionBudgets, as the Eviction API asks them."""

from healer.domain.manifests import is_ready, meta, selector_text
from healer.domain.target import Kind
from healer.errors import Refused, Throttled
from healer.kernel.quantities import parse_quantity
from healer.ports import JsonObject
from healer.testing.kept_objects import KeptObjects
from healer.testing.selectors import labels_match


def ask_budgets(kept: KeptObjects, pod: JsonObject) -> None:
    """Raises Throttled when a budget refuses the eviction now, Refused when two govern the pod."""
    labels = meta(pod).get("labels") or {}
    budgets = [
        budget
        for budget in kept.of(Kind.PDB, meta(pod).get("namespace", ""))
        if labels_match(selector_text(budget["spec"]["selector"]), labels)
    ]
    if len(budgets) > 1:
        raise Refused("This pod has more than one PodDisruptionBudget")
    for budget in budgets:
        spec = budget["spec"]
        selector = selector_text(spec["selector"])
        pods = [
            other
            for other in kept.of(Kind.POD, meta(pod).get("namespace", ""))
            if labels_match(selector, meta(other).get("labels") or {})
        ]
        healthy = sum(map(is_ready, pods))
        if "minAvailable" in spec:
            needed = _share(spec["minAvailable"], len(pods))
        else:
            needed = len(pods) - _share(spec.get("maxUnavailable", 0), len(pods))
        if healthy - is_ready(pod) < needed:
            raise Throttled("Cannot evict pod as it would violate the pod's disruption budget")


def _share(value: int | str, count: int) -> int:
    if isinstance(value, str) and value.endswith("%"):
        return -(-count * int(value[:-1]) // 100)
    return int(parse_quantity(str(value)))
