"""Control groups for a node: a child of our own group, removed when the node ends.

Version 1 hierarchies each get a child of the group this process is in, so whatever limit
stands over us stands over the nodes. Version 2 needs its parent free of processes, which
only the root of the mount promises, so there the child lies under the root.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.bed.errors import BedError, UnavailableError
from tests.bed.waiting import now, pause

MOUNT = Path("/sys/fs/cgroup")
NEEDED = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")


def version() -> int:
    """The cgroup version whose controllers this machine offers: 1 or 2."""
    return 2 if (MOUNT / "cgroup.controllers").exists() else 1


def own_groups() -> dict[str, Path]:
    """Our own group in each version 1 hierarchy, by the name of its folder under the mount."""
    groups: dict[str, Path] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        name = controllers.removeprefix("name=")
        if name and (MOUNT / name).is_dir():
            groups[name] = MOUNT / name / path.lstrip("/")
    return groups


def missing_controllers() -> list[str]:
    """The controllers a kubelet needs and this machine lacks."""
    if version() == 2:
        there = (MOUNT / "cgroup.controllers").read_text().split()
        return [name for name in ("cpu", "cpuset", "memory", "pids") if name not in there]
    names = {part for name in own_groups() for part in name.split(",")}
    return [name for name in NEEDED if name not in names]


def create(name: str) -> list[Path]:
    """Make the groups of a node; a left-over of that name is removed first."""
    if version() == 2:
        group = MOUNT / name
        remove([group])
        group.mkdir()
        wanted = (MOUNT / "cgroup.controllers").read_text().split()
        try:
            (MOUNT / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in wanted))
        except OSError as error:
            raise UnavailableError(
                f"cannot enable controllers at {MOUNT}: {error}; run where the root of the "
                "cgroup mount is yours (a virtual machine), or use --cluster=kind"
            ) from error
        return [group]
    groups: list[Path] = []
    for hierarchy, own in own_groups().items():
        group = own / name
        remove([group])
        group.mkdir()
        if "cpuset" in hierarchy.split(","):
            for file in ("cpuset.cpus", "cpuset.mems"):
                (group / file).write_text((own / file).read_text())
            (group / "cgroup.clone_children").write_text("1")
        groups.append(group)
    return groups


def joining(groups: list[Path], argv: list[str]) -> list[str]:
    """The argv that enters those groups and then becomes `argv`."""
    if not groups:
        return argv
    script = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'
    return ["sh", "-c", script, "join", *map(str, groups), "--", *argv]


def leaves(groups: list[Path]) -> list[Path]:
    """The groups a process of a running node belongs in."""
    return [group / "init" for group in groups] if version() == 2 else groups


def remove(groups: list[Path], timeout: float = 10.0) -> None:
    """Remove groups and all below them, once the processes in them are gone."""
    end = now() + timeout
    for group in groups:
        for folder, _, _ in os.walk(group, topdown=False):
            while True:
                try:
                    Path(folder).rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError as error:
                    if now() > end:
                        raise BedError(
                            f"cannot remove the control group {folder}: {error}; "
                            "end the processes in its cgroup.procs"
                        ) from error
                    pause(0.02)
