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


#: Parameters of actions and probes that decide what is done, as whom or with what code. What they
#: hold is written by the playbook alone: an alert must not choose it.
FIXED_PARAMETERS = {
    "run_job": frozenset({"service_account", "config_map", "key", "sha256", "namespace"}),
    "patch_config_map": frozenset({"key"}),
    "switch_service": frozenset({"key"}),
    "object_field": frozenset({"matches", "path", "kind"}),
    "http_get": frozenset({"body", "path", "service", "scheme"}),
    "http_call": frozenset({"body", "method"}),
    "notify": frozenset({"to"}),
}
_TEXT_OF_JOB = frozenset({"args", "value"})
_SHELL = re.compile(r"-[a-z]*c")


def structural_faults(verb: str, given: Any) -> Iterator[tuple[Path, str]]:
    """Placeholders in the parameters of `verb` (an action or probe) through which an alert would
    choose a host, a path, a command, an account or a place to write to."""
    for path, text in _texts(given, ()):
        if "${" not in text:
            continue
        key = next((str(part) for part in reversed(path) if isinstance(part, str)), "")
        if path[:1] and path[0] in FIXED_PARAMETERS.get(verb, ()):
            yield path, f"a placeholder in {path[0]} would let an alert choose it; write it out"
        elif key == "url":
            yield path, "a placeholder in a URL would let an alert choose host or path; use `json`"
        elif verb == "http_call" and "headers" in path:
            yield path, "a placeholder in a header would let an alert write it; use `json`"
        elif verb == "run_job" and path[:1] == ("template",):
            yield from ((path, problem) for problem in _job_faults(given, path, key, text))
        elif verb == "json_patch" and not _is_mark(given, path):
            yield (
                path,
                (
                    "a placeholder may stand in the value of a label, an annotation or `/data/…`; "
                    "elsewhere an alert would choose what is patched"
                ),
            )


def _job_faults(given: Any, path: Path, key: str, text: str) -> Iterator[str]:
    if key not in _TEXT_OF_JOB:
        yield (
            f"a placeholder in {key} would let an alert choose what runs; "
            "it may stand in args and in the value of an env"
        )
    elif key == "args":
        container = _at(given, path[: path.index("args")])
        words = [*_words(container.get("command")), *_words(container.get("args"))]
        if any(_SHELL.fullmatch(word) for word in words):
            yield (
                "a shell would read a label as code; hand it over as an env value, and write "
                '"$NAME" in the script'
            )
        before = _words(container.get("args"))[: int(path[-1])]
        if text.lstrip().startswith("${") and "--" not in before:
            yield "a label might begin with - and be an option; put -- before it, or --name=${…}"


def _is_mark(given: Any, path: Path) -> bool:
    if len(path) < 3 or path[2] != "value":
        return False
    pointer = _at(given, path[:2]).get("path")
    marks = ("/metadata/labels/", "/metadata/annotations/", "/data/")
    return isinstance(pointer, str) and pointer.startswith(marks)


def _at(value: Any, path: Path) -> dict[str, Any]:
    for part in path:
        value = value[part]
    return value if isinstance(value, dict) else {}


def _words(value: Any) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))


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
