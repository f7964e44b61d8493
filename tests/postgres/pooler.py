"""pgbouncer in transaction mode before a private server: a session lasts one transaction."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Self

from tests.bed.errors import BedError
from tests.bed.waiting import now, pause
from tests.postgres.programs import pgbouncer, unprivileged
from tests.postgres.server import USER, Server, shared

_PORT = 6432  #: only part of the socket's name
_PATIENCE = 30.0

_CONFIGURATION = """\
[databases]
* = host={server} user={user}

[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = 6
max_client_conn = 400
server_idle_timeout = 2
server_lifetime = 60
logfile = {folder}/pgbouncer.log
"""


class Pooler:
    """A transaction-pooling proxy: the same databases as the server's, by another DSN."""

    def __init__(self, server: Server) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="healer-pgb-", dir="/tmp"))
        self.folder.chmod(0o711)
        self._server = server
        self._programs = pgbouncer().moved_to(self.folder)
        self._user = unprivileged()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def dsn(self, database: str = "postgres") -> str:
        """How to reach `database` through the proxy."""
        return f"postgresql://{USER}@/{database}?host={self.folder}&port={_PORT}"

    def start(self) -> None:
        """Start, and return when it listens."""
        settings = self.folder / "pgbouncer.ini"
        settings.write_text(
            _CONFIGURATION.format(
                server=self._server.folder, user=USER, port=_PORT, folder=self.folder
            )
        )
        if self._user:
            shutil.chown(self.folder, self._user)
        self._process = subprocess.Popen(
            [self._programs.folder / "pgbouncer", settings],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            user=self._user, extra_groups=[] if self._user else None,
            env={**os.environ, **self._programs.environment},
        )  # fmt: skip
        deadline = now() + _PATIENCE
        while now() < deadline and self._process.poll() is None:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self.folder / f".s.PGSQL.{_PORT}")) == 0:
                    return
            pause(0.01)
        log = self.folder / "pgbouncer.log"
        raise BedError(f"pgbouncer did not start: {log.read_text() if log.exists() else 'no log'}")

    def stop(self) -> None:
        """End it at once: every client loses its connection."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_PATIENCE)
            self._process = None

    def remove(self) -> None:
        """Stop, and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def shared_pooler() -> Pooler:
    """The one proxy of this test run, before the shared server."""
    pooler = Pooler(shared())
    atexit.register(pooler.remove)
    pooler.start()
    return pooler
