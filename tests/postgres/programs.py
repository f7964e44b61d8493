"""Where the programs are: installed, or unpacked from Debian packages into the test bed's cache."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.bed.cache import Artefact
from tests.bed.errors import UnavailableError

_INSTALLED = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Programs:
    """A folder of programs, and the environment they need."""

    folder: Path
    environment: Mapping[str, str]
    root: Path | None = None  #: of the unpacked packages; None when they are installed

    def moved_to(self, folder: Path) -> Programs:
        """The same programs where everybody may run them: the cache may be its owner's alone."""
        if self.root is None:
            return self
        root = folder / "programs"
        shutil.copytree(self.root, root, symlinks=True)
        return Programs(root / self.folder.relative_to(self.root), _libraries(root), root)


def unprivileged() -> str | None:
    """Whom servers run as: PostgreSQL refuses root. None when we are somebody else already."""
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "daemon"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise UnavailableError("PostgreSQL does not run as root, and there is no user `nobody` here")


@cache
def postgres() -> Programs:
    """`initdb` and `postgres`. Raises UnavailableError saying what is missing."""
    for folder in _candidates():
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return Programs(folder, {})
    package = _newest("postgresql")
    root = _unpacked(package)
    [found] = root.glob("usr/lib/postgresql/*/bin/initdb")
    return Programs(found.parent, _libraries(root), root)


@cache
def pgbouncer() -> Programs:
    """`pgbouncer`. Raises UnavailableError saying what is missing."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found:
        return Programs(Path(found).resolve().parent, {})
    root = _unpacked("pgbouncer")
    return Programs(root / "usr/sbin", _libraries(root), root)


def _candidates() -> list[Path]:
    folders = [Path(p).resolve().parent for p in (shutil.which("postgres"),) if p]
    installed = sorted(_INSTALLED.glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    return [*folders, *installed]


def _newest(stem: str) -> str:
    found = _apt("apt-cache", "search", "--names-only", f"^{stem}-[0-9]+$").split("\n")
    numbers = [int(m[1]) for line in found if (m := re.match(rf"{stem}-(\d+) ", line))]
    if not numbers:
        raise UnavailableError(f"no package {stem}-<version> is to be had; install PostgreSQL")
    return f"{stem}-{max(numbers)}"


def _unpacked(package: str) -> Path:
    return Artefact(package, "debian", package, lambda folder: _fetch(package, folder)).path()


def _fetch(package: str, folder: Path) -> None:
    """Unpack the package and whatever of its dependencies is not installed."""
    plan = _apt("apt-get", "install", "--simulate", "--no-install-recommends", package)
    names = re.findall(r"^Inst (\S+) ", plan, re.MULTILINE)
    packages = folder / "packages"
    packages.mkdir()
    _apt("apt-get", "download", *names, cwd=packages)
    for each in sorted(packages.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(each), str(folder)], check=True)
    shutil.rmtree(packages)


def _apt(*command: str, cwd: Path | None = None) -> str:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise UnavailableError("PostgreSQL is not installed, and there is no apt-get to fetch it")
    for attempt in (1, 2):
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout
        if attempt == 1:  # a fresh image has no package lists yet
            subprocess.run(["apt-get", "update"], capture_output=True, check=False)
    raise UnavailableError(
        f"`{' '.join(command)}` failed: {done.stderr.strip()[-300:] or 'nothing found'}; install "
        "PostgreSQL and pgbouncer, or give the machine Debian package sources that answer"
    )


def _libraries(root: Path) -> dict[str, str]:
    folders = {str(found.parent) for found in root.glob("**/lib*.so*")}
    return {"LD_LIBRARY_PATH": ":".join(sorted(folders))}
