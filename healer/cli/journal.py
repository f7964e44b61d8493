"""Proof that the journal was not changed behind healer's back."""

from pathlib import Path

import click

from healer.cli.output import plain
from healer.errors import ConfigError


@click.command("verify-journal")
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--head", help="NUMBER:HASH that was kept elsewhere; the hash may be its beginning.")
def verify_journal(path: Path, head: str | None) -> None:
    """Look through the chain of facts in the journal at PATH; exit code 1 when it is broken.

    It reads only, so healer may be running. Keep what it prints elsewhere: given as --head the
    next time, it also shows facts that were cut off the end or a chain that was written anew.
    """
    from healer.store.sqlite.audit import verify_file

    seq, digest, broken = verify_file(path, _anchor(head))
    if broken is not None:
        click.echo(f"broken at fact {broken}: it was changed, taken out or is not of this chain")
        raise SystemExit(1)
    click.echo(f"whole: {seq} facts, head {seq}:{plain(digest)}")


def _anchor(head: str | None) -> tuple[int, str] | None:
    if head is None:
        return None
    number, _, digest = head.partition(":")
    if not number.isdecimal() or len(digest) < 12 or not digest.isalnum():
        raise ConfigError("--head: write NUMBER:HASH, with 12 digits of the hash or more")
    return int(number), digest.lower()


COMMANDS = (verify_journal,)
