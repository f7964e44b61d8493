"""What commands print: a table for people, JSON or YAML for programs; colour only on terminals."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from healer.kernel.durations import format_duration

_F = TypeVar("_F", bound=Callable[..., Any])
#: State and result words that are drawn in a colour.
_COLOURS = {
    "healed": "green", "recovered": "green", "auto": "green", "ok": "green", "closed": "dim",
    "blocked": "yellow", "awaiting_approval": "cyan", "running": "blue", "approve": "cyan",
    "escalated": "red", "unknown": "red", "failed": "red", "bad": "red", "settled": "yellow",
}  # fmt: skip


def output_option(command: _F) -> _F:
    """Adds `-o table|json|yaml`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
        help="How to print it.",
    )(command)


def console(*, err: bool = False) -> Console:
    """A console that follows NO_COLOR and terminals, and is wide enough when piped."""
    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else int(os.environ.get("COLUMNS", "200"))
    return Console(stderr=err, width=width, highlight=False, soft_wrap=not stream.isatty())


def machine(value: Any, output: str) -> bool:
    """Print `value` as JSON or YAML if that was asked for; whether it was."""
    if output == "json":
        click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
    elif output == "yaml":
        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)
    return output != "table"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], nothing: str) -> None:
    """Print a plain table, or the sentence `nothing` when there are no rows."""
    if not rows:
        click.echo(nothing, err=True)
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column.upper(), overflow="fold")
    for row in rows:
        grid.add_row(*(word(cell) for cell in row))
    console().print(grid)


def word(value: Any) -> Text:
    """A cell: text from outside is never markup, control characters are shown as `?`."""
    text = plain(value)
    return Text(text, style=_COLOURS.get(text, ""))


def plain(value: Any) -> str:
    """`value` on one line, safe for a terminal."""
    text = "" if value is None else str(value)
    return "".join(char if char.isprintable() else "?" for char in text)


def age(at: float | None, now: float) -> str:
    """How long ago, in two units at most: `3m20s`."""
    if at is None:
        return ""
    seconds = max(0, round(now - at))
    if seconds >= 86400:
        seconds -= seconds % 3600
    elif seconds >= 3600:
        seconds -= seconds % 60
    return format_duration(seconds)


def clock(at: float | None) -> str:
    """A time of day in UTC, with the date when it is not today's business."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def pick(source: Mapping[str, Any], *names: str) -> list[Any]:
    """The named fields, empty text for those that are not there."""
    return [source.get(name, "") for name in names]
