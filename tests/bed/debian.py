"""Programs out of Debian packages, unpacked into the cache: nothing is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.bed.cache import Artefact
from tests.bed.errors import BedError, UnavailableError

# runc runs containers (crun 1.8 refuses the runtime-spec version containerd writes),
# the CNI plugins make pod networks, nft carries kube-proxy's rules; the rest is what
# nft links against.
PACKAGES = (
    "runc",
    "containernetworking-plugins",
    "nftables",
    "libedit2",
    "libbsd0",
    "libjansson4",
    "libmd0",
    "libmnl0",
    "libnftables1",
    "libnftnl11",
)


def debian_artefact() -> Artefact:
    """An artefact that is a small root folder with runc, the CNI plugins and nft."""
    return Artefact("debian", "stable", " ".join(PACKAGES), _make)


def _make(folder: Path) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise UnavailableError(
            "real nodes take runc, the CNI plugins and nft from Debian packages, and this "
            "machine has no apt-get/dpkg: use --cluster=kind or --cluster=simulated"
        )
    packages = folder / "packages"
    packages.mkdir()
    download = ["apt-get", "download", *PACKAGES]
    first = subprocess.run(download, cwd=packages, capture_output=True, text=True, check=False)
    if first.returncode:
        # A fresh image has no package lists yet.
        _run(["apt-get", "update"], packages)
        _run(download, packages)
    root = folder / "root"
    for package in sorted(packages.glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(root)], packages)
    shutil.rmtree(packages)


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BedError(
            f"`{' '.join(command)}` failed: {result.stderr.strip()[-500:]}\n"
            "Check that the machine's Debian package sources answer."
        )
