"""The Store port on one SQLite file: writes go through one thread, reads through a few others."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

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
from healer.store.sqlite import inbox, people, together, transitions, views
from healer.store.sqlite.file import FileLock, open_reader, open_writer, prepare
from healer.store.sqlite.readers import Readers
from healer.store.sqlite.statements import SQL
from healer.store.sqlite.writer import Writer

#: Alerts that are encoded and committed at once: bounds how long the event loop and the other
#: callers wait for a storm of thousands in one delivery.
_ACCEPT_SLICE = 256
#: A delivery of thousands may take this much longer for each alert.
_SECONDS_PER_ALERT = 0.0002
_FOLD_SLICE = 128
#: About so many rows are written by one transition.
_ROWS_OF_A_CHANGE = 8
_READER_THREADS = 2


class SqliteStore:
    """The journal in one file that this process alone owns. Make it with `open`."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        lock: FileLock,
        clock: Clock,
        *,
        accept_seconds: float,
        write_seconds: float,
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._lock = lock
        self._clock = clock
        self._accept_seconds = accept_seconds
        self._write_seconds = write_seconds

    @classmethod
    async def open(
        cls,
        path: Path | str,
        *,
        clock: Clock,
        crash: CrashPoints = NO_CRASH,
        accept_seconds: float = 0.08,
        write_seconds: float = 5.0,
    ) -> "SqliteStore":
        """Open, or make, the journal at `path`; every lease in it has ended, its holder is dead.

        `accept_seconds` is how long an alert may wait for the disk, so that an overloaded healer
        answers 503 in time; `write_seconds` the same for everything else. Raises ConfigError when
        the file is not a healer journal, is a newer one's, or is owned by another process.

        Crash points, each with `before:` (the commit) and `after:` (it, before anyone is told):
        `accept-commit`, `fold`, `claim`, `intent`, `outcome`, `commit` (any other change), `write`.
        """
        path = Path(path)
        lock = FileLock(path)
        try:
            await asyncio.to_thread(prepare, path, clock.now())
            writer = Writer(str(path), partial(open_writer, path), crash)
        except BaseException:
            lock.release()
            raise
        readers = Readers(str(path), partial(open_reader, path), _READER_THREADS)
        return cls(
            writer,
            readers,
            lock,
            clock,
            accept_seconds=accept_seconds,
            write_seconds=write_seconds,
        )

    # ------------------------------------------------------------------ writes

    async def accept(
        self, alerts: Sequence[Alert], rejected: Sequence[Rejected], at: float
    ) -> Receipt:
        """Make every alert durable; those known by `event_id` are no-ops. Then return.

        Thousands are committed in slices. When a later slice fails the earlier ones stay, and are
        duplicates when the delivery is repeated.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._accept_seconds + _SECONDS_PER_ALERT * len(alerts)
        if rejected:
            work = partial(inbox.reject, rejected=tuple(rejected), at=at)
            await self._writer.write("accept-commit", work, deadline - loop.time())
        new = 0
        for start in range(0, len(alerts), _ACCEPT_SLICE):
            rows = inbox.event_rows(alerts[start : start + _ACCEPT_SLICE], at)
            new += await self._writer.write_bulk(
                "accept-commit", inbox.accept, rows, len(rows), deadline - loop.time(),
                abandon=True,
            )  # fmt: skip
        return Receipt(new, len(alerts) - new, len(rejected))

    async def fold(
        self, decide: Callable[[Episode | None, Alert, float], Fold], now: float, limit: int
    ) -> Sequence[tuple[Alert, Fold]]:
        """Apply the oldest `limit` accepted, unfolded alerts to their episodes, each atomically.

        Done in slices, so that alerts coming in meanwhile are not kept waiting. When a later slice
        cannot be committed, what was folded is returned; the next call meets the trouble first.
        """
        folded: list[tuple[Alert, Fold]] = []
        while len(folded) < limit:
            size = min(_FOLD_SLICE, limit - len(folded))
            work = partial(inbox.fold, decide=decide, now=now, limit=size)
            try:
                some = await self._writer.write("fold", work, self._write_seconds)
            except StoreUnavailable:
                if not folded:
                    raise
                break
            folded += some
            if len(some) < size:
                break
        return folded

    async def claim(
        self, owner: str, now: float, lease_seconds: float, limit: int
    ) -> Sequence[Claim]:
        """Claim up to `limit` due episodes, worst first, then oldest; expired leases included."""
        if not owner:
            raise ValueError("a claim needs the name of its owner")
        work = partial(
            transitions.claim, owner=owner, now=now, lease_seconds=lease_seconds, limit=limit
        )
        return await self._writer.write("claim", work, self._write_seconds)

    async def commit(self, claim: Claim, change: Change) -> Claim:
        """Write `change` if the claim still holds, else raise Fenced.

        Returns what is now on disk, without owner when it was released: whether the episode fires
        is what `fold` last learned. Raises LockTaken, BudgetShort or Conflict having written
        nothing; Conflict also for an intent whose outcome is known and for a second unfinished run.
        """
        point = "commit"
        if change.step is not None:
            point = "intent" if change.step.outcome is None else "outcome"
        now = self._clock.now()
        after: Claim = await self._writer.write_bulk(
            point, together.commit_all, (claim, change, now), _ROWS_OF_A_CHANGE,
            self._write_seconds, abandon=False,
        )  # fmt: skip
        return after

    async def renew(self, claims: Sequence[Claim], now: float, lease_seconds: float) -> set[str]:
        """Extend the leases; returns the ids of the episodes that are still ours."""
        work = partial(
            transitions.renew, claims=tuple(claims), now=now, lease_seconds=lease_seconds
        )
        return await self._writer.write("claim", work, self._write_seconds)

    async def answer(self, episode_id: str, approval: Approval, now: float) -> None:
        """Record a person's answer to the plan that waits, and make the episode due."""
        work = partial(people.answer, id_=episode_id, given=approval, now=now)
        await self._writer.write("write", work, self._write_seconds)

    async def acknowledge(self, episode_id: str, by: str, note: str, now: float) -> None:
        """Close an escalated or settled episode by hand. Raises NotFound or Conflict."""
        work = partial(people.acknowledge, id_=episode_id, by=by, note=note, now=now)
        await self._writer.write("write", work, self._write_seconds)

    async def set_pause(self, pause: Pause) -> None:
        """Add (or replace, by id) a pause."""
        work = partial(people.set_pause, pause=pause)
        await self._writer.write("write", work, self._write_seconds)

    async def clear_pause(self, pause_id: str, by: str, now: float) -> bool:
        """Remove a pause; False when there was none."""
        work = partial(people.clear_pause, id_=pause_id, by=by, now=now)
        return await self._writer.write("write", work, self._write_seconds)

    async def reset_breaker(self, playbook: str, by: str, now: float) -> None:
        """A person vouches for the playbook again."""
        work = partial(people.reset_breaker, playbook=playbook, by=by, now=now)
        await self._writer.write("write", work, self._write_seconds)

    async def take_message(self, message_id: str, now: float, seconds: float) -> bool:
        """Hold a due message for `seconds`; True for one caller, who then delivers it."""
        work = partial(_take_message, id_=message_id, now=now, seconds=seconds)
        return await self._writer.write("write", work, self._write_seconds)

    async def message_done(self, message_id: str, delivered: bool, retry_at: float) -> None:
        """Take a message off the queue, or have it tried again at `retry_at`."""
        work = partial(_message_done, id_=message_id, delivered=delivered, retry_at=retry_at)
        await self._writer.write("write", work, self._write_seconds)

    # ------------------------------------------------------------------ reads

    async def ledger(self, query: LedgerQuery, now: float) -> Ledger:
        """The persistent facts for a guard, read at one moment."""
        found: Ledger = await self._readers.read_bulk(views.ledgers, (query, now))
        return found

    async def pauses(self) -> Sequence[Pause]:
        """All pauses in force."""
        return await self._readers.read(partial(views.pauses, now=self._clock.now()))

    async def episode(self, episode_id: str) -> Episode | None:
        """One episode; an unambiguous prefix of at least 6 characters is enough."""
        return await self._readers.read(partial(views.episode, id_=episode_id))

    async def episodes(self, which: EpisodeFilter) -> Sequence[Episode]:
        """Episodes, newest first."""
        return await self._readers.read(partial(views.episodes, which=which))

    async def runs(self, episode_id: str = "", limit: int = 100) -> Sequence[Run]:
        """Runs with their steps, newest first; of one episode when named."""
        return await self._readers.read(
            partial(views.list_runs, episode_id=episode_id, limit=limit)
        )

    async def facts(self, episode_id: str = "", after: int = 0, limit: int = 1000) -> list[Sealed]:
        """Facts in order; of one episode when named."""
        return await self._readers.read(
            partial(views.facts, episode_id=episode_id, after=after, limit=limit)
        )

    async def messages_due(self, now: float, limit: int) -> Sequence[Message]:
        """Messages to be delivered now."""
        return await self._readers.read(partial(views.messages_due, now=now, limit=limit))

    async def next_due(self) -> float | None:
        """When the next episode (a claimed one: the end of its lease) or message is due."""
        return await self._readers.read(views.next_due)

    async def counts(self) -> Mapping[str, int]:
        """Numbers for the metrics page: `inbox`, `outbox`, `rejected`, `episodes/<state>`."""
        return await self._readers.read(views.counts)

    async def playbook_text(self, sha256: str) -> str | None:
        """The YAML a run began with."""
        return await self._readers.read(partial(views.playbook_text, sha256=sha256))

    async def close(self) -> None:
        """Finish what was begun and let go of the file. Closing twice does nothing more."""
        await self._readers.close()
        await self._writer.close()
        self._lock.release()


def _take_message(connection: sqlite3.Connection, id_: str, now: float, seconds: float) -> bool:
    return connection.execute(SQL["message_take"], (now + seconds, id_, now)).rowcount == 1


def _message_done(
    connection: sqlite3.Connection, id_: str, delivered: bool, retry_at: float
) -> None:
    if delivered:
        connection.execute(SQL["message_done"], (id_,))
    else:
        connection.execute(SQL["message_again"], (retry_at, id_))
