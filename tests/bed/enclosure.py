"""A private set of namespaces on this machine: what a node of a local cluster is.

Killing its init ends every process in it, and with the last one go its mounts and its
network: that is the whole of a power cut.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bed import cgroups
from tests.bed.builds import binary
from tests.bed.cache import cache_folder
from tests.bed.errors import BedError, UnavailableError
from tests.bed.node import UPLINK, Plan
from tests.bed.processes import Process, launch
from tests.bed.runs import Run
from tests.bed.waiting import now, pause

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = 16
# Folders a node has its own of.
HIDDEN = ("/run", "/sys", "/proc", "/var/lib", "/var/log")


def python_module(module: str, *arguments: str) -> list[str]:
    """The argv that runs a module of the bed with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def python_environment() -> dict[str, str]:
    """The environment in which `python_module` finds the bed wherever it is started."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}


def require_real_nodes() -> None:
    """Raise UnavailableError, with what is missing, where real nodes cannot run."""
    if sys.platform != "linux":
        raise UnavailableError("real nodes need Linux: use --cluster=kind")
    if os.geteuid() != 0:
        raise UnavailableError(
            "real nodes need root (you are not): use --cluster=simulated, or run as root"
        )
    for program in ("unshare", "nsenter", "ip", "mount"):
        if shutil.which(program) is None:
            raise UnavailableError(f"real nodes need `{program}`: install util-linux and iproute2")
    for folder in HIDDEN:
        if cache_folder().is_relative_to(folder):
            raise UnavailableError(
                f"the cache lies in {cache_folder()}, and nodes hide {folder} from themselves: "
                "name another folder in HEALER_BED_CACHE"
            )
    missing = cgroups.missing_controllers()
    if missing:
        raise UnavailableError(
            f"real nodes need the control group controllers {', '.join(missing)}, which this "
            "machine does not offer"
        )
    trial = ["unshare", "-m", "-n", "-p", "-C", "-u", "-i", "--fork", "--mount-proc", "true"]
    result = subprocess.run(trial, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UnavailableError(
            f"real nodes need private namespaces, and unshare says: {result.stderr.strip()}"
        )


class Enclosure:
    """The namespaces of one node, or of the hub that holds the control plane."""

    def __init__(self, run: Run, name: str, address: str, *, kubelet: bool) -> None:
        self.run = run
        self.name = name
        self.address = address
        self.kubelet = kubelet
        self.folder = run.folder / name
        self._groups_file = run.folder / "cgroups" / name

    @property
    def init(self) -> Process:
        """The process whose end is the end of everything in here."""
        process = self.run.process(self.name)
        if process is None:
            raise BedError(f"{self.name} is not running: start or restore it first")
        return process

    @property
    def alive(self) -> bool:
        """True while its init runs."""
        process = self.run.process(self.name)
        return process is not None and process.alive()

    @property
    def groups(self) -> list[Path]:
        """Its control groups; none for the hub."""
        if not self._groups_file.exists():
            return []
        return [Path(line) for line in self._groups_file.read_text().splitlines()]

    def open(self) -> None:
        """Make the namespaces and start their init; `wait` tells when they are usable."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "arranged").unlink(missing_ok=True)
        groups: list[Path] = []
        if self.kubelet:
            name = f"healer-bed-{self.run.name}-{self.name}"
            self._groups_file.parent.mkdir(exist_ok=True)
            groups = cgroups.create(name)
            self._groups_file.write_text("\n".join(map(str, groups)))
        plan = self.folder / "plan.json"
        Plan(
            hostname=self.name,
            address=self.address,
            prefix=PREFIX,
            kubelet=self.kubelet,
            folder=str(self.folder),
            init=str(binary("pause")),
            cgroup_version=cgroups.version(),
            hierarchies=list(cgroups.own_groups()),
        ).write(plan)
        flags = ["-m", "-n", "-p", "-u", "-i", *(["-C"] if self.kubelet else [])]
        unshare = ["unshare", *flags, "--fork", "--kill-child", "--mount-proc"]
        launch(
            self.name,
            cgroups.joining(groups, [*unshare, *python_module("tests.bed.node", str(plan))]),
            log=self.run.logs / f"{self.name}.log",
            env=python_environment(),
            records=self.run.records,
            entered=True,
        )

    def plug_into(self, hub: Enclosure) -> None:
        """Lay a cable from here to the hub's bridge."""
        mine = Path("/proc/self/ns/net").readlink()
        theirs = Path(f"/proc/{self.init.pid}/ns/net")
        end = now() + 10
        while theirs.readlink() == mine:
            if now() > end:
                raise BedError(f"{self.name} did not start:\n{self.init.tail()}")
            pause(0.01)
        cable = f"to-{self.name}"[:15]
        script = (
            f"ip link del {cable} 2>/dev/null; "
            f"ip link add {cable} type veth peer name {UPLINK} netns {self.init.pid} && "
            f"ip link set {cable} master cni0 up"
        )
        hub.call("sh", "-c", script, network_only=True)

    def wait(self, timeout: float = 20.0) -> None:
        """Wait until mounts and network are arranged."""
        end = now() + timeout
        while not (self.folder / "arranged").exists():
            if not self.alive or now() > end:
                log = self.run.logs / f"{self.name}.log"
                raise BedError(f"{self.name} was not arranged; its log ends with:\n{_tail(log)}")
            pause(0.01)

    def entering(self, argv: Sequence[str], *, network_only: bool = False) -> list[str]:
        """The argv that runs `argv` in here."""
        flags = ["-n"] if network_only else ["-m", "-n", "-p", "-u", "-i"]
        if self.kubelet and not network_only:
            flags.append("-C")
        return ["nsenter", "-t", str(self.init.pid), *flags, "--", *argv]

    def start(
        self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None
    ) -> Process:
        """Start a process in here that dies with the init; it is written down as HERE.NAME."""
        full = f"{self.name}.{name}"
        return launch(
            full,
            cgroups.joining(cgroups.leaves(self.groups), self.entering(argv)),
            log=self.run.logs / f"{full}.log",
            env=env,
            records=self.run.records,
            entered=True,
        )

    def call(self, *argv: str, network_only: bool = False, timeout: float = 120.0) -> str:
        """Run a command in here to its end and return what it printed."""
        result = subprocess.run(
            self.entering(argv, network_only=network_only),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if result.returncode:
            raise BedError(
                f"in {self.name}, `{' '.join(argv)}` failed: "
                f"{(result.stderr or result.stdout).strip()[-1000:]}"
            )
        return result.stdout

    def close(self) -> None:
        """Cut the power: end everything in here and remove its control groups."""
        process = self.run.process(self.name)
        if process is not None:
            process.identity.signal_alone(signal.SIGKILL)
            process.kill()
        for name, other in self.run.processes().items():
            if name.startswith(f"{self.name}."):
                other.kill()
        cgroups.remove(self.groups)
        self._groups_file.unlink(missing_ok=True)


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
