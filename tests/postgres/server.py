"""One private server, with what a fault test does to it: stop it politely or not, freeze it."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal, Self

from tests.bed.errors import BedError
from tests.bed.waiting import now, pause
from tests.postgres.programs import postgres, unprivileged

StopMode = Literal["smart", "fast", "immediate", "kill"]
_SIGNALS = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}
USER = "healer"
#: So many tests can have one at once.
_DATABASES = 6
_PATIENCE = 60.0

_CONFIGURATION = """\
listen_addresses = ''
unix_socket_directories = '{folder}'
fsync = on
synchronous_commit = on
full_page_writes = on
shared_buffers = 64MB
max_connections = 100
max_wal_size = 512MB
log_min_messages = warning
log_line_prefix = '%m [%p] '
"""


class Server:
    """A PostgreSQL of its own: `start`, then `new_database` for a DSN; `stop` ends it.

    As a context manager it is started and removed. The data survive `stop` and `start`.
    """

    def __init__(self, folder: Path | None = None, *, settings: str = "") -> None:
        # Unix socket paths are short, and whoever we run as must be able to walk there.
        self.folder = folder or Path(tempfile.mkdtemp(prefix="healer-pg-", dir="/tmp"))
        self.folder.chmod(0o711)
        self._settings = settings
        self._user = unprivileged()
        self._programs = postgres().moved_to(self.folder)
        self._data = self.folder / "data"
        self._log = self.folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._labels: dict[str, str] = {}  #: label to database, oldest first
        self._count = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        if self._process is None:
            raise BedError(f"{self.folder}: the server does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    def dsn(self, database: str = "postgres") -> str:
        """How to reach `database`."""
        return f"postgresql://{USER}@/{database}?host={self.folder}"

    def start(self) -> None:
        """Start, and return when it answers; the first time the data folder is made."""
        if self.running:
            return
        if not self._data.exists():
            self._make()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs.folder / "postgres", "-D", self._data],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                user=self._user, extra_groups=[] if self._user else None,
                env={**os.environ, **self._programs.environment},
            )  # fmt: skip
        self._await_ready()

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop; `immediate` and `kill` are crashes, after which it recovers from its log."""
        if self._process is None:
            return
        self.thaw()
        self._process.send_signal(_SIGNALS[mode])
        self._process.wait(_PATIENCE)
        self._process = None

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start again."""
        self.stop(mode)
        self.start()

    def freeze(self) -> None:
        """SIGSTOP to the whole server: it is there, and answers nothing."""
        for pid in self._all():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT to the whole server."""
        for pid in self._all():
            os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        """Stop, and delete its folder."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self, name: str = "") -> str:
        """Make an empty database and return its DSN. One that is there under `name` is kept."""
        if not name:
            self._count += 1
            name = f"t{self._count}"
        if not self.sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
            self.sql(f'CREATE DATABASE "{name}"')
        return self.dsn(name)

    def database(self, label: str) -> str:
        """The name of an empty database for `label`; asked again, it is the same, as it is now.

        Making and dropping them is slow, so there are only a few, and the one that was asked for
        the longest time ago is emptied for a new label. For small tests that run one by one.
        """
        if label in self._labels:
            self._labels[label] = self._labels.pop(label)
            return self._labels[label]
        if len(self._labels) < _DATABASES:
            name = f"shared{len(self._labels)}"
            self.new_database(name)
        else:
            name = self._labels.pop(next(iter(self._labels)))
            self.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
            )
            self.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public", name)
        self._labels[label] = name
        return name

    def sql(self, statement: str, database: str = "postgres") -> list[list[str]]:
        """Rows of a statement, by the server's own `psql`. For set-up and checks, not for speed."""
        done = subprocess.run(
            [self._tool("psql"), "-XAtq", "-F", "\x1f", "-R", "\x1e", "-v", "ON_ERROR_STOP=1",
             "-d", self.dsn(database), "-c", statement],
            capture_output=True, text=True, check=False, timeout=_PATIENCE,
            env={**os.environ, **self._programs.environment},
        )  # fmt: skip
        if done.returncode:
            raise BedError(f"{statement!r} failed: {done.stderr.strip()}")
        text = done.stdout.removesuffix("\n")
        return [row.split("\x1f") for row in text.split("\x1e")] if text else []

    def _tool(self, name: str) -> Path | str:
        beside = self._programs.folder / name
        return beside if beside.exists() else name

    def _make(self) -> None:
        if self._user:
            shutil.chown(self.folder, self._user)
        self._run("initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync", "--no-instructions")  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION.format(folder=self.folder) + self._settings)

    def _run(self, program: str, *arguments: Path | str) -> None:
        done = subprocess.run(
            [self._programs.folder / program, *arguments], capture_output=True, text=True,
            check=False, cwd="/", user=self._user, extra_groups=[] if self._user else None,
            env={**os.environ, **self._programs.environment},
        )  # fmt: skip
        if done.returncode:
            raise BedError(f"{program} failed: {done.stderr.strip()[-800:]}")

    def _await_ready(self) -> None:
        deadline = now() + _PATIENCE
        state = self._data / "postmaster.pid"
        while now() < deadline:
            if not self.running:
                break
            lines = state.read_text().splitlines() if state.exists() else []
            if len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready":
                return
            pause(0.01)
        raise BedError(f"PostgreSQL did not start: {self._log.read_text()[-1500:]}")

    def _all(self) -> list[int]:
        """The postmaster and its children: each is a session of its own, so no one group."""
        if not self.running:
            return []
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, listed)]


def quickest() -> Path:
    """Memory where there is enough of it: a crash of the server loses nothing there either."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK):
        free = os.statvfs(memory)
        if free.f_bavail * free.f_frsize > 2 << 30:
            return memory
    return Path("/tmp")


@cache
def shared() -> Server:
    """The one server of this test run, started when first asked for, removed at its end."""
    server = Server(Path(tempfile.mkdtemp(prefix="healer-pg-", dir=quickest())))
    atexit.register(server.remove)
    server.start()
    return server
