"""Processes the bed starts: each in its own group, known by pid *and* start time.

A pid alone may by now belong to somebody else, so nothing here signals a pid whose start
time is not the one that was written down.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bed.errors import BedError
from tests.bed.waiting import now, pause

# Children of this process, kept so that each is reaped when it ends.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for another: pid and start time (clock ticks)."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The identity of the process that has this pid now."""
        started = _start_time(pid)
        if started is None:
            raise BedError(f"process {pid} ended before it could be identified; see its log")
        return cls(pid, started)

    def alive(self) -> bool:
        """True while this very process runs; a zombie does not."""
        child = _children.get(self.pid)
        if child is not None:
            child.poll()
        return _start_time(self.pid) == self.started

    def signal(self, number: int) -> bool:
        """Signal the process's whole group; False when the process is gone."""
        if not self.alive():
            return False
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def signal_alone(self, number: int) -> bool:
        """Signal the process but not its group; False when the process is gone."""
        if not self.alive():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def gone_within(self, seconds: float) -> bool:
        """Wait until the process is gone; False when it still runs after that time."""
        end = now() + seconds
        while self.alive():
            if now() > end:
                return False
            pause(0.01)
        return True


def _start_time(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command in parentheses may hold anything, so fields count from the last one.
    fields = stat.rpartition(")")[2].split()
    state, started = fields[0], fields[19]
    if state == "Z":
        # A killed process is a zombie while threads of it still hold its ports.
        try:
            return started if len(os.listdir(f"/proc/{pid}/task")) > 1 else None  # noqa: PTH208
        except OSError:
            return None
    return None if state == "X" else started


@dataclass(frozen=True)
class Process:
    """A started process, its name, and where its output goes."""

    name: str
    identity: Identity
    log: Path
    record: Path | None = None
    # What entered a pid namespace on the process's behalf, leads its group and outlives it.
    wrapper: Identity | None = None

    @property
    def pid(self) -> int:
        """The pid as seen on the machine."""
        return self.identity.pid

    def alive(self) -> bool:
        """True while it runs."""
        return self.identity.alive()

    def signal(self, number: int) -> bool:
        """Signal the process and its group; False when it is gone."""
        if self.wrapper is None:
            return self.identity.signal(number)
        # A wrapper that is stopped with its child must be continued with it too.
        return self.wrapper.signal(number) or self.identity.signal_alone(number)

    def stop(self, grace: float = 5.0) -> None:
        """End it: SIGTERM, and after `grace` seconds SIGKILL."""
        if self.signal(signal.SIGTERM):
            # A frozen process cannot hear SIGTERM.
            self.signal(signal.SIGCONT)
            if not self._gone_within(grace):
                self.kill()
        self.forget()

    def kill(self) -> None:
        """End it with SIGKILL and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if not self._gone_within(10.0):
            self.signal(signal.SIGKILL)
            raise BedError(f"{self.name} (pid {self.pid}) outlives SIGKILL; is its disk stuck?")
        self.forget()

    def _gone_within(self, seconds: float) -> bool:
        if not self.identity.gone_within(seconds):
            return False
        return self.wrapper is None or self.wrapper.gone_within(2.0)

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def forget(self) -> None:
        """Remove the record of a process that is gone."""
        if self.record is not None:
            self.record.unlink(missing_ok=True)


def launch(
    name: str,
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    records: Path | None = None,
    entered: bool = False,
) -> Process:
    """Start `argv` in a group of its own, its output appended to `log`.

    With `records`, a file there names the process until it is stopped, so that another
    process can end it after a crash of this one. With `entered`, `argv` is a wrapper that
    forks the process proper into a pid namespace, and that child is the one returned.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            start_new_session=True,
        )
    _children[child.pid] = child
    leader = Identity.of(child.pid)
    identity = first_child(leader) if entered else leader
    wrapper = leader if entered else None
    record = None
    if records is not None:
        records.mkdir(parents=True, exist_ok=True)
        record = records / f"{name}.json"
        process = Process(name, identity, log, record, wrapper)
        _write_record(record, process)
        return process
    return Process(name, identity, log, record, wrapper)


def _write_record(record: Path, process: Process) -> None:
    content = {
        "name": process.name,
        "log": str(process.log),
        "identity": [process.identity.pid, process.identity.started],
        "wrapper": process.wrapper and [process.wrapper.pid, process.wrapper.started],
    }
    whole = record.with_suffix(".new")
    whole.write_text(json.dumps(content))
    whole.rename(record)


def recorded(records: Path) -> dict[str, Process]:
    """The processes whose records lie in a folder, alive or not, by name."""
    found: dict[str, Process] = {}
    for record in sorted(records.glob("*.json")):
        content = json.loads(record.read_text())
        wrapper = Identity(*content["wrapper"]) if content["wrapper"] else None
        name, identity = content["name"], Identity(*content["identity"])
        found[name] = Process(name, identity, Path(content["log"]), record, wrapper)
    return found


def first_child(parent: Identity, timeout: float = 5.0) -> Identity:
    """The first child of a process, once there is one."""
    end = now() + timeout
    while now() < end:
        try:
            listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        except OSError:
            break
        if listed:
            return Identity.of(int(listed[0]))
        pause(0.01)
    raise BedError(f"process {parent.pid} started no child; see its log")
