"""docs/actions.md, written from the actions and probes themselves."""

from typing import Any

from healer.actions.contract import Params
from healer.actions.registry import ACTIONS, BuiltIn
from healer.domain.target import Kind
from healer.kernel.durations import format_duration
from healer.ports import Permission
from healer.probes.contract import Probe
from healer.probes.registry import PROBES

#: A sample of parameters for those whose rights depend on them: the one that needs most.
_SAMPLES: dict[str, dict[str, Any]] = {
    "run_job": {"config_map": "x", "service_account": "x"},
    "http_get": {"pod": "target", "port": 80},
    "object_field": {"path": "/x", "exists": True},
}
_INTRODUCTION = """\
# Actions and probes

What a step may do (`action`, with its parameters under `with`), and what may prove that it helped
(`verify.probes`). This page is written from the code by `healer.probes.catalogue` and kept true by
a test. Unknown parameters are errors. Durations are written as Prometheus writes them (`90s`,
`5m`), quantities as Kubernetes does (`500m`, `2Gi`).

Every action is sent with the target's uid, so another object of the same name is never touched.
*Rights* are what a playbook with this action adds to healer's RBAC, for the kind of its target
only, on top of what looking at targets needs. *Looked up by* is how healer finds out, after a crash
or a lost answer, whether a step was done. *Undo* is what `undo: if_not_recovered` does. There is no
shell: a script of your own runs as a Job with its own ServiceAccount (`run_job`).
"""


def markdown() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, "## Actions\n", _overview()]
    parts += [_action(action) for action in ACTIONS.values()]
    parts.append("## Probes\n")
    parts.append(
        "A probe answers recovered, not recovered, or unknown. Missing, stale, NaN or unreachable "
        "data is unknown,\nand unknown never counts as success.\n"
    )
    parts += [_probe(probe) for probe in PROBES.values()]
    return "\n".join(parts)


def _overview() -> str:
    rows = ["| action | does | acts on | budget class |", "| --- | --- | --- | --- |"]
    rows += [
        f"| [`{action.name}`](#{action.name}) | {action.summary} | {_kinds(action)} | "
        f"`{action.action_class}` |"
        for action in ACTIONS.values()
    ]
    return "\n".join(rows) + "\n"


def _kinds(action: BuiltIn) -> str:
    if not action.kinds:
        return "any target"
    if len(action.kinds) > len(Kind) // 2:
        left_out = sorted(frozenset(Kind) - action.kinds)
        return f"any kind but {', '.join(left_out)}"
    return ", ".join(sorted(action.kinds))


def _action(action: BuiltIn) -> str:
    repeat = "yes" if action.idempotent else "no"
    return "\n".join([
        f"### {action.name}\n",
        f"{action.summary} {_plain(action)}\n",
        _parameters(action.params),
        f"- Acts on: {_kinds(action)}",
        f"- Rights: {_rights(action)}",
        f"- Looked up by: {action.looked_up_by}",
        f"- May be repeated: {repeat}",
        f"- Undo: {action.undone_by}",
        "",
    ])  # fmt: skip


def _probe(probe: Probe) -> str:
    return "\n".join([
        f"### {probe.name}\n",
        f"{probe.summary} {_plain(probe)}\n",
        _parameters(probe.params),
        f"- Rights: {_rights(probe)}",
        "",
    ])  # fmt: skip


def _plain(described: BuiltIn | Probe) -> str:
    return " ".join((type(described).__doc__ or "").split())


def _rights(described: BuiltIn | Probe) -> str:
    sample = _SAMPLES.get(described.name)
    params = None if sample is None else described.params.model_validate(sample)
    if len(getattr(described, "kinds", ())) > len(Kind) // 2:
        verbs = sorted({right.verb for right in described.needs(params, Kind.CONFIG_MAP)})
        return f"{' and '.join(verbs)} the target's kind"
    if described.name == "object_field":
        return "get the object's kind"
    # Probes and actions whose rights do not depend on parameters do not look at them.
    return _listed(described.needs(params or described.params.model_construct()))


def _listed(rights: tuple[Permission, ...]) -> str:
    return ", ".join(f"`{right}`" for right in rights) if rights else "none"


def _parameters(params: type[Params]) -> str:
    schema = params.model_json_schema()
    given = schema.get("properties") or {}
    if not given:
        return "No parameters.\n"
    required = set(schema.get("required") or ())
    rows = ["| parameter | type | default | |", "| --- | --- | --- | --- |"]
    for name, entry in given.items():
        default = "required" if name in required else _default(entry)
        about = " ".join(entry.get("description", "").split()).replace("|", "\\|")
        rows.append(f"| `{name}` | {_type(entry, schema)} | {default} | {about} |")
    return "\n".join(rows) + "\n"


def _default(entry: dict[str, Any]) -> str:
    value = entry.get("default")
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, list):
        return ", ".join(f"`{one}`" for one in value)
    if _type(entry, {}) == "duration":
        return f"`{format_duration(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(entry: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in entry:
        name = entry["$ref"].rpartition("/")[2]
        found = schema["$defs"][name]
        if "enum" in found:
            return "a kind"
        inner = ", ".join(f"`{key}`" for key in found.get("properties") or ())
        return f"mapping of {inner}"
    if any(one.get("format") == "duration" for one in entry.get("anyOf") or ()):
        return "duration"
    if "anyOf" in entry:
        kinds = [_type(one, schema) for one in entry["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in entry:
        return " \\| ".join(f"`{value}`" for value in entry["enum"])
    if "const" in entry:
        return f"`{entry['const']}`"
    match entry.get("type"):
        case "array":
            return f"list of {_type(entry.get('items') or {}, schema)}"
        case "object":
            return "mapping"
        case "integer" | "number" as kind:
            word = "whole number" if kind == "integer" else "number"
            return word + _range(entry)
        case "boolean":
            return "`true` or `false`"
        case "string":
            return "text"
        case _:
            return "anything"


def _range(entry: dict[str, Any]) -> str:
    low = entry.get("minimum", entry.get("exclusiveMinimum"))
    high = entry.get("maximum")
    if low is None and high is None:
        return ""
    if high is None:
        return f", at least {low:g}"
    return f", {low:g} to {high:g}" if low is not None else f", at most {high:g}"
