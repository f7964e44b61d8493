"""Proof that no fact was changed, inserted or taken out since it was written."""

from collections.abc import Iterable
from dataclasses import replace

from healer.domain.journal import GENESIS, Fact, Sealed, seal
from healer.kernel.ids import canonical_json
from healer.ports import Store
from healer.store.rows import decode_any

_PAGE = 500
_EMPTY = "{}"
Kept = tuple[Fact, str]


def keep(fact: Fact) -> Kept:
    """The fact as it can be read back, and its data as JSON. Raises ValueError for a NaN in it.

    Sealed is what can be read back: JSON turns tuples into lists and every key into text.
    """
    if not fact.data:
        return fact, _EMPTY
    data = canonical_json(dict(fact.data))
    return replace(fact, data=decode_any(data)), data


def link(last: tuple[int, str] | None, facts: Iterable[Kept]) -> list[tuple[Sealed, str]]:
    """Each fact sealed to the one before it, with its data as JSON; `last` is the chain's end."""
    seq, previous = last or (0, GENESIS)
    linked = []
    for fact, data in facts:
        seq += 1
        sealed = Sealed(seq, fact, previous, seal(previous, seq, fact))
        linked.append((sealed, data))
        previous = sealed.hash
    return linked


async def verify_chain(store: Store) -> int | None:
    """The first `seq` at which the chain of facts is broken, or None when it is whole.

    What was cut off the end cannot be seen from inside: compare with a hash kept elsewhere.
    """
    previous, seq = GENESIS, 0
    while True:
        page = await store.facts(after=seq, limit=_PAGE)
        for sealed in page:
            seq += 1
            if (
                sealed.seq != seq
                or sealed.previous != previous
                or sealed.hash != seal(previous, seq, sealed.fact)
            ):
                return seq
            previous = sealed.hash
        if len(page) < _PAGE:
            return None
