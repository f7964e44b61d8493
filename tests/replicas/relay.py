"""A relay on a TCP port or Unix socket that can stop forwarding, or cut every connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay:
    """Answers each connection by one of its own; `part` is a partition, `mend` ends it."""

    def __init__(self, connect: Callable[[], Awaitable[Streams]]) -> None:
        self._connect = connect
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @classmethod
    async def tcp(cls, host: str, port: int) -> Self:
        """From a free loopback port to host:port."""
        relay = cls(lambda: asyncio.open_connection(host, port))
        relay._server = await asyncio.start_server(relay._carry, "127.0.0.1", 0)
        relay.port = relay._server.sockets[0].getsockname()[1]
        return relay

    @classmethod
    async def unix(cls, here: Path, there: Path) -> Self:
        """From one Unix socket to another."""
        relay = cls(lambda: asyncio.open_unix_connection(str(there)))
        relay._server = await asyncio.start_unix_server(relay._carry, str(here))
        return relay

    def part(self) -> None:
        """From now on nothing is forwarded, and nobody is told: packets are lost."""
        self._open.clear()

    def mend(self) -> None:
        """Forward again, what was written meanwhile first."""
        self._open.set()

    async def close(self) -> None:
        """End every connection and the port."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            there, back = await self._connect()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, back))
                group.create_task(self._pump(there, writer))
        except* (OSError, EOFError):
            pass  # one side went away: so does the other
        finally:
            self._tasks.discard(task)
            for end in (writer, back):
                if end is not None:
                    end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            data = await reader.read(1 << 16)
            await self._open.wait()
            if not data:
                with suppress(OSError):
                    writer.write_eof() if writer.can_write_eof() else writer.close()
                return
            writer.write(data)
            await writer.drain()
