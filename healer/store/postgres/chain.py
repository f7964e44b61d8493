"""Appending facts: one transaction at a time does, late and until its commit."""

from collections.abc import Iterable

import msgspec

from healer.domain.journal import Fact, FactKind, Sealed
from healer.domain.verdict import Reason
from healer.store.chain import Kept, keep, link
from healer.store.postgres.connections import Transaction
from healer.store.rows import decode_any, encode


def kept(facts: Iterable[Fact]) -> list[Kept]:
    """The facts as they can be read back. Raises ValueError when one holds a NaN."""
    return [keep(fact) for fact in facts]


async def append(transaction: Transaction, facts: Iterable[Kept]) -> None:
    """Seal `facts` to the end of the chain, in order. The last thing a transaction does."""
    pending = list(facts)
    if not pending:
        return
    seq, last = await transaction.row("fact_end")
    linked = link((seq, last), pending)
    columns = zip(*(_row(sealed, data) for sealed, data in linked), strict=True)
    await transaction.run("fact_add", *map(list, columns))


def _row(sealed: Sealed, data: str) -> tuple[object, ...]:
    fact = sealed.fact
    # PostgreSQL's text holds no NUL, JSON's does: what came from outside is kept as JSON.
    body = encode({"detail": fact.detail, "data": msgspec.Raw(data.encode())})
    return (
        sealed.seq, fact.kind, fact.at, fact.episode_id, fact.run_id, fact.reason, body,
        sealed.previous, sealed.hash,
    )  # fmt: skip


def decode(row: tuple[object, ...]) -> Sealed:
    """A fact in its place, from a row of `facts_all` or `facts_of`."""
    seq, kind, at, episode_id, run_id, reason, body, previous, hashed = row
    told = decode_any(str(body))
    fact = Fact(
        FactKind(str(kind)),
        float(at),  # type: ignore[arg-type]
        str(episode_id),
        str(run_id),
        Reason(str(reason)) if reason is not None else None,
        told["detail"],
        told["data"],
    )
    return Sealed(int(seq), fact, str(previous), str(hashed))  # type: ignore[call-overload]
