"""Appending facts: each is sealed to the one before it, and the file itself refuses any change."""

import sqlite3
from collections.abc import Iterable

from healer.domain.journal import Fact
from healer.store.chain import keep, link
from healer.store.sqlite.statements import SQL, insert_rows


def append(connection: sqlite3.Connection, facts: Iterable[Fact]) -> None:
    """Seal `facts` to the end of the chain, in order. Raises ValueError when one holds a NaN."""
    pending = [keep(fact) for fact in facts]
    if not pending:
        return
    rows = []
    for sealed, data in link(connection.execute(SQL["fact_last"]).fetchone(), pending):
        fact = sealed.fact
        rows.append(
            (
                sealed.seq,
                fact.kind,
                fact.at,
                fact.episode_id,
                fact.run_id,
                fact.reason,
                fact.detail,
                data,
                sealed.previous,
                sealed.hash,
            )
        )
    insert_rows(connection, "fact_add", rows)
