"""A second server that follows a first one, and can take its place."""

from __future__ import annotations

import shutil

from tests.bed.errors import BedError
from tests.bed.waiting import now, pause
from tests.postgres.server import USER, Server

_PATIENCE = 60.0


class Standby(Server):
    """A streaming copy of `primary`, which has to run. Once started, every commit waits for it."""

    def __init__(self, primary: Server) -> None:
        super().__init__()
        self._primary = primary

    def start(self) -> None:
        """Start, and return when the primary tells nobody of a commit that is not here too."""
        super().start()
        if not self._primary.running:
            return
        self._primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self._primary.sql("SELECT pg_reload_conf()")
        deadline = now() + _PATIENCE
        while self._primary.sql("SELECT sync_state FROM pg_stat_replication") != [["sync"]]:
            if now() > deadline:
                raise BedError(f"{self.folder}: the standby does not follow its primary")
            pause(0.01)

    def promote(self) -> None:
        """Take the place of the primary; returns when it takes writes."""
        if self.sql("SELECT pg_promote(true, 60)") != [["t"]]:
            raise BedError(f"{self.folder}: the standby was not promoted within 60 s")

    def _make(self) -> None:
        if self._user:
            shutil.chown(self.folder, self._user)
        self._run(
            "pg_basebackup", "-D", self._data, "-R", "-X", "stream", "-c", "fast", "--no-sync",
            "-d", f"host={self._primary.folder} user={USER}",
        )  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(f"unix_socket_directories = '{self.folder}'\n")
