"""The `healer` command, also `kubectl healer`: one file for each group of commands.

Exit codes, the same for every command (docs/cli.md):
0 it is so, or it was done; 1 the answer is no, or something was found wrong; 2 wrong usage, setting
or playbook; 3 the daemon or a server cannot be reached; 4 refused; 5 there is no such thing.
"""

import sys
from typing import Any

import click

from healer import __version__
from healer.cli import (
    completion,
    daemon,
    demo,
    doctor,
    episodes,
    journal,
    pauses,
    playbooks,
    reference,
    scaling,
    store,
)
from healer.errors import (
    ConfigError,
    Conflict,
    HealerError,
    NotFound,
    Refused,
    TemporaryError,
    Unauthorized,
)

_CODES: tuple[tuple[type[HealerError], int], ...] = (
    (ConfigError, 2),
    (TemporaryError, 3),
    (Unauthorized, 4),
    (Refused, 4),
    (Conflict, 4),
    (NotFound, 5),
)


class _Group(click.Group):
    """Turns our own errors into one line and an exit code; only a defect shows a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HealerError as error:
            code = next((code for kind, code in _CODES if isinstance(error, kind)), 1)
            click.echo(f"error: {error}", err=True)
            ctx.exit(code)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="healer %(version)s")
def cli() -> None:
    """Heals Kubernetes workloads: once, for a stated reason, and looks whether it helped.

    \b
    Exit codes: 0 yes or done, 1 no or something is wrong, 2 usage, setting or playbook,
                3 cannot be reached, 4 refused, 5 no such thing.
    """


for _module in (
    daemon, demo, playbooks, episodes, pauses, journal, store, doctor, completion, reference,
    scaling,
):  # fmt: skip
    for _command in _module.COMMANDS:
        cli.add_command(_command)


def main() -> None:
    """Run the command line; the process ends with one of the exit codes above."""
    name = "kubectl healer" if "kubectl-healer" in sys.argv[0] else "healer"
    cli(prog_name=name)
