"""Who works on what, and until when: claims pass over what others hold, and wait for nobody."""

from collections.abc import Sequence

from healer.domain.run import Run
from healer.ports import Claim
from healer.store.postgres import chain
from healer.store.postgres.connections import Transaction, View
from healer.store.postgres.values import run_with
from healer.store.rows import decode_episode
from healer.store.transition import took_over


async def claim(
    transaction: Transaction, owner: str, lease_seconds: float, limit: int
) -> list[Claim]:
    """Claim what is due; see `healer.ports.Store.claim`. Every claim has a new epoch."""
    now = transaction.now
    until = now + lease_seconds
    rows = await transaction.rows("claim", owner, until, now, limit)
    if not rows:
        return []
    active = await unfinished(transaction, [row[0] for row in rows])
    claims = []
    facts = []
    for id_, before, epoch, doc in rows:
        claims.append(Claim(decode_episode(doc), active.get(id_), owner, epoch, until))
        if before and before != owner:
            facts.append(took_over(id_, active.get(id_), before, owner, epoch, now))
    claims.sort(key=lambda c: (-c.episode.severity_rank, c.episode.opened_at, c.episode.id))
    await chain.append(transaction, chain.kept(facts))
    return claims


async def renew(
    transaction: Transaction, claims: Sequence[Claim], lease_seconds: float
) -> set[str]:
    """Extend the leases that are still ours; returns their episodes."""
    rows = await transaction.rows(
        "renew",
        transaction.now + lease_seconds,
        [each.episode.id for each in claims],
        [each.owner for each in claims],
        [each.epoch for each in claims],
    )
    return {row[0] for row in rows}


async def unfinished(view: View, episode_ids: Sequence[str]) -> dict[str, Run]:
    """The unfinished run of each of the episodes that has one, with steps, by episode."""
    rows = await view.rows("runs_unfinished", list(episode_ids))
    found = [run_with(doc, steps) for doc, steps in rows]
    return {run.episode_id: run for run in found}
