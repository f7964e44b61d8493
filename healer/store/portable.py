"""A journal as one file that any engine writes and any engine reads: backup, restore, copy.

JSON lines, UTF-8. The first is `{"journal": "healer", "format": 1}`, then one `[table, value, …]`
for each row with the columns of `COLUMNS`, tables in that order, and last `{"counts": …, "head":
[number, hash], "sha256": …}` over all bytes before it. What a document says is in no column.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from healer.domain.journal import GENESIS, Fact, FactKind, seal
from healer.domain.verdict import Reason
from healer.errors import ConfigError, Refused
from healer.store.rows import decode_any

FORMAT = 1
#: Columns of each table, in an order in which every row's references are there before it.
COLUMNS: dict[str, tuple[str, ...]] = {
    "event": ("id", "folded", "received_at", "body"),
    "rejected": ("source", "problem", "payload", "received_at"),
    "episode": ("doc", "zone", "owner", "epoch", "lease_until", "wake_at"),
    "run": ("doc",),
    "step": ("run_id", "doc"),
    "target_lock": ("target", "episode_id", "epoch", "at"),
    "bucket": ("key", "tokens", "at"),
    "approval": ("episode_id", "plan_digest", "asked_at", "doc", "run_id"),
    "pause": ("id", "until", "doc"),
    "flow": ("zone", "held_at", "recovered"),
    "breaker": ("playbook", "reset_at", "reset_by"),
    "outbox": ("id", "channel", "body", "attempts", "due_at", "done"),
    "playbook_text": ("sha256", "text"),
    "fact": (
        "seq", "kind", "at", "episode_id", "run_id", "reason", "detail", "data", "previous", "hash",
    ),
}  # fmt: skip
Row = tuple[str, list[Any]]


@dataclass(slots=True)
class Tally:
    """What went by: rows by table, the head of the chain, and where it is broken (0: nowhere)."""

    counts: Counter[str] = field(default_factory=Counter)
    seq: int = 0
    head: str = GENESIS
    broken: int = 0

    def add(self, row: Row) -> None:
        """Count it; a fact must be the next of the chain."""
        table, values = row
        self.counts[table] += 1
        if table != "fact":
            return
        seq, kind, at, episode_id, run_id, reason, detail, data, previous, hashed = values
        told = Reason(reason) if reason is not None else None
        fact = Fact(FactKind(kind), at, episode_id, run_id, told, detail, decode_any(data))
        good = seq == self.seq + 1 and previous == self.head
        if not self.broken and (not good or hashed != seal(previous, seq, fact)):
            self.broken = self.seq + 1
        self.seq, self.head = seq, hashed

    def require_whole(self, name: str) -> None:
        """Raises Refused when the chain is broken."""
        if self.broken:
            raise Refused(
                f"{name}: the chain of facts is broken at {self.broken}; nothing was done"
            )

    def require_same(self, other: "Tally", name: str) -> None:
        """Raises Refused when something is missing or another chain came out."""
        if (self.counts, self.head) != (other.counts, other.head):
            raise Refused(f"{name}: {dict(other.counts)} came out of {dict(self.counts)}")


def tally(rows: Iterable[Row]) -> Tally:
    """Look through all rows."""
    found = Tally()
    for row in rows:
        found.add(row)
    return found


async def write(path: Path, rows: AsyncIterator[Row]) -> Tally:
    """Write a backup; it has its name only when all of it is on disk. Raises Refused when it is
    there already or the chain is broken."""
    part = path.with_name(path.name + ".part")
    found, state = Tally(), hashlib.sha256()
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # the name is ours
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise Refused(f"{path}: is there already; name a new file") from error
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    complete = False
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:

            def line(value: Any) -> None:
                data = json.dumps(value, ensure_ascii=True).encode() + b"\n"
                state.update(data)
                file.write(data)

            line({"journal": "healer", "format": FORMAT})
            async for table, values in rows:
                found.add((table, values))
                line([table, *values])
            found.require_whole(str(path))
            end = {"counts": found.counts, "head": [found.seq, found.head]}
            line({**end, "sha256": state.hexdigest()})
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        complete = True
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        for leftover in (part,) if complete else (part, path):
            with suppress(FileNotFoundError):
                os.unlink(leftover)  # noqa: PTH108 - as the rest here, by descriptor and name
    return found


def verified(path: Path) -> Tally:
    """Look a backup through. Raises Refused when it is not whole, ConfigError when it is none."""
    state, found, end = hashlib.sha256(), Tally(), None
    try:
        with path.open("rb") as file:
            head = file.readline()
            if json.loads(head) != {"journal": "healer", "format": FORMAT}:
                raise ConfigError(f"{path}: no backup of format {FORMAT} of a healer journal")
            state.update(head)
            for data in file:
                value = json.loads(data)
                if isinstance(value, dict):
                    end = value
                    break
                state.update(data)
                found.add((value[0], value[1:]))
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path}: damaged or no backup of a healer journal: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if end is None or end["sha256"] != state.hexdigest() or end["counts"] != dict(found.counts):
        raise Refused(f"{path}: it is cut off or was changed; use another backup")
    found.require_whole(str(path))
    return found


def read(path: Path) -> Iterator[Row]:
    """The rows of a backup that was `verified`."""
    with path.open("rb") as file:
        file.readline()
        for data in file:
            value = json.loads(data)
            if isinstance(value, list):
                yield value[0], value[1:]
