"""Images of Python programs, put together from this machine's own interpreter.

The interpreter, its standard library and the shared libraries it needs are copied; the
packages come from a requirements file through pip. There is no shell and no package
manager in the image, and nothing in it belongs to the user who runs it, so it runs with a
read-only root file system.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.bed.cache import Artefact
from tests.bed.errors import BedError
from tests.bed.images import Image, Layer, write_archive

PACKAGES = "/opt/packages"
PROGRAM = "/opt/program"
# Parts of the standard library no service needs.
LEFT_OUT = (
    *("site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo"),
    *("ensurepip", "lib2to3", "pydoc_data"),
)
# Loaded by name at run time, so nothing that is linked tells of them.
BY_NAME = ("libgcc_s.so.1", "libstdc++.so.6")
DATA = ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/openssl.cnf", "/etc/mime.types")


def python_image(
    source: Path,
    requirements: Path,
    reference: str,
    out: Path,
    *,
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> Path:
    """Write the archive of an image that runs `python ARGUMENTS`; returns its path.

    `source` is a project folder or a wheel; what it depends on is taken from
    `requirements` only, so the image holds exactly what the lock says.
    """
    base = _base(requirements).path() / "layer.tar"
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "program"
        _pip("--no-deps", "--target", str(folder), str(source))
        layer = Layer(Path(work) / "layer.tar", lowest=False)
        layer.tree(folder, PROGRAM, skip=("bin",))
        image = Image(
            reference,
            [str(_interpreter()), *arguments],
            {
                "PATH": f"{_interpreter().parent}:/usr/bin:/bin",
                "PYTHONPATH": f"{PROGRAM}:{PACKAGES}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUNBUFFERED": "1",
                "LANG": "C.UTF-8",
                "LD_LIBRARY_PATH": ":".join(_library_folders()),
                "HOME": "/tmp",
                **(environment or {}),
            },
        )
        return write_archive(image, [base, layer.close()], out)


def _base(requirements: Path) -> Artefact:
    """The layer with the interpreter and the packages: it changes only with the lock."""
    locked = requirements.read_text()

    def make(folder: Path) -> None:
        packages = folder / "packages"
        _pip("--requirement", str(requirements), "--target", str(packages))
        layer = Layer(folder / "layer.tar")
        _add_interpreter(layer)
        layer.tree(packages, PACKAGES, skip=("bin", "tests"))
        libraries = _linked([_interpreter(), *_extensions(_library()), *_extensions(packages)])
        for path in sorted(libraries):
            if not path.is_relative_to(packages):
                layer.file(path.resolve(), str(path))
        layer.close()
        subprocess.run(["rm", "-rf", str(packages)], check=True)

    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    recipe = locked + Path(__file__).read_text() + str(_interpreter())
    return Artefact("python", version, recipe, make)


def _interpreter() -> Path:
    """The interpreter itself, not a virtual environment's link to it."""
    return Path(sys.executable).resolve()


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _add_interpreter(layer: Layer) -> None:
    interpreter = _interpreter()
    layer.file(interpreter, str(interpreter))
    layer.link(f"{interpreter.parent}/python3", interpreter.name)
    layer.link(f"{interpreter.parent}/python", interpreter.name)
    layer.tree(_library(), str(_library()), skip=LEFT_OUT)
    for name in DATA:
        if Path(name).exists():
            layer.file(Path(name).resolve(), name)
    zones = Path("/usr/share/zoneinfo")
    if zones.is_dir():
        layer.tree(zones, str(zones), skip=("right", "posix"))


def _extensions(folder: Path) -> Iterable[Path]:
    return (
        path
        for path in folder.rglob("*.so*")
        if path.is_file() and not {"site-packages", "dist-packages"} & set(path.parts)
    )


def _linked(programs: Iterable[Path]) -> set[Path]:
    """The shared libraries those programs need, the loader included, by absolute path."""
    found: set[Path] = set()
    for program in programs:
        told = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
        # "name => /path (address)", and for the loader "/path (address)".
        found |= {Path(path) for path in re.findall(r"(/\S+) \(0x", told.stdout)}
    cached = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False)
    for name in BY_NAME:
        match = re.search(rf"{re.escape(name)} \(.*\) => (/\S+)", cached.stdout)
        if match:
            found.add(Path(match[1]))
    return found


def _library_folders() -> list[str]:
    """Where the copied libraries lie; the image has no cache that would tell the loader."""
    return sorted({str(path.parent) for path in _linked([_interpreter()])})


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    result = subprocess.run(
        [*command, "--no-warn-script-location", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"},
        check=False,
    )
    if result.returncode:
        raise BedError(
            f"`pip install {' '.join(arguments)}` failed: {result.stderr.strip()[-1500:]}\n"
            "Is the package registry pip is configured for reachable?"
        )
