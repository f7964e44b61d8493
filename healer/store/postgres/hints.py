"""Hints between replicas that there may be something to do: never needed, often quicker.

NOTIFY takes a lock that is global to the database while it commits, so a hint has a tiny
transaction of its own, and there are at most ten a second from one process. What a lost hint would
have told is found by looking again, which everybody does every second.
"""

import asyncio
import logging
from collections.abc import Callable

import asyncpg

from healer.errors import ConfigError, StoreUnavailable
from healer.store.postgres.connections import LOST, Database

_log = logging.getLogger(__name__)

CHANNEL = "healer"
_LEAST_SECONDS = 0.1
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0
#: A connection that only listens would not notice that the other side is gone.
_LOOK_SECONDS = 10.0


class Hints:
    """Tells the other replicas, and is told by them."""

    def __init__(self, database: Database, listener: Database | None) -> None:
        self._database = database
        self._listener = listener
        self._callbacks: list[Callable[[], None]] = []
        self._news = asyncio.Event()
        self._tasks = [asyncio.create_task(self._tell())]
        if listener is not None:
            self._tasks.append(asyncio.create_task(self._listen(listener)))
        #: Set while somebody listens: for tests, and for people who wonder.
        self.listening = asyncio.Event()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when another replica has said that there may be work."""
        self._callbacks.append(callback)

    def give(self) -> None:
        """There may be work for others."""
        self._news.set()

    async def close(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._database.read(lambda view: view.row("hint", CHANNEL))
            except StoreUnavailable as error:
                _log.debug("no hint was given: %s", error)
            await asyncio.sleep(_LEAST_SECONDS)  # noqa: TID251 - real time: spares a real server

    async def _listen(self, database: Database) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                connection = await database.connect()
                try:
                    pause = _FIRST_PAUSE
                    await self._follow(connection)
                finally:
                    self.listening.clear()
                    connection.terminate()
            except (asyncpg.PostgresError, ConfigError, *LOST) as error:
                _log.info("%s: not listening for hints (%s)", database.name, type(error).__name__)
            await asyncio.sleep(pause)  # noqa: TID251 - a server is waited for, in real time
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _follow(self, connection: asyncpg.Connection) -> None:
        """Listen until the connection is lost."""
        await connection.add_listener(CHANNEL, self._told)
        self.listening.set()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)  # noqa: TID251 - real time, as above
            await connection.fetchval("SELECT 1", timeout=_LOOK_SECONDS)

    def _told(self, _connection: object, _pid: int, _channel: str, _payload: str) -> None:
        for callback in self._callbacks:
            callback()
