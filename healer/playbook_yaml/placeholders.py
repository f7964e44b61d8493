"""`${…}`: where one may stand and what it may name. Filling them in is `healer.planning`'s work."""

import re
from collections.abc import Iterator
from typing import Any

from healer.playbook_yaml.faults import did_you_mean
from healer.playbook_yaml.yaml_text import Path

PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
_LABEL = re.compile(r"(labels|annotations)\.[a-zA-Z_][a-zA-Z0-9_]*")
#: As `healer.planning` fills them in.
FIXED = (
    "target.name", "target.namespace", "target.uid", "target.kind", "target.node", "target.zone",
    "owner.name", "owner.kind", "episode.id", "episode.startsAt",
)  # fmt: skip
#: Leaves that are source text of a language: a label must never become part of one.
CODE_KEYS = frozenset({"expr", "promql", "query", "cel", "expression"})


def has_placeholder(value: Any) -> bool:
    """Whether a text, or any text inside a mapping or list, has one."""
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, dict):
        return any(has_placeholder(item) for item in value.values())
    return isinstance(value, list) and any(has_placeholder(item) for item in value)


def placeholder_faults(value: Any, path: Path = ()) -> Iterator[tuple[Path, bool, str]]:
    """Every faulty placeholder below `path`: its place, whether it is in a key, what is wrong."""
    if isinstance(value, str):
        if "${" in value:
            for problem in _text_faults(value, path):
                yield path, False, problem
    elif isinstance(value, dict):
        for key, item in value.items():
            here = (*path, key)
            if "${" in key:
                yield here, True, "a placeholder cannot be part of a key; write the key out"
            yield from placeholder_faults(item, here)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from placeholder_faults(item, (*path, index))


def _text_faults(text: str, path: Path) -> Iterator[str]:
    reach = _reach(path)
    if reach is None:
        yield _why_not(path)
        return
    rest = PLACEHOLDER.sub("", text)
    if "${" in rest:
        yield "a placeholder is not closed, or one stands in another; write ${labels.x}"
    for match in PLACEHOLDER.finditer(text):
        name = match[1]
        if _LABEL.fullmatch(name):
            continue
        if name not in FIXED:
            yield (f"${{{name}}} names nothing" + did_you_mean(name, (*FIXED, "labels.x")))
        elif reach == "target" and not name.startswith("episode."):
            yield f"${{{name}}} is not known before the target is; use ${{labels.x}}"


def _reach(path: Path) -> str | None:
    """What may be used at a place: `target` (labels only), `all`, or None for nothing."""
    match path:
        case ("spec", "target", "namespace" | "name"):
            return "target"
        case ("spec", "steps", int(), "target", "namespace" | "name"):
            return "target"
        case ("spec", "steps", int(), "with", *rest) if rest:
            return None if _is_code(rest) else "all"
        case ("spec", "steps", int(), "verify", "probes", int(), str(), *rest) if rest:
            return None if _is_code(rest) else "all"
        case ("spec", "escalate", "summary") | ("spec", "guards", "unless", int(), "where", str()):
            return "all"
        case _:
            return None


def _is_code(rest: list[str | int]) -> bool:
    return any(part in CODE_KEYS for part in rest)


def _why_not(path: Path) -> str:
    last = next((part for part in reversed(path) if isinstance(part, str)), "")
    if last in CODE_KEYS or last in {"if", "unless"}:
        return (
            f"a placeholder in {last} would let a label write code; "
            "compare with the label inside the expression, or in a parameter beside it"
        )
    return (
        f"a placeholder cannot stand in {last or 'this place'}; it may in target.namespace, "
        "target.name, with, probe parameters and escalate.summary"
    )
