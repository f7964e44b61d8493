"""The generated tables of the docs, made from the code itself."""

import re
from dataclasses import dataclass, replace
from typing import Any, get_origin

from pydantic import BaseModel

from healer.settings import PREFIX, Settings


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as the reference documents it."""

    key: str
    variable: str
    kind: str
    default: str
    description: str


def settings_rows(model: type[BaseModel] = Settings, prefix: str = "") -> list[Row]:
    """Every setting in order; names a person chooses are written `<name>`."""
    rows: list[Row] = []
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        nested = _models(field.annotation)
        if nested:
            if get_origin(field.annotation) is dict:
                key += ".<name>"
            seen: dict[str, Row] = {}
            for inner in nested:
                for row in settings_rows(inner, f"{key}."):
                    _merge(seen, row)
            rows.extend(seen.values())
            continue
        default = "required" if field.is_required() else _written(field.get_default())
        rows.append(
            Row(
                key=key,
                variable=PREFIX + key.upper().replace(".", "__"),
                kind=_kind(field.annotation),
                default=default,
                description=field.description or "",
            )
        )
    return rows


def _merge(seen: dict[str, Row], row: Row) -> None:
    before = seen.get(row.key)
    if before is None:
        seen[row.key] = row
    elif before.description != row.description:
        seen[row.key] = replace(
            before,
            description=f"{before.description} {row.description}",
            kind=" or ".join(dict.fromkeys([*before.kind.split(" or "), row.kind])),
            default=" or ".join(dict.fromkeys([*before.default.split(" or "), row.default])),
        )


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections inside an annotation: its own, an optional's, a mapping's or a union's."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    for inner in getattr(annotation, "__args__", ()):
        found.extend(_models(inner))
    return found


def _kind(annotation: Any) -> str:
    text = str(annotation)
    if "tuple" in text:
        return "list"
    if "Literal" in text:
        return " or ".join(
            f"`{value}`" for value in re.findall(r"'([^']+)'", text[text.index("Literal") :])
        )
    for needle, word in (("Path", "path"), ("bool", "bool"), ("float", "number"), ("int", "int")):
        if needle in text:
            return word
    return "text"


def _written(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or '""'
