"""The Store port in memory: the rules of the real engines without a disk, for tests and simulation.

The contract suite runs against it as against SQLite and PostgreSQL. Every call is atomic: it never
awaits between its first check and its last write.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from healer.domain.alert import Alert, Rejected
from healer.domain.episode import Episode, Fold
from healer.domain.facts import Approval
from healer.domain.journal import Sealed
from healer.domain.pause import Pause
from healer.domain.run import Run
from healer.errors import StoreUnavailable
from healer.kernel.clock import Clock
from healer.kernel.crashpoints import NO_CRASH, CrashPoints
from healer.ports import Change, Claim, EpisodeFilter, Ledger, LedgerQuery, Message, Receipt
from healer.testing import store_inbox, store_people, store_transitions, store_views
from healer.testing.store_journal import MemoryJournal

T = TypeVar("T")


class MemoryStore:
    """A journal in memory. What is closed, or crashes, loses nothing: the `MemoryJournal` stays.

    `alone` says that this process owns the journal, as with SQLite: every lease in it has ended.
    Crash points are those of `healer.store.sqlite`.
    """

    def __init__(
        self,
        journal: MemoryJournal,
        *,
        clock: Clock,
        crash: CrashPoints = NO_CRASH,
        alone: bool = False,
    ) -> None:
        self.journal = journal
        self._clock = clock
        self._crash = crash
        self._closed = False
        if alone:
            store_transitions.end_leases(journal)

    def _open(self) -> MemoryJournal:
        if self._closed:
            raise StoreUnavailable("memory: the journal is closed")
        return self.journal

    def _write(self, point: str, work: Callable[[MemoryJournal], T]) -> T:
        journal = self._open()
        self._crash.reach(f"before:{point}")
        done = work(journal)
        journal.changes += 1
        self._crash.reach(f"after:{point}")
        return done

    # ------------------------------------------------------------------ writes

    async def accept(
        self, alerts: Sequence[Alert], rejected: Sequence[Rejected], at: float
    ) -> Receipt:
        """Keep every alert; those known by `event_id` are no-ops."""
        return self._write(
            "accept-commit", lambda journal: store_inbox.accept(journal, alerts, rejected, at)
        )

    async def fold(
        self, decide: Callable[[Episode | None, Alert, float], Fold], now: float, limit: int
    ) -> Sequence[tuple[Alert, Fold]]:
        """Apply the oldest `limit` accepted, unfolded alerts to their episodes, atomically."""
        if not self._open().inbox:
            return []
        return self._write("fold", lambda journal: store_inbox.fold(journal, decide, now, limit))

    async def claim(
        self, owner: str, now: float, lease_seconds: float, limit: int
    ) -> Sequence[Claim]:
        """Claim up to `limit` due episodes, worst first, then oldest; expired leases included."""
        if not owner:
            raise ValueError("a claim needs the name of its owner")
        if all(row.due_at > now for row in self._open().active.values()):
            return []
        return self._write(
            "claim",
            lambda journal: store_transitions.claim(journal, owner, now, lease_seconds, limit),
        )

    async def commit(self, claim: Claim, change: Change) -> Claim:
        """Write `change` if the claim still holds, else raise Fenced.

        Raises LockTaken, BudgetShort or Conflict having written nothing.
        """
        point = "commit"
        if change.step is not None:
            point = "intent" if change.step.outcome is None else "outcome"
        now = self._clock.now()
        return self._write(
            point, lambda journal: store_transitions.commit(journal, claim, change, now)
        )

    async def renew(self, claims: Sequence[Claim], now: float, lease_seconds: float) -> set[str]:
        """Extend the leases; returns the ids of the episodes that are still ours."""
        return self._write(
            "claim", lambda journal: store_transitions.renew(journal, claims, now, lease_seconds)
        )

    async def answer(self, episode_id: str, approval: Approval, now: float) -> None:
        """Record a person's answer to the plan that waits, and make the episode due."""
        self._write(
            "write", lambda journal: store_people.answer(journal, episode_id, approval, now)
        )

    async def acknowledge(self, episode_id: str, by: str, note: str, now: float) -> None:
        """Close an escalated or settled episode by hand. Raises NotFound or Conflict."""
        self._write(
            "write", lambda journal: store_people.acknowledge(journal, episode_id, by, note, now)
        )

    async def set_pause(self, pause: Pause) -> None:
        """Add (or replace, by id) a pause."""
        self._write("write", lambda journal: store_people.set_pause(journal, pause))

    async def clear_pause(self, pause_id: str, by: str, now: float) -> bool:
        """Remove a pause; False when there was none."""
        return self._write(
            "write", lambda journal: store_people.clear_pause(journal, pause_id, by, now)
        )

    async def reset_breaker(self, playbook: str, by: str, now: float) -> None:
        """A person vouches for the playbook again."""
        self._write("write", lambda journal: store_people.reset_breaker(journal, playbook, by, now))

    async def take_message(self, message_id: str, now: float, seconds: float) -> bool:
        """Hold a due message for `seconds`; True for one caller, who then delivers it."""
        return self._write(
            "write", lambda journal: _take_message(journal, message_id, now, seconds)
        )

    async def message_done(self, message_id: str, delivered: bool, retry_at: float) -> None:
        """Take a message off the queue, or have it tried again at `retry_at`."""
        self._write(
            "write", lambda journal: _message_done(journal, message_id, delivered, retry_at)
        )

    # ------------------------------------------------------------------ reads

    async def ledger(self, query: LedgerQuery, now: float) -> Ledger:
        """The persistent facts for a guard, read at one moment."""
        return store_views.ledger(self._open(), query, now)

    async def pauses(self) -> Sequence[Pause]:
        """All pauses in force."""
        return store_views.pauses(self._open(), self._clock.now())

    async def episode(self, episode_id: str) -> Episode | None:
        """One episode; an unambiguous prefix of at least 6 characters is enough."""
        return store_views.episode(self._open(), episode_id)

    async def episodes(self, which: EpisodeFilter) -> Sequence[Episode]:
        """Episodes, newest first."""
        return store_views.episodes(self._open(), which)

    async def runs(self, episode_id: str = "", limit: int = 100) -> Sequence[Run]:
        """Runs with their steps, newest first; of one episode when named."""
        return store_views.runs(self._open(), episode_id, limit)

    async def facts(self, episode_id: str = "", after: int = 0, limit: int = 1000) -> list[Sealed]:
        """Facts in order; of one episode when named."""
        return self._open().facts(episode_id, after, limit)

    async def messages_due(self, now: float, limit: int) -> Sequence[Message]:
        """Messages to be delivered now."""
        return store_views.messages_due(self._open(), now, limit)

    async def next_due(self) -> float | None:
        """When the next episode (a claimed one: the end of its lease) or message is due."""
        return store_views.next_due(self._open())

    async def counts(self) -> Mapping[str, int]:
        """Numbers for the metrics page."""
        return store_views.counts(self._open())

    async def playbook_text(self, sha256: str) -> str | None:
        """The YAML a run began with."""
        return self._open().texts.get(sha256)

    async def close(self) -> None:
        """Let go of the journal; every later call raises StoreUnavailable."""
        self._closed = True


def _take_message(journal: MemoryJournal, id_: str, now: float, seconds: float) -> bool:
    row = journal.undelivered.get(id_)
    if row is None or row.due_at > now:
        return False
    row.due_at = now + seconds
    return True


def _message_done(journal: MemoryJournal, id_: str, delivered: bool, retry_at: float) -> None:
    row = journal.undelivered.get(id_)
    if row is None:
        return
    row.attempts += 1
    if delivered:
        row.done = True
        del journal.undelivered[id_]
    else:
        row.due_at = retry_at
