"""Runs: the folder, the processes and the control groups of one cluster's life.

Whatever a run starts is written down in its folder before it is used, so anybody can end
all of it: the run itself, its warden when the run is killed, or the next start.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.bed import cgroups
from tests.bed.cache import cache_folder, locked, say
from tests.bed.errors import BedError
from tests.bed.processes import Identity, Process, recorded

DETACHED = "up"
KEPT_LOGS = 6


def runs_folder() -> Path:
    """Where all runs of this user lie."""
    folder = cache_folder() / "runs"
    folder.mkdir(exist_ok=True)
    return folder


class Run:
    """One run: `logs/`, `processes/` (who runs), `cgroups/` (what to remove)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.logs = folder / "logs"
        self.records = folder / "processes"

    @classmethod
    def create(cls, *, detached: bool) -> Run:
        """Make the folder of a new run, after removing what dead runs left."""
        with locked(cache_folder() / "locks" / "runs.lock"):
            sweep()
            number = 1
            name = DETACHED if detached else f"run-{os.getpid()}"
            while (runs_folder() / name).exists():
                if detached:
                    raise BedError(
                        "a cluster is up already: use it, or end it with `python -m tests.bed down`"
                    )
                number += 1
                name = f"run-{os.getpid()}-{number}"
            run = cls(runs_folder() / name)
            run.logs.mkdir(parents=True)
            run.records.mkdir()
            owner = Identity.of(os.getpid())
            run.write("owner", None if detached else [owner.pid, owner.started])
        return run

    def write(self, name: str, content: Any) -> None:
        """Keep a JSON value of the run, whole or not at all."""
        whole = self.folder / f".{name}.new"
        whole.write_text(json.dumps(content, indent=1))
        whole.rename(self.folder / f"{name}.json")

    def read(self, name: str) -> Any:
        """A JSON value of the run, None when it was never written."""
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def processes(self) -> dict[str, Process]:
        """Every process written down, alive or not, by name."""
        return recorded(self.records)

    def process(self, name: str) -> Process | None:
        """One process written down."""
        return self.processes().get(name)

    def check(self) -> None:
        """Raise BedError when a process that was started has ended."""
        for process in self.processes().values():
            if not process.alive():
                raise BedError(f"{process.name} ended; its log ends with:\n{process.tail()}")

    @property
    def abandoned(self) -> bool:
        """True when whoever owned the run is gone, or all of the run is."""
        if not (self.folder / "owner.json").exists():
            return False  # just being made
        owner = self.read("owner")
        if owner is not None:
            return not Identity(*owner).alive()
        # Left running on purpose; dead as a whole only after the machine went down.
        processes = self.processes().values()
        return bool(processes) and not any(process.alive() for process in processes)

    def end(self) -> None:
        """End every process of the run, remove its control groups and its folder."""
        # The warden and a start that cleans up may both be at it.
        with locked(cache_folder() / "locks" / "end.lock"):
            if self.folder.is_dir():
                self._end()

    def _end(self) -> None:
        processes = list(self.processes().values())
        for process in processes:
            process.signal(9)
        for process in processes:
            process.identity.signal_alone(9)
            process.kill()
        groups = self.folder / "cgroups"
        for file in groups.glob("*") if groups.is_dir() else ():
            cgroups.remove([Path(line) for line in file.read_text().splitlines()])
        self._keep_logs()
        # Images are many small files, and `rm` is much quicker at them than Python is.
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.folder)], check=False)

    def _keep_logs(self) -> None:
        """Move the logs aside: a failed test is understood after its cluster is gone."""
        kept = cache_folder() / "logs"
        kept.mkdir(exist_ok=True)
        if self.logs.is_dir():
            shutil.rmtree(kept / self.name, ignore_errors=True)
            self.logs.rename(kept / self.name)
        oldest_first = sorted(kept.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in oldest_first[:-KEPT_LOGS]:
            shutil.rmtree(old, ignore_errors=True)


def sweep() -> None:
    """End what runs left whose owner was killed."""
    for folder in runs_folder().iterdir():
        run = Run(folder)
        if run.abandoned:
            say(f"bed: cleaning up after {run.name}, whose owner is gone")
            run.end()


def detached() -> Run | None:
    """The run that `up` left running, if there is one."""
    folder = runs_folder() / DETACHED
    return Run(folder) if folder.is_dir() else None
