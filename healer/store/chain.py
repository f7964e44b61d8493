"""Proof that no fact was changed, inserted or taken out since it was written."""

from healer.domain.journal import GENESIS, seal
from healer.ports import Store

_PAGE = 500


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
