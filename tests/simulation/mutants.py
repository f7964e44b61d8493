"""Bugs planted on purpose, each a change of a replica's parts: the simulator must find them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from healer.actions.contract import ActionContext, Presence
from healer.domain.alert import Alert, Rejected
from healer.domain.episode import Episode
from healer.domain.target import TargetRef
from healer.errors import StoreUnavailable
from healer.ports import Change, Claim, Receipt, Store
from healer.testing.simulation.replica import Mutation, Replica


class _Around:
    """A store that is another one, but for what a subclass does differently."""

    def __init__(self, store: Store, replica: Replica) -> None:
        self.store = store
        self.replica = replica

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def _store(made: Callable[[Store, Replica], object]) -> Mutation:
    def mutate(replica: Replica) -> None:
        replica.world.store = made(replica.world.store, replica)  # type: ignore[assignment]

    return mutate


class _WithoutEpoch(_Around):
    """Commits under whoever holds the claim now: the old owner's word counts still."""

    async def commit(self, claim: Claim, change: Change) -> Claim:
        row = self.replica.around.journal.episodes[claim.episode.id]
        forged = replace(claim, owner=row.owner, epoch=row.epoch)
        done = await self.store.commit(forged, change)
        return replace(done, owner=claim.owner if done.owner else "", epoch=claim.epoch)


class _AcceptsInMemory(_Around):
    """Says yes at once, and writes a little later."""

    async def accept(
        self, alerts: Sequence[Alert], rejected: Sequence[Rejected], at: float
    ) -> Receipt:
        loop = self.replica.around.loop
        loop.call_later(0.5, lambda: loop.create_task(self._later(alerts, rejected, at)))
        return Receipt(len(alerts), 0, len(rejected))

    async def _later(
        self, alerts: Sequence[Alert], rejected: Sequence[Rejected], at: float
    ) -> None:
        try:
            await self.store.accept(alerts, rejected, at)
        except StoreUnavailable:
            return  # the bug: who sent it was told that it is kept
        self.replica.intake.wake()


class _PaysAfterwards(_Around):
    """Looks at the budget when it decides, and pays in a transaction of its own."""

    async def commit(self, claim: Claim, change: Change) -> Claim:
        if not change.spends:
            return await self.store.commit(claim, change)
        done = await self.store.commit(claim, replace(change, spends=()))
        paid = Change(done.episode, run=done.run, spends=change.spends)
        return await self.store.commit(done, paid)


class _Sees:
    """Whoever asks hears that it fires."""

    async def is_firing(self, episode: Episode) -> bool | None:
        return True


def _never_looks(replica: Replica) -> None:
    """The recheck of firing is skipped: what was heard once is believed."""
    replica.world.levels = _Levels()


class _Levels(dict[str, Any]):
    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, _Sees())


def _repeats(replica: Replica) -> None:
    """What may have happened is done again, instead of being looked up."""
    replica.world.actions = {name: _Blind(action) for name, action in replica.world.actions.items()}


class _Blind:
    """An action whose lookup always says: it never happened."""

    def __init__(self, action: Any) -> None:
        self._action = action

    def __getattr__(self, name: str) -> Any:
        return getattr(self._action, name)

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        return Presence.NOT_APPLIED


class _IgnoresPause(_Around):
    """The ledger forgets pauses."""

    async def ledger(self, query: Any, now: float) -> Any:
        return replace(await self.store.ledger(query, now), pauses=())


#: Each planted bug by name.
MUTANTS: Mapping[str, Mutation] = {
    "commit without epoch": _store(_WithoutEpoch),
    "accepted before durable": _store(_AcceptsInMemory),
    "budget paid afterwards": _store(_PaysAfterwards),
    "firing not looked at again": _never_looks,
    "unknown step repeated": _repeats,
    "pause ignored": _store(_IgnoresPause),
}
