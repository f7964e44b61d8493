"""Appending facts: each is sealed to the one before it, and the file itself refuses any change."""

import sqlite3
from collections.abc import Iterable
from dataclasses import replace

from healer.domain.journal import GENESIS, Fact, seal
from healer.kernel.ids import canonical_json
from healer.store.sqlite.rows import decode_any
from healer.store.sqlite.statements import SQL, insert_rows

_EMPTY = "{}"


def append(connection: sqlite3.Connection, facts: Iterable[Fact]) -> None:
    """Seal `facts` to the end of the chain, in order. Raises ValueError when one holds a NaN."""
    pending = list(facts)
    if not pending:
        return
    last = connection.execute(SQL["fact_last"]).fetchone()
    seq, previous = last or (0, GENESIS)
    rows = []
    for fact in pending:
        seq += 1
        data = canonical_json(dict(fact.data)) if fact.data else _EMPTY
        # Sealed is what can be read back: JSON turns tuples into lists and every key into text.
        kept = replace(fact, data=decode_any(data)) if fact.data else fact
        hashed = seal(previous, seq, kept)
        rows.append(
            (
                seq,
                fact.kind,
                fact.at,
                fact.episode_id,
                fact.run_id,
                fact.reason,
                fact.detail,
                data,
                previous,
                hashed,
            )
        )
        previous = hashed
    insert_rows(connection, "fact_add", rows)
