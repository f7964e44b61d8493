"""What a write to one resource or subresource may change, and what it is refused for."""

import copy
from collections.abc import Sequence

from healer.domain.target import Kind, TargetRef
from healer.errors import NotFound, Refused
from healer.ports import JsonObject, PatchType
from healer.testing.patches import json_patch, merge, strategic

#: Kinds whose `status` is written only through the status subresource.
_WITH_STATUS = frozenset(Kind) - {
    Kind.CONFIG_MAP, Kind.EVENT, Kind.ENDPOINT_SLICE, Kind.CONTROLLER_REVISION, Kind.STORAGE_CLASS,
}  # fmt: skip


def patched(
    value: JsonObject, body: JsonObject | Sequence[JsonObject], kind: PatchType, ref: TargetRef
) -> JsonObject:
    """The object after a patch of any type. Raises Conflict or Refused."""
    if isinstance(body, dict) is (kind is PatchType.JSON):
        raise Refused(f"patch {ref}: the body is not of the type {kind}")
    changed: JsonObject
    match kind:
        case PatchType.MERGE:
            changed = merge(value, body)
        case PatchType.STRATEGIC:
            changed = strategic(value, body)
        case PatchType.JSON:
            assert not isinstance(body, dict)
            changed = json_patch(value, body)
    return copy.deepcopy(changed)


def restricted(old: JsonObject, new: JsonObject, kind: Kind, subresource: str) -> JsonObject:
    """What a write through the (sub)resource really changes. Raises NotFound for an unknown one."""
    # Each subresource writes its own part of the object and ignores the rest.
    out = copy.deepcopy(old)
    match subresource:
        case "status":
            out["status"] = new.get("status")
        case "scale":
            out["spec"]["replicas"] = new["spec"].get("replicas")
        case "resize":
            out["spec"]["containers"] = new["spec"]["containers"]
        case "":
            out = new
            if kind in _WITH_STATUS:
                out.pop("status", None)
                if "status" in old:
                    out["status"] = copy.deepcopy(old["status"])
        case other:
            raise NotFound(f"{kind} has no subresource {other}")
    return out


def validate(value: JsonObject, ref: TargetRef) -> None:
    """Raises Refused for what admission would refuse."""
    replicas = (value.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        raise Refused(f"patch {ref}: spec.replicas: Invalid value: {replicas!r}")


def scale_of(value: JsonObject) -> JsonObject:
    """The Scale that stands for a workload."""
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": copy.deepcopy(value["metadata"]),
        "spec": {"replicas": value["spec"].get("replicas", 1)},
        "status": {"replicas": (value.get("status") or {}).get("replicas", 0)},
    }
