"""The part of JSON Schema draft-07 that the playbook schema uses; any other keyword is an error."""

import re
from collections.abc import Iterator
from typing import Any

_TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
    "number": (int, float), "integer": int,
}  # fmt: skip
_COUNTED = {"Length": str, "Items": list, "Properties": dict}
_SILENT = {"title", "description", "default", "examples", "definitions", "$schema"}


def complaints(schema: Any, value: Any, root: Any = None, path: str = "$") -> Iterator[str]:
    """Every place at which `value` is not what `schema` says."""
    if schema is True:
        return
    if schema is False:
        yield f"{path}: nothing is allowed here"
        return
    whole = schema if root is None else root
    for keyword, wanted in schema.items():
        if keyword in _SILENT or keyword == "then":
            continue
        yield from _check(keyword, wanted, schema, value, whole, path)


def _check(  # noqa: PLR0912 - one branch for each keyword
    keyword: str, wanted: Any, schema: Any, value: Any, root: Any, path: str
) -> Iterator[str]:
    def fits(inner: Any) -> bool:
        return not list(complaints(inner, value, root, path))

    def when(kind: type | tuple[type, ...], holds: Any) -> Iterator[str]:
        if isinstance(value, kind) and not isinstance(value, bool) and not holds():
            yield f"{path}: {value!r} against {keyword} {wanted!r}"

    match keyword:
        case "$ref":
            target = root
            for part in wanted.removeprefix("#/").split("/"):
                target = target[part]
            yield from complaints(target, value, root, path)
        case "type":
            boolean = isinstance(value, bool) and wanted in {"number", "integer"}
            if boolean or not isinstance(value, _TYPES[wanted]):
                yield f"{path}: {value!r} is no {wanted}"
        case "const" | "enum":
            allowed = [wanted] if keyword == "const" else wanted
            if value not in allowed:
                yield f"{path}: {value!r} is not one of {allowed}"
        case "allOf":
            for inner in wanted:
                yield from complaints(inner, value, root, path)
        case "anyOf":
            if not any(fits(inner) for inner in wanted):
                yield f"{path}: {value!r} fits none"
        case "oneOf":
            if sum(fits(inner) for inner in wanted) != 1:
                yield f"{path}: {value!r} does not fit exactly one"
        case "if":
            if fits(wanted):
                yield from complaints(schema["then"], value, root, path)
        case "properties" | "additionalProperties":
            if keyword == "properties" or "properties" not in schema:
                yield from _members(schema.get("properties", {}), schema, value, root, path)
        case "required":
            if isinstance(value, dict):
                yield from (f"{path}: lacks {key}" for key in wanted if key not in value)
        case "propertyNames":
            for key in value if isinstance(value, dict) else ():
                yield from complaints(wanted, key, root, f"{path}.{key}")
        case "patternProperties":
            for key, item in value.items() if isinstance(value, dict) else ():
                for pattern, inner in wanted.items():
                    if re.search(pattern, key):
                        yield from complaints(inner, item, root, f"{path}.{key}")
        case "items":
            for index, item in enumerate(value) if isinstance(value, list) else ():
                yield from complaints(wanted, item, root, f"{path}[{index}]")
        case "pattern":
            yield from when(str, lambda: re.search(wanted, value))
        case "minimum":
            yield from when((int, float), lambda: value >= wanted)
        case "maximum":
            yield from when((int, float), lambda: value <= wanted)
        case "exclusiveMinimum":
            yield from when((int, float), lambda: value > wanted)
        case "exclusiveMaximum":
            yield from when((int, float), lambda: value < wanted)
        case "minLength" | "minItems" | "minProperties":
            yield from when(_COUNTED[keyword[3:]], lambda: len(value) >= wanted)
        case "maxLength" | "maxItems" | "maxProperties":
            yield from when(_COUNTED[keyword[3:]], lambda: len(value) <= wanted)
        case _:
            raise AssertionError(f"{path}: the keyword {keyword} is not draft-07, or unknown here")


def _members(wanted: Any, schema: Any, value: Any, root: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key in wanted:
            yield from complaints(wanted[key], item, root, f"{path}.{key}")
        else:
            rest = True if _by_pattern(schema, key) else schema.get("additionalProperties", True)
            yield from complaints(rest, item, root, f"{path}.{key}")


def _by_pattern(schema: Any, key: str) -> bool:
    return any(re.search(pattern, key) for pattern in schema.get("patternProperties", {}))
