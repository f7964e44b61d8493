"""The JSON Schema of a playbook file, from the same model that the loader uses.

Draft-07, because that is what yaml-language-server understands in full. Each action's parameters
apply by `if`/`then` on its name, each probe's by its key. `python -m healer.playbook_yaml.schema`
writes it to `playbooks/playbook.schema.json`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from healer.playbook_yaml.model import PlaybookShape
from healer.playbook_yaml.registry import Registry, shipped_registry
from healer.playbook_yaml.scalars import DURATION_PATTERN

FILE_NAME = "playbook.schema.json"

_TEXT_WITH_PLACEHOLDER = {"type": "string", "pattern": r"\$\{[^{}]+\}"}
#: A number may be written as a duration (`10s`) where the action says so; the loader is exact.
_TEXT_OR_NUMBER = {"type": "string", "pattern": r"^-?[0-9]|\$\{[^{}]+\}"}
_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
_NUMBERS = frozenset({"integer", "number"})
#: Schemas of values, in which a placeholder may stand instead.
_LEAF_TYPES = frozenset({"string", "integer", "number", "boolean"})

Schema = dict[str, Any]


def playbook_schema(registry: Registry | None = None) -> Schema:
    """The schema, with the actions and probes of `registry` (of this build when None)."""
    known = registry or shipped_registry()
    schema: Schema = _without_null(_draft_07(PlaybookShape, ""))
    definitions: Schema = schema["definitions"]
    step: Schema = definitions["StepShape"]
    step["properties"]["action"] = {
        "type": "string",
        "oneOf": [
            {"const": name, "description": action.summary}
            for name, action in sorted(known.actions.items())
        ],
    }
    step["allOf"] = [
        _with(name, _params(action.params, f"action.{name}.", definitions))
        for name, action in sorted(known.actions.items())
    ]
    definitions["VerifyShape"]["properties"]["probes"]["items"] = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": {
            name: _or_nothing(_params(probe.params, f"probe.{name}.", definitions), probe.summary)
            for name, probe in sorted(known.probes.items())
        },
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **schema,
        "title": "healer playbook",
    }


def schema_text(registry: Registry | None = None) -> str:
    """The schema as it is written to disk."""
    return json.dumps(playbook_schema(registry), indent=1, sort_keys=True) + "\n"


def _draft_07(model: type[BaseModel], prefix: str) -> Schema:
    """A model's schema with `definitions` whose names begin with `prefix`."""
    schema: Schema = model.model_json_schema(
        by_alias=True,
        ref_template=f"#/definitions/{prefix}{{model}}",
        schema_generator=GenerateJsonSchema,
    )
    defs = schema.pop("$defs", {})
    schema["definitions"] = {prefix + name: value for name, value in defs.items()}
    return schema


def _without_null(schema: Any) -> Any:
    """The schema whose optional keys are left out rather than null: editors then say more."""
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _without_null(value) for key, value in schema.items()}
    choices = [choice for choice in found.get("anyOf", ()) if choice != {"type": "null"}]
    if "anyOf" in found and len(choices) == 1:
        del found["anyOf"]
        found.pop("default", None)
        # draft-07 passes over what stands beside a $ref
        found = {**found, **choices[0]} if "$ref" not in choices[0] else choices[0]
    return found


def _params(model: type[BaseModel], prefix: str, definitions: Schema) -> Schema:
    """A parameter model's schema; its definitions go to `definitions`."""
    schema = _draft_07(model, prefix)
    for name, value in schema.pop("definitions").items():
        definitions[name] = _open(value)
    opened: Schema = _open(schema)
    return opened


def _open(schema: Any) -> Any:
    """The schema with every leaf also accepting a text with a placeholder."""
    if not isinstance(schema, dict):
        return schema  # `additionalProperties: false`
    if schema.get("type") in _LEAF_TYPES or "const" in schema or "enum" in schema:
        if (
            set(schema) <= {"type", "title", "description", "default"}
            and schema["type"] == "string"
        ):
            return schema
        if schema.get("format") == "duration":  # to JSON Schema that is ISO 8601, and not ours
            schema = {k: v for k, v in schema.items() if k != "format"}
            schema["pattern"] = DURATION_PATTERN
        # pydantic leaves its own words where a validator runs before the number is read.
        schema = {_BOUNDS.get(key, key): value for key, value in schema.items()}
        outside = {k: v for k, v in schema.items() if k in {"title", "description", "default"}}
        inside = {k: v for k, v in schema.items() if k not in outside}
        text = _TEXT_OR_NUMBER if schema.get("type") in _NUMBERS else _TEXT_WITH_PLACEHOLDER
        return {**outside, "anyOf": [inside, text]}
    opened = dict(schema)
    for key in ("items", "additionalProperties"):
        if key in opened:
            opened[key] = _open(opened[key])
    if "properties" in opened:
        opened["properties"] = {k: _open(v) for k, v in opened["properties"].items()}
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if key in opened:
            opened[key] = [_open(item) for item in opened[key]]
    return opened


def _with(name: str, params: Schema) -> Schema:
    then: Schema = {"properties": {"with": params}}
    if params.get("required"):
        then["required"] = ["with"]
    return {
        "if": {"properties": {"action": {"const": name}}, "required": ["action"]},
        "then": then,
    }


def _or_nothing(params: Schema, summary: str) -> Schema:
    """A probe without required parameters may be written `- alert_resolved:`."""
    if params.get("required"):
        return {**params, "description": summary}
    return {"anyOf": [params, {"type": "null"}], "description": summary}


def write(folder: Path, registry: Registry | None = None) -> Path:
    """Write the schema into `folder`; returns the file."""
    file = folder / FILE_NAME
    file.write_text(schema_text(registry))
    return file


def main(arguments: list[str]) -> int:
    """Write the schema into the folder named, or the repository's `playbooks`."""
    folder = Path(arguments[0]) if arguments else Path(__file__).parents[2] / "playbooks"
    sys.stdout.write(f"{write(folder)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
