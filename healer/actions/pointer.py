"""JSON pointers and JSON patches (RFC 6901, 6902), on copies: enough to look up and to invert.

Only `test`, `add`, `replace` and `remove`: what `move` and `copy` would change cannot be seen from
the patch alone.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from healer.errors import Refused

Operation = Mapping[str, Any]


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


#: What a pointer finds where nothing is.
ABSENT = _Absent()


def parts_of(pointer: str) -> list[str]:
    """The unescaped steps of a pointer."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def resolve(document: Any, pointer: str) -> Any:
    """What the pointer finds, or ABSENT."""
    found = document
    for part in parts_of(pointer):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return ABSENT
    return found


def tests_hold(document: Any, patch: Sequence[Operation]) -> bool:
    """Whether every `test` of the patch is true of the document as it is."""
    return all(
        resolve(document, operation["path"]) == operation.get("value")
        for operation in patch
        if operation["op"] == "test"
    )


def patched(document: Any, patch: Sequence[Operation]) -> tuple[Any, list[dict[str, Any]]]:
    """A changed copy, and the patch that turns it back.

    Raises Refused when a test fails or an operation does not fit, as the API server would.
    """
    copy = deepcopy(document)
    back: list[dict[str, Any]] = []
    for number, operation in enumerate(patch):
        back.append(_do(copy, operation, f"operation {number + 1}"))
    return copy, [operation for operation in reversed(back) if operation]


def _do(document: Any, operation: Operation, where: str) -> dict[str, Any]:
    path, verb = operation["path"], operation["op"]
    old = resolve(document, path)
    if verb == "test":
        if old != operation.get("value"):
            raise Refused(f"{where}: {path} is {old!r}, not {operation.get('value')!r}")
        return {}
    *above, last = parts_of(path)
    parent = document
    for part in above:
        parent = _step(parent, part, path, where)
    if verb != "add" and old is ABSENT:
        raise Refused(f"{where}: there is no {path} to {verb}")
    if isinstance(parent, list):
        return _in_list(parent, last, operation, old, where)
    if not isinstance(parent, dict):
        raise Refused(f"{where}: {path} is inside something that has no parts")
    if verb == "remove":
        del parent[last]
        return {"op": "add", "path": path, "value": old}
    parent[last] = deepcopy(operation["value"])
    if old is ABSENT:
        return {"op": "remove", "path": path}
    return {"op": "replace", "path": path, "value": old}


def _step(parent: Any, part: str, path: str, where: str) -> Any:
    if isinstance(parent, dict) and part in parent:
        return parent[part]
    if isinstance(parent, list) and part.isdecimal() and int(part) < len(parent):
        return parent[int(part)]
    raise Refused(f"{where}: there is nothing on the way to {path}")


def _in_list(
    parent: list[Any], last: str, operation: Operation, old: Any, where: str
) -> dict[str, Any]:
    path, verb = operation["path"], operation["op"]
    if verb == "remove":
        del parent[int(last)]
        return {"op": "add", "path": path, "value": old}
    if verb == "replace":
        parent[int(last)] = deepcopy(operation["value"])
        return {"op": "replace", "path": path, "value": old}
    if last == "-":
        last = str(len(parent))
        path = f"{path[:-1]}{last}"
    if not last.isdecimal() or int(last) > len(parent):
        raise Refused(f"{where}: {path} is no place in a list of {len(parent)}")
    parent.insert(int(last), deepcopy(operation["value"]))
    return {"op": "remove", "path": path}
