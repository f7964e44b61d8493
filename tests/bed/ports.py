"""Ports nobody uses now. Never fixed ones: two test runs may share the machine."""

from __future__ import annotations

import socket

_given: set[int] = set()


def free_port() -> int:
    """A loopback TCP port that is free and was not given out before by this process."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port
