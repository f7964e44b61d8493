"""What a process has used of the machine, as the kernel counts it."""

import os
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter


@dataclass(frozen=True)
class Used:
    """Of one process over some time."""

    seconds: float
    cpu_seconds: float
    rss_mebibytes: float  #: at the end
    peak_mebibytes: float
    wake_ups: int  #: times it gave a core up by itself: what idling costs is mostly waking up


@dataclass(frozen=True)
class Usage:
    """A mark from which to count; processor time does not depend on what else runs."""

    pid: int
    at: float
    cpu_seconds: float
    wake_ups: int

    @classmethod
    def of(cls, pid: int) -> "Usage":
        """Count from now."""
        return cls(pid, perf_counter(), _cpu(pid), _wake_ups(pid))

    def since(self) -> Used:
        """What was used since the mark."""
        status = _status(self.pid)
        return Used(
            perf_counter() - self.at, _cpu(self.pid) - self.cpu_seconds,
            int(status["VmRSS"].split()[0]) / 1024, int(status["VmHWM"].split()[0]) / 1024,
            _wake_ups(self.pid) - self.wake_ups,
        )  # fmt: skip


def _cpu(pid: int) -> float:
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def _wake_ups(pid: int) -> int:
    """Of all threads."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int(_fields((task / "status").read_text())["voluntary_ctxt_switches"])
    return total


def _status(pid: int) -> dict[str, str]:
    return _fields(Path(f"/proc/{pid}/status").read_text())


def _fields(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}
