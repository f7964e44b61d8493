"""`healer settings`, and the generated parts of the docs, made from the code itself."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_origin

import click
from pydantic import BaseModel

from healer.cli.output import machine, output_option, table
from healer.domain.meaning import MEANINGS
from healer.domain.verdict import Reason
from healer.errors import ConfigError
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


# ------------------------------------------------------------------------------------------ docs

_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def markdown(name: str, root: click.Group) -> str:
    """The generated block `name`: `settings`, `metrics`, `reasons` or `commands`."""
    match name:
        case "settings":
            return _grid(
                ["setting", "variable", "kind", "default", "what it does"],
                [
                    [f"`{r.key}`", f"`{r.variable}`", r.kind, f"`{r.default}`", r.description]
                    for r in settings_rows()
                ],
            )
        case "metrics":
            from healer.web.metrics import Instruments

            return _grid(
                ["metric", "type", "labels", "what it says"],
                [
                    [f"`{one.name}`", one.kind, ", ".join(f"`{x}`" for x in one.labels), one.help]
                    for one in Instruments().described()
                ],
            )
        case "reasons":
            return _grid(
                ["reason", "what it says", "what you can do"],
                [[f"`{r}`", MEANINGS[r].says, MEANINGS[r].remedy] for r in Reason],
            )
        case "commands":
            return "\n".join(_usage(one) for _, one in sorted(root.commands.items()))
        case _:
            raise ConfigError(f"there is no generated block {name!r}; correct its name")


def _usage(command: click.Command) -> str:
    context = click.Context(
        command,
        info_name=f"healer {command.name}",
        terminal_width=100,
        max_content_width=100,
        help_option_names=["-h", "--help"],
    )
    return f"### healer {command.name}\n```\n{command.get_help(context)}\n```\n"


def _grid(columns: list[str], rows: list[list[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *cells]]
    return "\n".join(lines) + "\n"


def generated(text: str, root: click.Group) -> str:
    """`text` with every generated block made anew."""
    return _BLOCK.sub(lambda found: found[1] + markdown(found[2], root) + found[3], text)


@click.command()
@output_option
def settings(output: str) -> None:
    """List every setting with its variable, default and meaning."""
    rows: list[Mapping[str, str]] = [asdict(row) for row in settings_rows()]
    if not machine({"settings": [dict(row) for row in rows]}, output):
        table(
            ["setting", "variable", "default", "what it does"],
            [[r["key"], r["variable"], r["default"], r["description"]] for r in rows],
            "",
        )


@click.command(hidden=True)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.pass_context
def docs(ctx: click.Context, files: tuple[Path, ...]) -> None:
    """Write the generated blocks of these files anew; for those who work on healer."""
    root = ctx.find_root().command
    if isinstance(root, click.Group):
        for path in files:
            path.write_text(generated(path.read_text(), root))


COMMANDS = (settings, docs)
