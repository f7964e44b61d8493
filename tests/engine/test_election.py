"""The election in virtual time: one at a time leads, whatever hangs, fails or freezes."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from healer.engine.election import Candidate, Elector, Timing
from healer.errors import HealerError, TimedOut, Unauthorized, Unreachable
from healer.ports import LeaseRecord
from healer.testing.clock import LoopClock
from healer.testing.leases import FakeLease, Seat

pytestmark = pytest.mark.looptime

TIMING = Timing()
#: The longest that nobody leads after a holder was lost: the lease, one late look, one call.
TAKEOVER = TIMING.lease_seconds + TIMING.retry_seconds * 1.2 + 0.2


@dataclass
class Replica:
    """One elector with its way to the Lease, and the terms it served."""

    lease: FakeLease
    name: str
    wall_offset: float = 0.0
    terms: list[list[float]] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = LoopClock(1767571200.0 + self.wall_offset)
        self.seat: Seat = self.lease.seat()
        dice = random.Random(self.name)
        self.elector = Elector(self.seat, self.clock, self.name, TIMING, spread=dice.random)

    def start(self) -> "Replica":
        self.tasks = [
            asyncio.create_task(self._rounds()),
            asyncio.create_task(
                self.elector.serve_terms(lambda: [asyncio.create_task(self._lead())])
            ),
        ]
        return self

    async def _rounds(self) -> None:
        while True:
            await self.elector.round()

    async def _lead(self) -> None:
        served = [self.clock.monotonic(), float("inf")]
        self.terms.append(served)
        try:
            await asyncio.Event().wait()
        finally:
            served[1] = self.clock.monotonic()

    @property
    def leads(self) -> bool:
        return bool(self.elector.term())

    async def stop(self, *, release: bool = False) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        if release:
            await self.elector.release()


async def passing(seconds: float) -> None:
    await asyncio.sleep(seconds)  # noqa: TID251 - virtual


async def until(true: Callable[[], Any], within: float) -> float:
    """How long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not true():
        assert loop.time() - began < within, "it did not come to pass"
        await passing(0.05)
    return loop.time() - began


def overlaps(*replicas: Replica) -> list[tuple[list[float], list[float]]]:
    """Terms of different replicas that were served at the same time."""
    served = [(r.name, t) for r in replicas for t in r.terms]
    return [
        (one, other)
        for name, one in served
        for who, other in served
        if name < who and one[0] < other[1] and other[0] < one[1]
    ]


async def two(offset: float = 0.0) -> tuple[FakeLease, Replica, Replica]:
    """The first leads, the second follows; `offset` is between their wall clocks."""
    lease = FakeLease()
    first = Replica(lease, "a").start()
    await until(lambda: first.leads, 1)
    second = Replica(lease, "b", offset).start()
    await passing(30)
    assert first.leads
    assert not second.leads
    return lease, first, second


@pytest.mark.parametrize("offset", [0.0, 3600.0, -3600.0])
async def test_one_leads_and_a_killed_one_is_followed_within_the_lease(offset: float) -> None:
    """A killed leader is followed within lease and retry, whatever the others' wall clocks say."""
    lease, first, second = await two(offset)
    assert second.elector.holder == "a"
    await first.stop()
    took = await until(lambda: second.leads, TAKEOVER)
    assert took >= TIMING.lease_seconds - TIMING.retry_seconds * 1.2
    assert lease.record is not None
    assert (lease.record.holder, lease.record.transitions) == ("b", 1)
    await second.stop()


async def test_a_clean_stop_hands_over_at_once() -> None:
    """A leader that releases the Lease is followed at the next turn, not after the lease."""
    lease, first, second = await two()
    await first.stop(release=True)
    assert not first.leads
    assert lease.record is not None
    assert lease.record.holder == ""
    await until(lambda: second.leads, TIMING.retry_seconds * 1.2 + 0.1)
    await second.stop()
    assert not overlaps(first, second)


async def test_a_follower_that_stops_leaves_the_lease_alone() -> None:
    """Release by one who does not hold it writes nothing."""
    lease, first, second = await two()
    await second.stop(release=True)
    assert lease.record is not None
    assert lease.record.holder == "a"
    await passing(30)
    assert first.leads
    await first.stop()


async def test_a_leader_whose_calls_hang_stops_at_the_renew_deadline() -> None:
    """Hanging calls end the term at the deadline, before anybody else may begin."""
    _, first, second = await two()
    first.seat.open.clear()
    took = await until(lambda: not first.leads, TIMING.renew_deadline_seconds + 0.1)
    assert took <= TIMING.renew_deadline_seconds + 0.1
    await passing(0.01)
    assert first.terms[-1][1] < float("inf")
    await until(lambda: second.leads, TAKEOVER)
    assert second.terms[0][0] - first.terms[0][1] >= 3.0
    first.seat.open.set()
    await passing(60)
    assert second.leads
    assert not first.leads
    assert not overlaps(first, second)
    await first.stop()
    await second.stop()


@pytest.mark.parametrize("error", [Unreachable("away"), TimedOut("late"), Unauthorized("no right")])
async def test_a_short_trouble_costs_no_term(error: HealerError) -> None:
    """Errors for less than the renew deadline leave the leader leading in the same term."""
    _, first, second = await two()
    term = first.elector.term()
    first.seat.down = error
    await passing(TIMING.renew_deadline_seconds - 2 * TIMING.retry_seconds * 1.2)
    first.seat.down = None
    await passing(60)
    assert first.elector.term() == term
    assert not second.terms
    await first.stop()
    await second.stop()


async def test_a_lost_answer_to_every_write_deposes_and_harms_nobody() -> None:
    """A leader that never hears of its own renewals stops, and goes on when it hears again."""
    _, first, second = await two()
    first.seat.lost = TimedOut("the answer is lost")
    await until(lambda: not first.leads, TIMING.renew_deadline_seconds + 0.1)
    first.seat.lost = None
    await until(lambda: first.leads or second.leads, TAKEOVER)
    await passing(60)
    assert first.leads != second.leads
    assert not overlaps(first, second)
    await first.stop()
    await second.stop()


async def test_a_frozen_leader_that_wakes_does_not_lead_for_a_moment() -> None:
    """After a freeze longer than the deadline the very first question is answered with no."""
    _, first, second = await two()
    frozen = first.elector.term()
    first.elector._clock = _Stopped(first.clock)
    for task in first.tasks:
        task.cancel()  # frozen: nothing of it runs
    await until(lambda: second.leads, TAKEOVER)
    first.elector._clock = first.clock
    assert first.elector.term() != frozen
    assert first.elector.term() == 0
    first.start()
    await passing(60)
    assert second.leads
    assert not first.leads
    await first.stop()
    await second.stop()


class _Stopped(LoopClock):
    def __init__(self, of: LoopClock) -> None:
        super().__init__()
        self._at = of.monotonic()

    def monotonic(self) -> float:
        return self._at


async def test_a_deleted_lease_is_made_again_by_its_holder() -> None:
    """Whoever saw the deleted Lease waits as long as it would have lasted; its holder need not."""
    lease, first, second = await two()
    for _ in range(5):
        lease.delete()
        await passing(TIMING.retry_seconds * 1.2 + 0.1)
        assert first.leads
        assert lease.record is not None
        await passing(7)
    assert not second.terms
    lease.delete()
    first.seat.down = Unreachable("away")
    await passing(TIMING.renew_deadline_seconds)
    assert not first.leads
    assert not second.leads
    await until(lambda: second.leads, TAKEOVER)
    assert not overlaps(first, second)
    await first.stop()
    await second.stop()


async def test_a_newcomer_may_take_a_deleted_lease_and_the_old_holder_gives_way() -> None:
    """When another has made the Lease anew, the former holder stops within one retry."""
    lease, first, second = await two()
    lease.put(LeaseRecord("somebody-else", 15.0, 0.0, 0.0))
    await until(lambda: not first.leads, TIMING.retry_seconds * 1.2 + 0.1)
    await passing(TIMING.lease_seconds - TIMING.retry_seconds * 2)
    assert not first.leads
    assert not second.leads
    assert first.elector.holder == "somebody-else"
    await until(lambda: first.leads or second.leads, TAKEOVER)
    assert not overlaps(first, second)
    await first.stop()
    await second.stop()


async def test_a_foreign_holder_is_waited_for_as_long_as_it_asked() -> None:
    """A Lease of another kind of holder is free after its own duration, when that is longer."""
    lease = FakeLease()
    lease.put(LeaseRecord("foreign", 60.0, 0.0, 0.0))
    only = Replica(lease, "a").start()
    await passing(59)
    assert not only.leads
    assert await until(lambda: only.leads, 5) < 5
    await only.stop()


async def test_somebody_who_only_touches_the_lease_deposes_nobody() -> None:
    """An annotation written in between is a conflict, which the leader survives in its term."""
    lease, first, second = await two()
    term = first.elector.term()
    for _ in range(20):
        assert lease.record is not None
        lease.put(lease.record)
        await passing(1.7)
    assert first.elector.term() == term
    assert not second.terms
    await first.stop()
    await second.stop()


async def test_five_replicas_in_trouble_never_lead_together() -> None:
    """At most one leads at any time under random partitions, hangs, lost answers and kills."""
    handed = 0
    for seed in range(8):
        dice = random.Random(seed)
        lease = FakeLease()
        replicas = [
            Replica(lease, f"{seed}-{n}", dice.uniform(-1e4, 1e4)).start() for n in range(5)
        ]
        alive = list(replicas)
        for _ in range(60):
            one = dice.choice(alive)
            match dice.randrange(7):
                case 0:
                    one.seat.open.clear()
                case 1:
                    one.seat.down = Unreachable("cut")
                case 2:
                    one.seat.lost = TimedOut("lost")
                case 3 if lease.record is not None:
                    lease.put(replace(lease.record))
                case 4:
                    await one.stop(release=dice.random() < 0.5)
                    alive.remove(one)
                    alive.append(Replica(lease, f"{one.name}+", dice.uniform(-1e4, 1e4)).start())
                    replicas.append(alive[-1])
                case _:
                    for other in alive:
                        other.seat.open.set()
                        other.seat.down = other.seat.lost = None
            await passing(dice.uniform(0.1, 12))
        for other in alive:
            other.seat.open.set()
            other.seat.down = other.seat.lost = None
        await until(lambda alive=alive: sum(r.leads for r in alive) == 1, 2 * TAKEOVER)
        for other in alive:
            await other.stop()
        assert overlaps(*replicas) == []
        handed += sum(bool(r.terms) for r in replicas) - 1
    assert handed > 4


async def test_cut_off_is_told_after_a_lease_and_no_sooner() -> None:
    """A replica that hears nothing of the API server for a whole lease knows that it is cut off."""
    _, first, second = await two()
    second.seat.down = Unreachable("away")
    await passing(TIMING.lease_seconds - TIMING.retry_seconds * 1.2 - 0.1)
    assert not second.elector.cut_off()
    await passing(TIMING.retry_seconds * 1.2 + 0.2)
    assert second.elector.cut_off()
    assert not first.elector.cut_off()
    second.seat.down = None
    await passing(TIMING.retry_seconds * 1.2 + 0.1)
    assert not second.elector.cut_off()
    await first.stop()
    await second.stop()


async def test_an_idle_election_is_one_call_each_retry() -> None:
    """A leader renews and a follower looks with one call a turn."""
    _, first, second = await two()
    before = first.seat.calls, second.seat.calls
    await passing(100 * TIMING.retry_seconds)
    for replica, calls in zip((first, second), before, strict=True):
        assert 80 <= replica.seat.calls - calls <= 130
    await first.stop()
    await second.stop()


def test_the_time_of_a_write_counts_from_its_beginning() -> None:
    """However late the answer came, a term ends one renew deadline after the call began."""
    candidate = Candidate("a", TIMING)
    wish = candidate.wish(100.0, 5.0)
    assert wish is not None
    candidate.wrote(replace(wish, version="1"), 100.0, 109.0)
    assert candidate.leads(109.9)
    assert not candidate.leads(110.0)
