"""Applies the three kinds of patch to plain JSON, as the API server does."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from healer.errors import Conflict, Refused

#: Lists of objects that a strategic merge patch merges, and by which key.
_MERGE_KEYS = {
    "containers": "name", "initContainers": "name", "env": "name", "volumes": "name",
    "volumeMounts": "mountPath", "conditions": "type", "ports": "containerPort",
    "ownerReferences": "uid", "tolerations": "key",
}  # fmt: skip


def merge(value: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7386."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    out = dict(value) if isinstance(value, Mapping) else {}
    for key, change in patch.items():
        if change is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), change)
    return out


def strategic(value: Any, patch: Any, name: str = "") -> Any:
    """Strategic merge patch: lists of named objects merge by name, other lists are replaced."""
    if isinstance(patch, Mapping):
        out = dict(value) if isinstance(value, Mapping) else {}
        for key, change in patch.items():
            if change is None:
                out.pop(key, None)
            else:
                out[key] = strategic(out.get(key), change, key)
        return out
    by = _MERGE_KEYS.get(name)
    if not isinstance(patch, list) or by is None:
        return copy.deepcopy(patch)
    items: list[Any] = copy.deepcopy(list(value or ()))
    for change in patch:
        place = next((i for i, item in enumerate(items) if item.get(by) == change.get(by)), None)
        if change.get("$patch") == "delete":
            if place is not None:
                del items[place]
        elif place is None:
            items.append(copy.deepcopy(change))
        else:
            items[place] = strategic(items[place], change)
    return items


def json_patch(value: Any, steps: Sequence[Mapping[str, Any]]) -> Any:
    """JSON patch, RFC 6902. Raises Conflict when a `test` fails, Refused when a path is wrong."""
    box = {"": copy.deepcopy(value)}
    for step in steps:
        path = str(step.get("path", ""))
        match step.get("op"):
            case "add" | "replace":
                _put(box, path, copy.deepcopy(step.get("value")), insert=step["op"] == "add")
            case "remove":
                _take(box, path)
            case "test":
                if not _is(box, path, step.get("value")):
                    raise Conflict(f"testing value {path} failed")
            case "move":
                _put(box, path, _take(box, str(step["from"])), insert=True)
            case "copy":
                parent, key = _find(box, str(step["from"]))
                _put(box, path, copy.deepcopy(parent[key]), insert=True)
            case other:
                raise Refused(f"unknown JSON patch operation {other!r}")
    return box[""]


def _is(box: Any, path: str, wanted: Any) -> bool:
    try:
        parent, key = _find(box, path)
        return bool(parent[key] == wanted)
    except (Refused, KeyError, IndexError):
        return False


def _find(box: Any, path: str) -> tuple[Any, Any]:
    keys = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")]
    parent = box
    try:
        for key in keys[:-1]:
            parent = parent[int(key)] if isinstance(parent, list) else parent[key]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise Refused(f"the JSON patch path {path} leads nowhere") from error
    last: Any = keys[-1]
    if isinstance(parent, list):
        last = len(parent) if last == "-" else int(last)
    elif not isinstance(parent, dict):
        raise Refused(f"the JSON patch path {path} leads nowhere")
    return parent, last


def _put(box: Any, path: str, value: Any, *, insert: bool) -> None:
    parent, key = _find(box, path)
    if isinstance(parent, list) and insert:
        parent.insert(key, value)
    else:
        parent[key] = value


def _take(box: Any, path: str) -> Any:
    parent, key = _find(box, path)
    try:
        return parent.pop(key)
    except (KeyError, IndexError) as error:
        raise Refused(f"the JSON patch path {path} leads nowhere") from error
