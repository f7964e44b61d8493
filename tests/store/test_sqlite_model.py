"""The embedded journal against a plain model of what it promises, over random histories."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from healer.domain.alert import Alert, AlertStatus
from healer.domain.budget import Bucket, Short, Spend, take
from healer.domain.episode import Episode, EpisodeState, fold
from healer.domain.playbook import Rate, Scope
from healer.domain.target import Kind, TargetRef
from healer.errors import Fenced
from healer.ports import BudgetShort, Change, Claim, EpisodeFilter, LockTaken, Store
from healer.store.chain import verify_chain
from healer.store.sqlite import SqliteStore
from healer.testing.clock import FakeClock
from tests.store.values import alert, query

NAMES = ["a", "b", "c", "d"]
OWNERS = ["one", "two"]
LEASE = 30.0
LOCK = TargetRef(Kind.DEPLOYMENT, "web", "shop")
RATE = Rate(3, 600.0)


@dataclass
class Row:
    """What the model knows of one episode."""

    episode: Episode
    owner: str = ""
    epoch: int = 0
    lease_until: float = 0.0
    wake_at: float | None = None

    def due_at(self) -> float:
        return self.lease_until if self.owner else self.episode.next_at


class JournalMachine(RuleBasedStateMachine):
    """Drives the journal and the model with the same calls and compares what they say."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FakeClock()
        self.store = self.runner.run(self._open())
        self.seen: set[str] = set()
        self.inbox: list[tuple[Alert, float]] = []
        self.rows: dict[str, Row] = {}
        self.claims: list[Claim] = []
        self.lock: str | None = None
        self.bucket: Bucket | None = None

    async def _open(self) -> Store:
        return await SqliteStore.open(
            self.folder / "j.db", clock=self.clock, accept_seconds=20, write_seconds=20
        )

    def teardown(self) -> None:
        assert self.runner.run(verify_chain(self.store)) is None
        self.runner.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    @rule(
        which=st.lists(
            st.tuples(st.sampled_from(NAMES), st.booleans(), st.integers(0, 3)), max_size=6
        )
    )
    def accept(self, which: list[tuple[str, bool, int]]) -> None:
        now = self.clock.now()
        alerts = [
            alert(name, starts_at=now - 60 - back, status=AlertStatus.RESOLVED, ends_at=now - back)
            if resolved
            else alert(name, starts_at=now - 60 - back)
            for name, resolved, back in which
        ]
        receipt = self.runner.run(self.store.accept(alerts, (), now))
        new = 0
        for each in alerts:
            if each.event_id not in self.seen:
                self.seen.add(each.event_id)
                self.inbox.append((each, self.clock.now()))
                new += 1
        assert (receipt.new, receipt.duplicate) == (new, len(alerts) - new)

    def _latest(self, of: Alert) -> Episode | None:
        mine = [
            row.episode
            for row in self.rows.values()
            if (row.episode.source, row.episode.fingerprint) == (of.source, of.fingerprint)
        ]
        return max(mine, key=lambda episode: episode.ordinal, default=None)

    @rule(limit=st.integers(1, 8))
    def fold(self, limit: int) -> None:
        now = self.clock.now()
        expected = []
        for each, accepted_at in self.inbox[:limit]:
            result = fold(self._latest(each), each, min(now, accepted_at))
            expected.append((each, result))
            if result.episode is not None:
                row = self.rows.setdefault(result.episode.id, Row(result.episode))
                if row.episode.firing != result.episode.firing:
                    row.wake_at = now
                row.episode = result.episode
        del self.inbox[:limit]
        assert self.runner.run(self.store.fold(fold, now, limit)) == expected

    @rule(owner=st.sampled_from(OWNERS), limit=st.integers(1, 4))
    def claim(self, owner: str, limit: int) -> None:
        now = self.clock.now()
        due = [
            row
            for row in self.rows.values()
            if row.episode.state is not EpisodeState.CLOSED and row.due_at() <= now
        ]
        due.sort(
            key=lambda row: (-row.episode.severity_rank, row.episode.opened_at, row.episode.id)
        )
        expected = []
        for row in due[:limit]:
            row.owner, row.epoch, row.lease_until = owner, row.epoch + 1, now + LEASE
            row.wake_at = None
            expected.append(Claim(row.episode, None, owner, row.epoch, row.lease_until))
        got = self.runner.run(self.store.claim(owner, now, LEASE, limit))
        assert got == expected
        self.claims += got

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        state=st.sampled_from(list(EpisodeState)),
        wait=st.sampled_from([0.0, 5.0, 60.0]),
        lock=st.booleans(),
        unlock=st.booleans(),
        cost=st.integers(0, 2),
        release=st.booleans(),
    )
    def commit(
        self,
        data: st.DataObject,
        state: EpisodeState,
        wait: float,
        lock: bool,
        unlock: bool,
        cost: int,
        release: bool,
    ) -> None:
        now = self.clock.now()
        held = data.draw(st.sampled_from(self.claims))
        wanted = replace(held.episode, state=state, next_at=now + wait)
        spends = (Spend("zone/a", Scope.ZONE, cost, RATE),) if cost else ()
        change = Change(
            wanted,
            lock=LOCK if lock else None,
            unlock=unlock,
            spends=spends,
            release=release,
        )
        try:
            got: Claim | type[Exception] = self.runner.run(self.store.commit(held, change))
        except (Fenced, LockTaken, BudgetShort) as error:
            got = type(error)
        expected = self._commit(held, change, now)
        assert got == expected
        if isinstance(got, Claim) and not release:
            self.claims.append(got)

    def _commit(self, held: Claim, change: Change, now: float) -> Claim | type[Exception]:
        row = self.rows[held.episode.id]
        if (row.owner, row.epoch) != (held.owner, held.epoch):
            return Fenced
        holder = self.lock
        if (change.unlock or change.episode.state is EpisodeState.CLOSED) and (
            holder == held.episode.id
        ):
            holder = None
        if change.lock is not None:
            if holder not in {None, held.episode.id}:
                return LockTaken
            holder = held.episode.id
        bucket = self.bucket
        for spend in change.spends:
            paid = take(bucket, spend, now)
            if isinstance(paid, Short):
                return BudgetShort
            bucket = paid
        self.lock, self.bucket = holder, bucket
        known = row.episode
        episode = replace(
            change.episode,
            firing=known.firing,
            ends_at=known.ends_at,
            end_inferred=known.end_inferred,
            last_seen_at=known.last_seen_at,
            annotations=known.annotations,
        )
        if change.release:
            if row.wake_at is not None:
                episode = replace(episode, next_at=min(episode.next_at, row.wake_at))
            row.owner, row.lease_until = "", 0.0
        row.episode = episode
        return Claim(episode, None, row.owner, row.epoch, row.lease_until)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        now = self.clock.now()
        some = data.draw(st.lists(st.sampled_from(self.claims), max_size=4))
        expected = set()
        for held in some:
            row = self.rows[held.episode.id]
            if (row.owner, row.epoch) == (held.owner, held.epoch):
                row.lease_until = max(row.lease_until, now + LEASE)
                expected.add(held.episode.id)
        assert self.runner.run(self.store.renew(some, now, LEASE)) == expected

    @rule(seconds=st.sampled_from([1.0, 10.0, 31.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.store = self.runner.run(self._open())
        self._inherit()

    def _inherit(self) -> None:
        """Whoever held a lease is dead: its journal has one owner at a time."""
        for row in self.rows.values():
            if row.owner and row.episode.state is not EpisodeState.CLOSED:
                row.lease_until = 0.0

    @invariant()
    def same(self) -> None:
        listed = self.runner.run(self.store.episodes(EpisodeFilter(limit=1000)))
        assert {e.id: e for e in listed} == {i: row.episode for i, row in self.rows.items()}
        counts = self.runner.run(self.store.counts())
        assert counts["inbox"] == len(self.inbox)
        ledger = self.runner.run(self.store.ledger(query("x"), self.clock.now()))
        assert ledger.locked_by == self.lock
        assert ledger.buckets.get("zone/a") == self.bucket
        due = [
            row.due_at()
            for row in self.rows.values()
            if row.episode.state is not EpisodeState.CLOSED
        ]
        assert self.runner.run(self.store.next_due()) == min(due, default=None)


JournalMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class TestJournal(JournalMachine.TestCase):
    """Every random history of calls leaves the journal and the model in agreement."""
