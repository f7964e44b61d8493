"""Label and field selectors, read and applied as the API server does."""

import re
from collections.abc import Mapping
from typing import Any

from healer.errors import Refused

_PARTS = re.compile(r",(?![^(]*\))")
_SET = re.compile(r"(?P<key>\S+)\s+(?P<op>in|notin)\s+\((?P<values>[^)]*)\)")


def labels_match(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether the labels satisfy every part of a selector; an empty one selects all."""
    return all(_label_matches(part.strip(), labels) for part in _PARTS.split(selector) if part)


def _label_matches(part: str, labels: Mapping[str, str]) -> bool:
    if found := _SET.fullmatch(part):
        values = {value.strip() for value in found["values"].split(",")}
        within = labels.get(found["key"]) in values
        return within if found["op"] == "in" else not within
    if "!=" in part:
        key, _, value = part.partition("!=")
        return labels.get(key.strip()) != value.strip()
    if "=" in part:
        key, _, value = part.replace("==", "=").partition("=")
        return labels.get(key.strip()) == value.strip()
    return part[1:] not in labels if part.startswith("!") else part in labels


def fields_match(selector: str, value: Mapping[str, Any]) -> bool:
    """Whether the object satisfies every part of a field selector."""
    for part in selector.split(","):
        if not part:
            continue
        wanted = "!=" not in part
        path, equals, text = part.partition("=" if wanted else "!=")
        if not equals:
            raise Refused(f"{part!r} is not a field selector; write for example spec.nodeName=n1")
        found: Any = value
        for key in path.strip().split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        if (str(found or "") == text.lstrip("=").strip()) is not wanted:
            return False
    return True
