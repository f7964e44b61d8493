"""The init of a private set of namespaces: `python -m tests.bed.node PLAN`.

Runs as pid 1 inside what `unshare` made, arranges mounts and network so that a kubelet
can do to them what it does to a machine, tells that it is done, and becomes a process
that only reaps. All the rest is started from outside, by `nsenter`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

BRIDGE = "cni0"
UPLINK = "up0"
LIBRARY = Path("/var/lib")
CGROUPS = Path("/sys/fs/cgroup")

# What a kubelet sets for a whole machine. Files are laid over them, so that it reads
# what it wrote and the machine keeps what it had.
SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


@dataclass(frozen=True)
class Plan:
    """What this init is to arrange. `kubelet`: a place for pods, not only a network."""

    hostname: str
    address: str
    prefix: int
    kubelet: bool
    folder: str
    init: str
    cgroup_version: int
    hierarchies: list[str]

    def write(self, path: Path) -> None:
        """Write the plan where the init will read it."""
        path.write_text(json.dumps(asdict(self)))


def run(*command: str) -> None:
    """Run one command; a failure ends the init, and its output is in the log."""
    subprocess.run(command, check=True)


def arrange_cgroups(plan: Plan) -> None:
    """Mount the control groups anew, so that our own group is their root in here."""
    run("umount", "-R", str(CGROUPS))
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    if plan.cgroup_version == 2:
        run("mount", "-t", "cgroup2", "cgroup2", str(CGROUPS))
        leaf = CGROUPS / "init"
        leaf.mkdir()
        for pid in (CGROUPS / "cgroup.procs").read_text().split():
            (leaf / "cgroup.procs").write_text(pid)
        controllers = (CGROUPS / "cgroup.controllers").read_text().split()
        enable = " ".join(f"+{name}" for name in controllers)
        (CGROUPS / "cgroup.subtree_control").write_text(enable)
        return
    run("mount", "-t", "tmpfs", "cgroups", str(CGROUPS))
    for name in plan.hierarchies:
        (CGROUPS / name).mkdir()
        option = "none,name=systemd" if name == "systemd" else name
        run("mount", "-t", "cgroup", "-o", option, "cgroup", str(CGROUPS / name))
        # Programs look for each controller under its own name.
        for part in name.split(","):
            if part != name:
                (CGROUPS / part).symlink_to(name)


def arrange_mounts(plan: Plan) -> None:
    """Give containerd and the kubelet a /run, /var/log, /var/lib and sysctls of their own."""
    folder = Path(plan.folder)
    hide_library(folder)
    laid = folder / "sysctls"
    laid.mkdir(exist_ok=True)
    for name, value in SYSCTLS.items():
        real = Path("/proc/sys") / name
        if real.exists():
            file = laid / name.replace("/", "_")
            file.write_text(value + "\n")
            run("mount", "--bind", str(file), str(real))
    run("mount", "-t", "tmpfs", "run", "/run")
    for name in ("containerd", "lock"):
        (Path("/run") / name).mkdir()
    run("mount", "-t", "tmpfs", "log", "/var/log")
    (Path("/var/log") / "containers").mkdir()
    # Volumes mounted by the kubelet must be seen by containerd and by containers.
    run("mount", "--bind", str(folder), str(folder))
    run("mount", "--make-rshared", str(folder))


def hide_library(folder: Path) -> None:
    """Lay a private layer over /var/lib: what is written there stays in here.

    The kubelet makes its device plugin socket there and CNI remembers its networks there,
    wherever they are told to keep the rest.
    """
    layer = folder / "library"
    layer.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "library", str(layer))
    for name in ("upper", "work"):
        (layer / name).mkdir()
    option = f"lowerdir={LIBRARY},upperdir={layer}/upper,workdir={layer}/work"
    run("mount", "-t", "overlay", "-o", option, "overlay", str(LIBRARY))


def arrange_network(plan: Plan) -> None:
    """Put this namespace on the cluster's one flat network, by a bridge of its own."""
    run("ip", "link", "set", "lo", "up")
    # A bridge without an address of its own takes one of its cables', and another one when
    # a cable goes: neighbours would go on writing to an address that is gone.
    run("ip", "link", "add", BRIDGE, "address", hardware_address(plan.address), "type", "bridge")
    run("ip", "address", "add", f"{plan.address}/{plan.prefix}", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    bridged = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if bridged.exists():
        # Where the kernel lets a bridge rewrite packets, an answer of a pod to itself would
        # have to leave by the cable it came from, which a bridge never does.
        bridged.write_text("0")
    for name in ("all", BRIDGE):
        # The hub forwards between pods of one segment; they need not be told a shortcut.
        Path(f"/proc/sys/net/ipv4/conf/{name}/send_redirects").write_text("0")
    if not plan.kubelet:
        # Programs that look for "the" address of this machine take the default route's.
        run("ip", "route", "add", "default", "dev", BRIDGE)
        return
    while UPLINK not in (name for _, name in socket.if_nameindex()):
        time.sleep(0.01)
    run("ip", "link", "set", UPLINK, "master", BRIDGE, "up")
    run("ip", "route", "add", "default", "via", hub_address(plan.address))


def hardware_address(address: str) -> str:
    """A locally administered hardware address made of an IP address."""
    return ":".join(["02", "be", *(f"{int(part):02x}" for part in address.split("."))])


def hub_address(address: str) -> str:
    """The hub is the first host of the network."""
    return ".".join([*address.split(".")[:2], "0", "1"])


def main() -> None:
    """Arrange everything, say so by a file, and become the reaper."""
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text()))
    socket.sethostname(plan.hostname)
    if plan.kubelet:
        arrange_cgroups(plan)
        arrange_mounts(plan)
    arrange_network(plan)
    (Path(plan.folder) / "arranged").touch()
    os.execv(plan.init, [plan.init])


if __name__ == "__main__":
    main()
