"""`healer demo`: a first taste without a cluster, told as one timeline for each scene."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from healer.cli.output import console, machine, output_option, plain
from healer.errors import ConfigError

if TYPE_CHECKING:
    from healer.testing.demo import Played, Row

_SIMULATION = (
    "This is a simulation: engine, guards, actions and playbooks are healer's own, but cluster, "
    "Prometheus, Alertmanager, journal (in memory) and time are models."
)
_REAL = "For the real thing, on a real Kubernetes cluster, run `make demo` in healer's repository."
#: What only fills the screen; `-o json` has all of it.
_QUIET = frozenset({"evidence"})
#: What is not worth a second row when the same was said of the same object: a plan that is made
#: anew at each look, and a decision that repeats its verdict.
_SAID_ONCE = frozenset({"planned", "decided"})
_STYLES = {
    "fault": "red", "alert": "yellow", "page": "magenta", "effect": "cyan", "seen": "bold green",
}  # fmt: skip
#: Wider is harder to read. Columns.
_WIDTH = 132


@click.command()
@click.option("--scene", "names", multiple=True, metavar="NAME", help="Only this scene; repeat it.")
@click.option(
    "--playbooks",
    "path",
    type=click.Path(path_type=Path, exists=True),
    help="Play with these playbooks, a file or folder, instead of the demo's own.",
)
@output_option
def demo(names: tuple[str, ...], path: Path | None, output: str) -> None:
    """Play four failures and what healer does about them, simulated, in seconds.

    Needs no cluster. Exit code 1 if a scene did not happen as it must.
    """
    from healer.playbook_yaml import load_paths
    from healer.playbook_yaml.registry import shipped_registry
    from healer.testing import demo as shipped

    known = {scene.name: scene for scene in shipped.SCENES}
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no scene {name!r}; name one of {', '.join(known)}")
    books = load_paths([path or shipped.PLAYBOOKS], shipped_registry()).playbooks
    people = output == "table"
    if people:
        _say(f"{_SIMULATION} {_REAL}\n", "bold")
        _say("Times are simulated seconds after the fault.\n", "")
    played: list[Played] = []
    for scene in shipped.SCENES:
        if not names or scene.name in names:
            played.append(shipped.play(scene, books))
            if people:
                _tell(len(played), played[-1])
    happened = sum(each.happened for each in played)
    ok = happened == len(played)
    scenes = [asdict(each) for each in played]
    if not machine({"simulation": True, "ok": ok, "scenes": scenes}, output):
        seconds = sum(each.seconds for each in played)
        _say(
            f"{happened} of {len(played)} scenes happened, as journal and model API server agree; "
            f"{seconds / 60:.0f} simulated minutes.",
            "bold green" if ok else "bold red",
        )
        _say(f"It was a simulation. {_REAL}", "bold")
    if not ok:
        raise SystemExit(1)


def _tell(number: int, played: "Played") -> None:
    """One scene as a table, and what is missing."""
    screen = console()
    _say(f"scene {number}, {played.name}: {played.title}", "bold")
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("AFTER", justify="right")
    for name in ("WHAT", "ABOUT", "REASON"):
        grid.add_column(name, no_wrap=name == "WHAT", overflow="fold")
    grid.add_column("WHY", overflow="fold")
    for row in folded(played.timeline):
        cells = (f"{row.at:.1f} s", row.what, row.who, row.reason, row.why)
        style = _STYLES.get(row.what, "green" if row.reason == "recovered" else "")
        grid.add_row(*(Text(plain(cell), style=style) for cell in cells))
    screen.print(grid, width=min(screen.width, _WIDTH), soft_wrap=False)
    if not played.happened:
        _say(f"this scene did not happen: {played.missing}", "bold red")
    click.echo()


def folded(rows: "Sequence[Row]") -> "list[Row]":
    """The rows for people: what happened to several objects at the same moment is one row.

    In the text, … stands for the name of the object.
    """
    from healer.testing.demo import Row

    groups: dict[tuple[float, str, str, str], list[Row]] = {}
    said: set[tuple[str, str]] = set()  #: object and text
    for row in rows:
        once = (row.who, row.why)
        if row.what in _QUIET or (row.what in _SAID_ONCE and once in said):
            continue
        said.add(once)
        why = row.why.replace(row.who, "…") if row.who else row.why
        groups.setdefault((row.at, row.what, row.reason, why), []).append(row)
    return [
        Row(at, what, same[0].who if len(same) == 1 else f"{len(same)} objects", why, reason)
        for (at, what, reason, why), same in groups.items()
    ]


def _say(text: str, style: str) -> None:
    screen = console()
    screen.print(
        Text(plain_lines(text), style=style), width=min(screen.width, _WIDTH), soft_wrap=False
    )


def plain_lines(text: str) -> str:
    """`text`, safe for a terminal, with its own line ends."""
    return "\n".join(plain(line) for line in text.split("\n"))


COMMANDS = (demo,)
