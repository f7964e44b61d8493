"""pydantic's complaints in a person's words, at the line and column of the YAML they are about."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from healer.errors import PlaybookError
from healer.playbook_yaml.faults import did_you_mean
from healer.playbook_yaml.placeholders import has_placeholder
from healer.playbook_yaml.yaml_text import Document, Path

_WANTED: Mapping[str, str] = {
    "string_type": "text; quote it",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def explain(
    document: Document, error: ValidationError, model: type[BaseModel], base: Path = ()
) -> Iterator[PlaybookError]:
    """One fault for each complaint, apart from those about what could not be read anyway."""
    for detail in error.errors(include_url=False):
        where, is_key = _place(document, base, detail["loc"])
        if not document.is_broken(where):
            yield _fault(document, detail, model, base, where, is_key)


def check_params(
    document: Document, params: type[BaseModel], given: Any, base: Path
) -> Iterator[PlaybookError]:
    """Faults of an action's or probe's parameters, as far as they can be told before filling in.

    A leaf with a placeholder may be anything yet, and so may a rule over a mapping that has one:
    the planner checks again when the value is known.
    """
    try:
        params.model_validate({} if given is None else given)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            where, is_key = _place(document, base, detail["loc"])
            if document.is_broken(where):
                continue
            about = detail["input"]
            open_yet = detail["type"] not in {"missing", "extra_forbidden"} and has_placeholder(
                about
            )
            if not open_yet:
                yield _fault(document, detail, params, base, where, is_key)


def _place(document: Document, base: Path, loc: Iterable[str | int]) -> tuple[Path, bool]:
    """The deepest place of the YAML that `loc` names; pydantic's own marks are passed over."""
    value = _at(document.value, base)
    where = base
    is_key = False
    for part in loc:
        if part == "[key]":
            is_key = True
        elif isinstance(value, dict) and part in value:
            value, where = value[str(part)], (*where, part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value, where = value[part], (*where, part)
    return where, is_key


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


def _fault(
    document: Document,
    detail: ErrorDetails,
    model: type[BaseModel],
    base: Path,
    where: Path,
    is_key: bool,
) -> PlaybookError:
    kind, loc = detail["type"], detail["loc"]
    name = str(loc[-1]) if loc else str(where[-1] if where else "the file")
    if kind == "extra_forbidden":
        known = _keys_at(model, loc[:-1])
        return document.fault(where, f"unknown key {name!r}{did_you_mean(name, known)}", key=True)
    if kind == "missing":
        parent = ".".join(str(p) for p in where) or "the file"
        return document.fault(where, f"{parent} lacks the key {name!r}; add it", key=True)
    return document.fault(where, _words(detail, where), key=is_key)


def _words(detail: ErrorDetails, where: Path) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    name = next((str(part) for part in reversed(where) if isinstance(part, str)), "the file")
    given = detail["input"]
    if kind in {"literal_error", "enum"}:
        expected = [
            word.strip(" '") for word in context["expected"].replace(" or ", ",").split(",")
        ]
        return f"{name}: {_shown(given)} is not possible{did_you_mean(str(given), expected)}"
    if kind == "value_error":
        return f"{name}: {context['error']}"
    if kind in {"too_short", "too_long"}:
        wanted, has = context.get("min_length", context.get("max_length")), context["actual_length"]
        few = "at least" if kind == "too_short" else "at most"
        return f"{name} must have {few} {wanted} items, has {has}"
    if kind in _WANTED:
        return f"{name} must be {_WANTED[kind]}, not {_shown(given)}"
    return f"{name}: {detail['msg']}, not {_shown(given)}"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_at(model: type[BaseModel], loc: Iterable[str | int]) -> list[str]:
    """The keys that the model at `loc` knows, as they are written in YAML."""
    here: type[BaseModel] | None = model
    for part in loc:
        if here is None or isinstance(part, int):
            continue
        field = next((f for n, f in here.model_fields.items() if (f.alias or n) == part), None)
        if field is not None:
            here = _model_in(field.annotation)
    return [f.alias or n for n, f in here.model_fields.items()] if here else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
