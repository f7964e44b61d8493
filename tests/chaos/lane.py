"""A way between two programs that can be slowed or cut: `python -m tests.chaos.lane PORT FILE`.

FILE holds {"to": "host:port", "delay": seconds, "cut": bool} and is read for every connection and
every piece of a request, so it can be changed at any time. Nothing of the project is imported.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 16


@dataclass(frozen=True)
class Mode:
    """How the lane is now."""

    host: str
    port: int
    delay: float
    cut: bool

    @classmethod
    def read(cls, file: Path) -> Mode:
        """What the file says now."""
        content = json.loads(file.read_text())
        host, _, port = content["to"].rpartition(":")
        return cls(host, int(port), float(content["delay"]), bool(content["cut"]))


async def serve(port: int, file: Path) -> None:
    """Relay until ended."""

    async def there(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            mode = Mode.read(file)
            if mode.cut:
                return
            await asyncio.sleep(mode.delay)  # noqa: TID251 - the delay is the point
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if Mode.read(file).cut:
                return
            writer.write(data)
            await writer.drain()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mode = Mode.read(file)
        streams = [writer]
        with suppress(OSError):
            if not mode.cut:
                inner, outer = await asyncio.open_connection(mode.host, mode.port)
                streams.append(outer)
                ways = [asyncio.ensure_future(there(reader, outer)),
                        asyncio.ensure_future(back(inner, writer))]  # fmt: skip
                # The answer may follow the end of the request; the end of the answer ends both.
                await asyncio.wait([ways[1]])
                ways[0].cancel()
                for one in await asyncio.gather(*ways, return_exceptions=True):
                    if isinstance(one, Exception) and not isinstance(one, OSError):
                        raise one
        for stream in streams:
            stream.close()
            with suppress(OSError):
                await stream.wait_closed()

    server = await asyncio.start_server(carry, "0.0.0.0", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
