"""Looking a journal's chain through without opening it for writing: also of a running daemon."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from healer.domain.journal import GENESIS, seal
from healer.errors import ConfigError
from healer.store.sqlite import views

_PAGE = 500


def verify_file(path: Path, anchor: tuple[int, str] | None = None) -> tuple[int, str, int | None]:
    """Number and hash of the last good fact, and the number of the first bad one or None.

    `anchor` is a number and the beginning of its hash, kept elsewhere: without one, facts cut off
    the end, or a chain written anew, cannot be seen. Raises ConfigError when it cannot be read.
    """
    previous, seq = GENESIS, 0
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
        ) as file:
            while page := views.facts(file, episode_id="", after=seq, limit=_PAGE):
                for sealed in page:
                    good = sealed.seq == seq + 1 and sealed.previous == previous
                    if not good or sealed.hash != seal(previous, sealed.seq, sealed.fact):
                        return seq, previous, seq + 1
                    seq, previous = sealed.seq, sealed.hash
                    if anchor and seq == anchor[0] and not previous.startswith(anchor[1]):
                        return seq - 1, sealed.previous, seq
    except sqlite3.Error as error:
        raise ConfigError(f"{path}: is no journal that can be read: {error}") from error
    if anchor and anchor[0] > seq:
        return seq, previous, seq + 1
    return seq, previous, None
