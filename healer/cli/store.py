"""`healer store …`: the journal's schema, soundness, backup, restore, and its way to PostgreSQL."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import click

from healer.cli.daemon import config_option
from healer.errors import ConfigError
from healer.kernel.clock import SystemClock
from healer.kernel.secrets import SecretFile
from healer.settings import load
from healer.store import portable
from healer.store.portable import Row, Tally
from healer.store.sqlite import moving as sqlite
from healer.store.sqlite.file import FileLock

_SCHEMES = ("postgresql://", "postgres://")
_store_option = click.option(
    "--store", help="SQLite file or PostgreSQL URL, instead of the one in the settings."
)


@click.group("store")
def store() -> None:
    """Look after the journal: schema, soundness, backup, restore, copy to PostgreSQL."""


@store.command()
@config_option
@_store_option
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
def migrate(config: Path | None, store: str | None, dry_run: bool) -> None:
    """Bring the journal's schema up to date; healer itself does so when it starts."""
    place = _place(config, store)
    if _is_url(place):
        found, known = asyncio.run(_postgres().version(place))
    else:
        found, known = sqlite.version(Path(place))
    if found >= known:
        click.echo(f"schema {found}: nothing to do")
        return
    if not dry_run:
        if _is_url(place):
            asyncio.run(_postgres().migrate(place))
        else:
            sqlite.migrate(Path(place), SystemClock().now())
    click.echo(f"schema {found} {'would be' if dry_run else 'was'} brought to {known}")


@store.command()
@config_option
@_store_option
def check(config: Path | None, store: str | None) -> None:
    """Look the whole journal through; exit code 1 when it is not whole. healer may be running."""
    place = _place(config, store)
    wrong = [] if _is_url(place) else sqlite.damage(Path(place))
    found = asyncio.run(_tally(place))
    if found.broken:
        wrong.append(f"the chain of facts is broken at {found.broken}")
    for problem in wrong:
        click.echo(f"wrong: {problem}")
    _tell("whole" if not wrong else "not whole", found)
    raise SystemExit(1 if wrong else 0)


@store.command()
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@_store_option
def backup(file: Path, config: Path | None, store: str | None) -> None:
    """Write all of the journal, as of one moment, to FILE. healer may be running."""
    place = _place(config, store)
    _tell(f"wrote {file}:", asyncio.run(portable.write(file, _rows(place))))


@store.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@config_option
@_store_option
def restore(file: Path, config: Path | None, store: str | None) -> None:
    """Make a journal of FILE where there is none; whoever held a claim in it is fenced."""
    place = _place(config, store)
    expected = portable.verified(file)
    _tell("restored:", _fill(place, lambda: portable.read(file), expected))


@store.command()
@config_option
@click.option("--from", "source", help="SQLite file; the one in the settings if not given.")
@click.option("--to", "url", required=True, help="URL of an empty PostgreSQL database.")
def copy(config: Path | None, source: str | None, url: str) -> None:
    """Copy the journal from SQLite to PostgreSQL, runs under way included. Stop healer first."""
    place = _place(config, source)
    if _is_url(place) or not _is_url(url):
        raise ConfigError("store copy: copies --from an SQLite file --to a postgresql:// URL")
    path = Path(place)
    sqlite.version(path)
    lock = FileLock(path)  # nobody writes it meanwhile
    try:
        expected = portable.tally(sqlite.rows(path))
        expected.require_whole(place)
        _tell("copied:", _fill(url, lambda: sqlite.rows(path), expected))
    finally:
        lock.release()


def _fill(place: str, rows: Callable[[], Any], expected: Tally) -> Tally:
    if _is_url(place):
        found: Tally = asyncio.run(_postgres().fill(place, rows(), expected))
        return found
    return sqlite.fill(Path(place), rows(), SystemClock().now(), expected)


async def _tally(place: str) -> Tally:
    found = Tally()
    async for row in _rows(place):
        found.add(row)
    return found


async def _rows(place: str) -> AsyncIterator[Row]:
    if _is_url(place):
        async for row in _postgres().rows(place):
            yield row
        return
    for row in sqlite.rows(Path(place)):
        yield row


def _tell(what: str, found: Tally) -> None:
    counts = ", ".join(f"{count} {table}" for table, count in sorted(found.counts.items()))
    click.echo(f"{what} {counts or 'nothing'}; head {found.seq}:{found.head}")


def _is_url(place: str) -> bool:
    return place.startswith(_SCHEMES)


def _place(config: Path | None, given: str | None) -> str:
    if given:
        return given
    settings = load(config, os.environ).store
    if settings.url_file is not None:
        return SecretFile(settings.url_file).read().reveal()
    return settings.url or str(settings.path)


def _postgres() -> Any:
    try:
        from healer.store.postgres import moving
    except ImportError as error:
        raise ConfigError(
            f"PostgreSQL needs {error.name or 'asyncpg'}; install healer[postgres]"
        ) from error
    return moving


COMMANDS = (store,)
