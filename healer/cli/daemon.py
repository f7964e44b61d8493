"""`healer serve`: the daemon itself."""

import asyncio
import os
from pathlib import Path

import click

from healer.kernel.secrets import SecretFile
from healer.logs import configure
from healer.settings import Settings, load

config_option = click.option(
    "--config",
    envvar="HEALER_CONFIG",
    type=click.Path(path_type=Path),
    help="Settings file [HEALER_CONFIG]; every setting is also a variable, see `healer settings`.",
)


@click.command()
@config_option
@click.option("--dry-run", is_flag=True, help="Do everything but the effect; as `dry_run: true`.")
def serve(config: Path | None, dry_run: bool) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    settings = load(config, os.environ)
    if dry_run:
        settings = settings.model_copy(update={"dry_run": True})
    files = [SecretFile(path) for path in secret_files(settings)]
    configure(settings.log.level, settings.log.format, secrets=lambda: _readable(files))
    from healer.app import run

    asyncio.run(run(settings))


def secret_files(settings: Settings) -> list[Path]:
    """Every file with a secret that the settings name."""
    found: list[Path] = []

    def walk(value: object, key: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, str(name))
        elif isinstance(value, list | tuple):
            for inner in value:
                walk(inner, key)
        elif isinstance(value, Path) and key in _SECRET_KEYS:
            found.append(value)

    walk(settings.model_dump(), "")
    return found


_SECRET_KEYS = frozenset({
    "token_file", "token_files", "metrics_token_files", "password_file", "url_file",
    "direct_url_file", "routing_key_file", "secret_file",
})  # fmt: skip


def _readable(files: list[SecretFile]) -> list[str]:
    """The secrets that can be read now; one that cannot be read cannot leak from a log either."""
    values = []
    for file in files:
        try:
            values.append(file.read().reveal())
        except (OSError, ValueError):
            continue
    return values


COMMANDS = (serve,)
