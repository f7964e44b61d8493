"""A relay between two network namespaces: `python -m tests.bed.relay ...`.

The listening socket is made in one namespace and the connections in the other. A process
is in one namespace at a time but keeps the sockets of the one it left, so nothing has to
be routed between the two and nothing appears at machine level but one loopback port.

It is a program of its own file with nothing of the bed imported, because one runs for
every exposed port.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import socket
from contextlib import suppress
from pathlib import Path

CLONE_NEWNET = 0x40000000
CHUNK = 1 << 16


def enter(namespace: str) -> None:
    """Move this process into a network namespace, given as a path under /proc."""
    handle = os.open(namespace, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(handle, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}: are you root?")
    finally:
        os.close(handle)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, then say so to the other side."""
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def serve(listener: socket.socket, host: str, port: int) -> None:
    """Answer every connection of `listener` by one to host:port."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, back), pump(there, writer))
        for stream in (back, writer):
            stream.close()
            with suppress(OSError):
                await stream.wait_closed()

    server = await asyncio.start_server(carry, sock=listener)
    await server.serve_forever()


def main() -> None:
    """Listen, say the port in a file, move over, and relay until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", required=True, help="the inner network namespace's path")
    parser.add_argument("--listen", choices=("outside", "inside"), default="outside")
    parser.add_argument("--port", type=int, default=0, help="0: one that is free")
    parser.add_argument("--to", required=True, help="host:port on the other side")
    parser.add_argument("--told", type=Path, required=True, help="file for the bound port")
    options = parser.parse_args()
    host, _, port = options.to.rpartition(":")
    address = ("127.0.0.1" if options.listen == "outside" else "0.0.0.0", options.port)
    if options.listen == "outside":
        listener = socket.create_server(address, backlog=512)
        enter(options.namespace)
    else:
        outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        enter(options.namespace)
        listener = socket.create_server(address, backlog=512)
        enter(f"/proc/self/fd/{outside}")
    told = options.told.with_suffix(".new")
    told.write_text(str(listener.getsockname()[1]))
    told.rename(options.told)
    asyncio.run(serve(listener, host, int(port)))


if __name__ == "__main__":
    main()
