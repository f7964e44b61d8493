"""Connections and transactions: who waits how long, what is tried again, and what a loss means.

Nothing here depends on a session: every transaction brings its settings along, so a proxy that
pools by transaction may stand in between. It is recognised by itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import asyncpg

from healer.errors import ConfigError, Conflict, StoreUnavailable
from healer.kernel.crashpoints import CrashPoints
from healer.store.postgres.statements import SQL

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: The connection, or the server behind it, is not to be had now; another may be.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a former primary: the address will lead to the new one
    OSError,
)
#: Somebody else was in the way; the same again will do.
AGAIN = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)
#: The data themselves are refused; the same again will be too.
FAULT = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError)

_CONNECT_SECONDS = 2.0
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.25
_STATEMENTS_KEPT = 256


class View(Protocol):
    """What reads."""

    async def rows(self, name: str, *values: Any) -> list[Any]:
        """All rows of a statement."""
        ...

    async def row(self, name: str, *values: Any) -> Any:
        """The first row of a statement, or None."""
        ...


class Transaction:
    """One transaction under way; `now` is its time, by the database's clock unless given."""

    __slots__ = ("_connection", "now")

    def __init__(self, connection: Any, now: float = 0.0) -> None:
        self._connection = connection
        self.now = now

    async def rows(self, name: str, *values: Any) -> list[Any]:
        """All rows of a statement."""
        found: list[Any] = await self._connection.fetch(SQL[name], *values)
        return found

    async def row(self, name: str, *values: Any) -> Any:
        """The first row of a statement, or None."""
        return await self._connection.fetchrow(SQL[name], *values)

    async def run(self, name: str, *values: Any) -> int:
        """Run a statement; returns how many rows it changed."""
        status: str = await self._connection.execute(SQL[name], *values)
        return int(status.rpartition(" ")[2])


#: A client that says nothing in the middle of a write for so long is frozen or gone.
_SILENT_SECONDS = 4.0

Work = Callable[[Transaction], Awaitable[T]]
Look = Callable[[View], Awaitable[T]]


async def _fate(number: str, view: View) -> tuple[str, str]:
    """What became of a transaction, and the life of the server that says so."""
    return (await view.row("fate", number))[0], (await view.row("life"))[0]


class _Undone(Exception):
    """The transaction is known not to have happened."""


class Database:
    """A few connections to one database. `address` gives the DSN each time one is made."""

    def __init__(
        self,
        name: str,
        address: Callable[[], str],
        crash: CrashPoints,
        *,
        size: int,
        read_seconds: float,
    ) -> None:
        self.name = name
        self._address = address
        self._crash = crash
        self._read_seconds = read_seconds
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Any] = []
        self._lives: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._closed = False
        #: Behind a proxy that pools by transaction: nothing may outlive one.
        self.pooled = False
        #: Told the database's time at each transaction of ours.
        self.on_time: Callable[[float], None] = lambda _: None

    # ------------------------------------------------------------------ writing

    async def write(
        self, points: Sequence[str], work: Work[T], seconds: float, given: float | None
    ) -> T:
        """Run `work` in a transaction and return its result once that is committed.

        Raises what `work` raises, having written nothing of it; Conflict for data that are refused;
        StoreUnavailable when it was not done within `seconds`. A conflict with somebody else's
        transaction and a lost connection are tried again until then; so is a COMMIT without answer,
        once the server has said that it did not happen.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        pause = _FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._attempt(points, work, seconds, given)
            except (*AGAIN, *LOST, _Undone) as error:
                if asyncio.get_running_loop().time() + pause >= deadline:
                    await self._free()
                    raise self.unavailable(error, seconds) from error
                _log.debug("%s: again after %s", self.name, type(error).__name__)
            except FAULT as error:
                raise Conflict(f"{self.name}: the journal refused a write: {error}") from error
            except (asyncpg.PostgresError, ConfigError) as error:
                raise self.unavailable(error, seconds) from error
            await asyncio.sleep(pause)  # noqa: TID251 - a server is waited for, in real time
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _attempt(
        self, points: Sequence[str], work: Work[T], seconds: float, given: float | None
    ) -> T:
        connection = await self._acquire()
        sound = False
        number, life = "", ""
        done = None
        try:
            await connection.execute(SQL["begin"])
            now, number, *_ = await connection.fetchrow(
                SQL["opening"], given, f"{int(1000 * seconds)}ms"
            )
            self.on_time(now)
            life = await self._life(connection)
            try:
                result = await work(Transaction(connection, now))
            except LOST:
                raise
            except Exception:
                await connection.execute("ROLLBACK")
                sound = True
                raise
            for point in points:
                self._crash.reach(f"before:{point}")
            done = (result,)
            status = await connection.execute("COMMIT")
            if status != "COMMIT":
                raise _Undone(f"COMMIT was answered by {status}")
            sound = True
        except LOST as error:
            if done is None:
                raise
            await self._look_up(number, life, error)
            result = done[0]
        finally:
            self._release(connection, sound=sound)
        for point in points:
            self._crash.reach(f"after:{point}")
        return result

    async def _free(self) -> None:
        """End what a frozen or vanished replica has begun and holds up everybody with."""
        try:
            ended = await self.read(lambda view: view.rows("free", _SILENT_SECONDS))
        except StoreUnavailable as error:
            _log.debug("%s", error)
            return
        if ended:
            _log.warning("%s: ended %d transactions of silent clients", self.name, len(ended))

    async def _look_up(self, number: str, life: str, error: BaseException) -> None:
        """Return when transaction `number` is committed; raise _Undone when it never will be.

        After a crash or failover, another may bear its number: who then reads "committed" knows
        nothing, which is StoreUnavailable. The caller's deadline ends this.
        """
        _log.warning("%s: no answer to a COMMIT (%s); asking again", self.name, error)
        pause = _FIRST_PAUSE
        while True:
            try:
                fate, now_life = await self.read(partial(_fate, number))
            except StoreUnavailable:
                pass
            else:
                same = now_life == life
                if fate == "committed" and not same:
                    raise StoreUnavailable(
                        f"{self.name}: the server crashed or was replaced during a COMMIT, which "
                        "may or may not have happened",
                        retry_after=1,
                    ) from error
                if fate == "committed":
                    return
                if fate == "aborted" or not same:
                    raise _Undone("the server lost it before it was committed") from error
            await asyncio.sleep(pause)  # noqa: TID251 - a server is waited for, in real time
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _life(self, connection: Any) -> str:
        """Which life of the server this is: a connection of our own ends with it."""
        if self.pooled:
            return str((await connection.fetchrow(SQL["life"]))[0])
        if connection not in self._lives:
            self._lives[connection] = str((await connection.fetchrow(SQL["life"]))[0])
        return self._lives[connection]

    # ------------------------------------------------------------------ reading

    async def read(self, look: Look[T]) -> T:
        """What `look` returns. Raises StoreUnavailable when it cannot be read now."""
        try:
            async with asyncio.timeout(self._read_seconds):
                try:
                    return await self._view(look)
                except LOST:  # one that broke while it was idle; a new one tells whether it is over
                    return await self._view(look)
        except (asyncpg.PostgresError, ConfigError, *LOST) as error:
            raise self.unavailable(error, self._read_seconds) from error

    async def _view(self, look: Look[T]) -> T:
        connection = await self._acquire()
        sound = False
        try:
            if self.pooled:
                await connection.execute(SQL["begin_read"])
                await connection.fetchrow(SQL["opening_read"])
            result = await look(Transaction(connection))
            if self.pooled:
                await connection.execute("COMMIT")
            sound = True
            return result
        finally:
            self._release(connection, sound=sound)

    # ------------------------------------------------------------------ connections

    async def connect(self) -> Any:
        """A new connection of one's own."""
        # What a proxy does not pass on is set in each transaction instead, see `opening`.
        settings = {} if self.pooled else {"jit": "off", "enable_seqscan": "off"}
        return await asyncpg.connect(
            self._address(),
            timeout=_CONNECT_SECONDS,
            statement_cache_size=0 if self.pooled else _STATEMENTS_KEPT,
            max_cached_statement_lifetime=0,
            server_settings={"application_name": "healer", **settings},
        )

    async def close(self) -> None:
        """Close all that is idle; what is under way closes when it ends."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            try:
                await connection.close(timeout=1.0)
            except LOST as error:
                _log.debug("%s: a connection did not close cleanly: %s", self.name, error)
                connection.terminate()

    def unavailable(self, error: BaseException, seconds: float) -> StoreUnavailable:
        """The error for callers: why the journal cannot be had."""
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if isinstance(error, TimeoutError):
            why = f"no answer within {seconds:.3g} s"
        return StoreUnavailable(
            f"{self.name}: the journal cannot be reached: {why}; healer goes on by itself when "
            "PostgreSQL answers again",
            retry_after=1,
        )

    async def _acquire(self) -> Any:
        if self._closed:
            raise StoreUnavailable(f"{self.name}: the journal is closed")
        await self._slots.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            return await self.connect()
        except BaseException:
            self._slots.release()
            raise

    def _release(self, connection: Any, *, sound: bool) -> None:
        self._slots.release()
        if sound and not self._closed and not connection.is_closed():
            self._idle.append(connection)
            return
        connection.terminate()
        if not sound and connection.is_closed():
            # Where one broke the others may have too: none of them is tried one after the other.
            idle, self._idle = self._idle, []
            for other in idle:
                other.terminate()
