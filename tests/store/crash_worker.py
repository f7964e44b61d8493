"""A process that accepts alerts and heals episodes as fast as it can until it is killed.

Arguments: the journal (a path or a URL), the crash points (as
`healer.kernel.crashpoints.from_environment` reads them) and a name that makes its alerts its own.
Whatever the journal acknowledged is printed, one word and one id a line, in one unbuffered write
after the acknowledgement.
"""

import asyncio
import os
import sys
from dataclasses import replace
from itertools import count

from healer.domain.episode import EpisodeState, fold
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Outcome, Result
from healer.domain.run import Phase
from healer.kernel.clock import SystemClock
from healer.kernel.crashpoints import CrashPoints, from_environment
from healer.ports import Claim, Store
from healer.store.postgres import PostgresStore
from healer.store.sqlite import SqliteStore
from tests.store.values import alert, run, running, state, step


def say(word: str, what: str) -> None:
    os.write(1, f"{word} {what}\n".encode())


async def deliver(store: Store, name: str, size: int) -> None:
    for number in count():
        batch = [
            alert(fingerprint=f"{name}/{size}/{number}/{each}", annotations={"summary": "x" * 300})
            for each in range(size)
        ]
        await store.accept(batch, (), SystemClock().now())
        for each in batch:
            say("accepted", each.event_id)


async def heal(store: Store, owner: str) -> None:
    clock = SystemClock()
    while True:
        await store.fold(fold, clock.now(), 50)
        claims = await store.claim(owner, clock.now(), 30.0, 8)
        await asyncio.gather(*(drive(store, claim) for claim in claims))


async def drive(store: Store, held: Claim) -> None:
    now = SystemClock().now()
    the_run = held.run or run(held.episode, owner=held.episode.id)
    intent = the_run.open_step or step(the_run, attempt=len(the_run.steps))
    lock = the_run.plan.lock
    fact = Fact(FactKind.INTENT, now, held.episode.id, the_run.id, data={"key": intent.key})
    held = await store.commit(held, running(held, the_run, step=intent, lock=lock, facts=(fact,)))
    say("intent", intent.key)
    done = replace(intent, outcome=Outcome.APPLIED, outcome_at=now)
    held = await store.commit(held, running(held, the_run, step=done))
    say("outcome", intent.key)
    ended = replace(the_run, phase=Phase.DONE, result=Result.HEALED, finished_at=now)
    await store.commit(held, state(held, EpisodeState.CLOSED, run=ended, release=True))
    say("closed", held.episode.id)


async def opened(place: str, crash: CrashPoints) -> Store:
    if place.startswith("postgresql://"):
        return await PostgresStore.open(place, crash=crash, accept_seconds=30, heir_of="w")
    return await SqliteStore.open(place, clock=SystemClock(), crash=crash, accept_seconds=30)


async def main(path: str, crash: str, name: str) -> None:
    store = await opened(path, from_environment(crash))
    say("open", path)
    await asyncio.gather(
        deliver(store, name, 1), deliver(store, name, 1), deliver(store, name, 20),
        heal(store, name),
    )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
