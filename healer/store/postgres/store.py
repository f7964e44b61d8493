"""The Store port on PostgreSQL: any number of replicas, one database, its clock."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg

from healer.domain.alert import Alert, Rejected
from healer.domain.episode import Episode, Fold
from healer.domain.facts import Approval
from healer.domain.journal import Sealed
from healer.domain.pause import Pause
from healer.domain.run import Run
from healer.errors import ConfigError, StoreUnavailable
from healer.kernel.clock import Clock
from healer.kernel.crashpoints import NO_CRASH, CrashPoints
from healer.ports import Change, Claim, EpisodeFilter, Ledger, LedgerQuery, Message, Receipt
from healer.store.postgres import claims, commits, inbox, people, schema, views
from healer.store.postgres.connections import LOST, Database, Transaction
from healer.store.postgres.hints import Hints
from healer.store.postgres.lanes import Lane
from healer.store.postgres.looks import Looks
from healer.store.postgres.time import DatabaseClock

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: Alerts that are encoded and committed at once.
_ACCEPT_SLICE = 256
#: A delivery of thousands may take this much longer for each alert.
_SECONDS_PER_ALERT = 0.0002
_FOLD_SLICE = 128
#: A lane that got no answer from the server gives up after this, and begins anew.
_ACCEPT_LANE_SECONDS = 2.0
_READ_SECONDS = 2.0


class PostgresStore:
    """The journal in a database that replicas share. Make it with `open`.

    With a `clock` (tests) time is the callers' and that clock's. Without, every time that decides
    anything is the database's, whatever a caller says: hosts may disagree, the database does not.
    """

    def __init__(
        self,
        database: Database,
        hints: Hints,
        clock: Clock | None,
        *,
        accept_seconds: float,
        write_seconds: float,
    ) -> None:
        self._database = database
        self._clock = clock
        self._accept_seconds = accept_seconds
        self._write_seconds = write_seconds
        self._under_way: set[asyncio.Task[object]] = set()
        self._closed = False
        self.hints = hints
        self._accepting = Lane(
            database, inbox.accept, workers=2, group_weight=1024, queue_weight=16_384,
            seconds=max(_ACCEPT_LANE_SECONDS, accept_seconds), given=lambda: None,
        )  # fmt: skip
        self._guards = Looks(database, views.ledgers)
        self._committing = Lane(
            database, commits.commit, workers=2, group_weight=128, queue_weight=4096,
            seconds=write_seconds, given=self._present,
        )  # fmt: skip

    @classmethod
    async def open(
        cls,
        url: str | Callable[[], str],
        *,
        direct_url: str | Callable[[], str] = "",
        clock: Clock | None = None,
        time: DatabaseClock | None = None,
        crash: CrashPoints = NO_CRASH,
        accept_seconds: float = 0.08,
        write_seconds: float = 5.0,
        connections: int = 10,
        heir_of: str = "",
    ) -> "PostgresStore":
        """Open the journal at `url` (asked for anew at each connection when it is a function).

        `direct_url` leads past a proxy that pools transactions, for hints; without it, behind such
        a proxy, there are none. `accept_seconds` is how long an alert may wait for its commit, so
        that an overloaded healer answers 503 in time; `write_seconds` the same for everything else.
        `time` is told what time the database says it is. Claims of owners whose names begin with
        `heir_of` are over: only for a name that no other living process can have.
        Raises ConfigError when the database cannot be used as it is and StoreUnavailable when it
        cannot be reached now.

        Crash points, each with `before:` (the commit) and `after:` (it, before anyone is told):
        `accept-commit`, `fold`, `claim`, `intent`, `outcome`, `commit` (any other change), `write`.
        """
        address = _address(url)
        database = Database(
            shown(address()), address, crash, size=connections, read_seconds=_READ_SECONDS
        )
        if time is not None and clock is None:
            database.on_time = time.learn
        await _prepare(database)
        listener: Database | None = None if database.pooled else database
        if direct_url:
            past = _address(direct_url)
            listener = Database(shown(past()), past, crash, size=1, read_seconds=_READ_SECONDS)
        elif database.pooled:
            _log.info("%s: behind a pooling proxy, so no hints between replicas", database.name)
        store = cls(
            database,
            Hints(database, listener),
            clock,
            accept_seconds=accept_seconds,
            write_seconds=write_seconds,
        )
        if heir_of:
            try:
                await store._inherit(heir_of)
            except BaseException:
                await store.close()
                raise
        return store

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
        given = self._given(at)
        if rejected:
            kept = tuple(rejected)
            await self._write(
                "accept-commit", lambda tx: inbox.reject(tx, kept, given), given,
                deadline - loop.time(),
            )  # fmt: skip
        new = 0
        for start in range(0, len(alerts), _ACCEPT_SLICE):
            delivery = inbox.Delivery.of(alerts[start : start + _ACCEPT_SLICE], given)
            new += await self._accepting.submit(
                "accept-commit", delivery, len(delivery.ids), deadline - loop.time(), abandon=True
            )
        if new:
            self.hints.give()
        return Receipt(new, len(alerts) - new, len(rejected))

    async def fold(
        self, decide: Callable[[Episode | None, Alert, float], Fold], now: float, limit: int
    ) -> Sequence[tuple[Alert, Fold]]:
        """Apply the oldest `limit` accepted, unfolded alerts to their episodes, each atomically.

        Done in slices. When a later slice cannot be committed, what was folded is returned; the
        next call meets the trouble first.
        """
        folded: list[tuple[Alert, Fold]] = []
        while len(folded) < limit:
            size = min(_FOLD_SLICE, limit - len(folded))
            try:
                some = await self._write(
                    "fold", partial(inbox.fold, decide=decide, limit=size), self._given(now)
                )
            except StoreUnavailable:
                if not folded:
                    raise
                break
            folded += some
            if len(some) < size:
                break
        if folded:
            self.hints.give()
        return folded

    async def claim(
        self, owner: str, now: float, lease_seconds: float, limit: int
    ) -> Sequence[Claim]:
        """Claim up to `limit` due episodes, worst first, then oldest; expired leases included."""
        if not owner:
            raise ValueError("a claim needs the name of its owner")
        return await self._write(
            "claim", lambda tx: claims.claim(tx, owner, lease_seconds, limit), self._given(now)
        )

    async def commit(self, claim: Claim, change: Change) -> Claim:
        """Write `change` if the claim still holds, else raise Fenced.

        Returns what is now on disk, without owner when it was released: whether the episode fires
        is what `fold` last learned. Raises LockTaken, BudgetShort or Conflict having written
        nothing; Conflict also for an intent whose outcome is known and for a second unfinished run.
        """
        point = "commit"
        if change.step is not None:
            point = "intent" if change.step.outcome is None else "outcome"
        after: Claim = await self._committing.submit(
            point, (claim, change), 1, self._write_seconds, abandon=False
        )
        return after

    async def renew(self, claims_: Sequence[Claim], now: float, lease_seconds: float) -> set[str]:
        """Extend the leases; returns the ids of the episodes that are still ours."""
        held = tuple(claims_)
        return await self._write(
            "claim", lambda tx: claims.renew(tx, held, lease_seconds), self._given(now)
        )

    async def answer(self, episode_id: str, approval: Approval, now: float) -> None:
        """Record a person's answer to the plan that waits, and make the episode due."""
        await self._write(
            "write", lambda tx: people.answer(tx, episode_id, approval), self._given(now)
        )
        self.hints.give()

    async def acknowledge(self, episode_id: str, by: str, note: str, now: float) -> None:
        """Close an escalated or settled episode by hand. Raises NotFound or Conflict."""
        await self._write(
            "write", lambda tx: people.acknowledge(tx, episode_id, by, note), self._given(now)
        )

    async def set_pause(self, pause: Pause) -> None:
        """Add (or replace, by id) a pause."""
        await self._write("write", lambda tx: people.set_pause(tx, pause), self._present())

    async def clear_pause(self, pause_id: str, by: str, now: float) -> bool:
        """Remove a pause; False when there was none."""
        return await self._write(
            "write", lambda tx: people.clear_pause(tx, pause_id, by), self._given(now)
        )

    async def reset_breaker(self, playbook: str, by: str, now: float) -> None:
        """A person vouches for the playbook again."""
        await self._write(
            "write", lambda tx: people.reset_breaker(tx, playbook, by), self._given(now)
        )

    async def take_message(self, message_id: str, now: float, seconds: float) -> bool:
        """Hold a due message for `seconds`; True for one caller, who then delivers it."""
        return await self._write(
            "write", lambda tx: people.take_message(tx, message_id, seconds), self._given(now)
        )

    async def message_done(self, message_id: str, delivered: bool, retry_at: float) -> None:
        """Take a message off the queue, or have it tried again at `retry_at`."""
        await self._write(
            "write",
            lambda tx: people.message_done(tx, message_id, delivered, retry_at),
            self._present(),
        )

    # ------------------------------------------------------------------ reads

    async def ledger(self, query: LedgerQuery, now: float) -> Ledger:
        """The persistent facts for a guard, read at one moment."""
        return await self._guards.ask((query, self._given(now)))

    async def pauses(self) -> Sequence[Pause]:
        """All pauses in force."""
        given = self._present()
        return await self._database.read(lambda view: views.pauses(view, given))

    async def episode(self, episode_id: str) -> Episode | None:
        """One episode; an unambiguous prefix of at least 6 characters is enough."""
        return await self._database.read(lambda view: views.episode(view, episode_id))

    async def episodes(self, which: EpisodeFilter) -> Sequence[Episode]:
        """Episodes, newest first."""
        return await self._database.read(lambda view: views.episodes(view, which))

    async def runs(self, episode_id: str = "", limit: int = 100) -> Sequence[Run]:
        """Runs with their steps, newest first; of one episode when named."""
        return await self._database.read(lambda view: views.list_runs(view, episode_id, limit))

    async def facts(self, episode_id: str = "", after: int = 0, limit: int = 1000) -> list[Sealed]:
        """Facts in order; of one episode when named."""
        return await self._database.read(lambda view: views.facts(view, episode_id, after, limit))

    async def messages_due(self, now: float, limit: int) -> Sequence[Message]:
        """Messages to be delivered now."""
        given = self._given(now)
        return await self._database.read(lambda view: views.messages_due(view, given, limit))

    async def next_due(self) -> float | None:
        """When the next episode (a claimed one: the end of its lease) or message is due."""
        return await self._database.read(views.next_due)

    async def counts(self) -> Mapping[str, int]:
        """Numbers for the metrics page: `inbox`, `outbox`, `rejected`, `episodes/<state>`."""
        return await self._database.read(views.counts)

    async def playbook_text(self, sha256: str) -> str | None:
        """The YAML a run began with."""
        return await self._database.read(lambda view: views.playbook_text(view, sha256))

    async def close(self) -> None:
        """Finish what was begun and let go of the database. Closing twice does nothing more."""
        if self._closed:
            return
        self._closed = True
        await self.hints.close()
        await asyncio.gather(
            self._accepting.close(), self._committing.close(), self._guards.close()
        )
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._database.close()

    # ------------------------------------------------------------------ time and transactions

    def _given(self, now: float) -> float | None:
        """A caller's time, or None where the database says what time it is."""
        return None if self._clock is None else now

    def _present(self) -> float | None:
        return None if self._clock is None else self._clock.now()

    async def _inherit(self, prefix: str) -> None:
        """End the leases of earlier processes of this replica."""

        async def end(transaction: Transaction) -> int:
            return await transaction.run("leases_end", prefix)

        await self._write("claim", end, self._present())

    async def _write(
        self,
        point: str,
        work: Callable[[Transaction], Awaitable[T]],
        given: float | None,
        seconds: float | None = None,
    ) -> T:
        """One transaction of its own. Whoever stops waiting for it does not stop it."""
        if self._closed:
            raise StoreUnavailable(f"{self._database.name}: the journal is closed")
        task = asyncio.ensure_future(
            self._database.write((point,), work, seconds or self._write_seconds, given)
        )
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)


def shown(url: str) -> str:
    """The DSN for people and logs: where, and never by whose name or password."""
    parts = urlsplit(url)
    where = parts.hostname or "local socket"
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"postgresql://{where}{port}{parts.path}"


def _address(url: str | Callable[[], str]) -> Callable[[], str]:
    return url if callable(url) else lambda: url


async def _prepare(database: Database) -> None:
    """Look at the server, and bring the schema up to date."""
    name = database.name
    database.pooled = True  # the careful way works everywhere
    try:
        connection = await database.connect()
        try:
            pooled = await schema.check_server(connection, name)
            await schema.migrate(connection, name)
        finally:
            await connection.close()
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.ClientConfigurationError,
        ValueError,
    ) as error:
        raise ConfigError(
            f"{name}: cannot be opened: {type(error).__name__}; check the address, the database's "
            "name, the role and its password in store.url or store.url_file"
        ) from None
    except LOST as error:
        raise database.unavailable(error, _READ_SECONDS) from error
    database.pooled = pooled
