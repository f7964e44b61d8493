"""`healer completion SHELL`."""

import click
from click.shell_completion import get_completion_class

from healer.errors import ConfigError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell: `source <(healer completion bash)`."""
    kind = get_completion_class(shell)
    if kind is None:
        raise ConfigError(f"no completion for {shell}; there is bash, zsh and fish")
    found = kind(ctx.find_root().command, {}, "healer", "_HEALER_COMPLETE")
    click.echo(found.source())


COMMANDS = (completion,)
