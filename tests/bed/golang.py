"""Building Go programs into the cache, with nothing but the Go toolchain.

Each folder under `go/` is a Go module: its go.mod and go.sum pin every line of source
that goes into a binary, whether the program is ours or a `tool` of somebody else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.bed.cache import Artefact, say
from tests.bed.errors import BedError, UnavailableError
from tests.bed.waiting import now

MODULES = Path(__file__).parent / "go"
PROGRESS_SECONDS = 20.0
TAIL = 15


@dataclass(frozen=True)
class Program:
    """One binary: the package it is built from, and how."""

    binary: str
    package: str = "."
    tags: str = ""
    ldflags: str = ""


def go_toolchain() -> str:
    """The Go command, or an error that says what to install."""
    go = shutil.which("go")
    if go is None:
        raise UnavailableError(
            "no `go` on the PATH: install Go 1.26 or later, or bring a filled cache "
            "and name it in HEALER_BED_CACHE"
        )
    return go


def go_artefact(name: str, version: str, *programs: Program) -> Artefact:
    """An artefact whose `bin/` holds the programs of the module `go/<name>`."""
    module = MODULES / name
    sources = sorted(path for path in module.iterdir() if path.suffix in {".go", ".mod", ".sum"})
    recipe = "\n".join([repr(programs), *(path.read_text() for path in sources)])

    def make(folder: Path) -> None:
        (folder / "bin").mkdir()
        for program in programs:
            _build(module, program, folder / "bin" / program.binary)

    return Artefact(name, version, recipe, make)


def module_source(name: str, path: str) -> Path:
    """Where the source of a module that `go/<name>` depends on lies."""
    result = subprocess.run(
        [go_toolchain(), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", path],
        cwd=MODULES / name,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode or not result.stdout.strip():
        raise BedError(f"Go knows no source of {path}: {result.stderr.strip()}")
    return Path(result.stdout.strip())


def _build(module: Path, program: Program, out: Path) -> None:
    command = [go_toolchain(), "build", "-trimpath", "-mod=readonly", "-buildvcs=false"]
    if program.tags:
        command += ["-tags", program.tags]
    command += ["-ldflags", f"-s -w {program.ldflags}".strip(), "-o", str(out), program.package]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    started = now()
    finished = threading.Event()

    def report() -> None:
        while not finished.wait(PROGRESS_SECONDS):
            say(f"bed:   {program.binary}: still compiling after {now() - started:.0f} s")

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        # A build is long and the machine may be shared: let everything else go first.
        result = subprocess.run(
            ["nice", *command],
            cwd=module,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        finished.set()
        reporter.join()
    if result.returncode:
        tail = "\n".join(result.stderr.splitlines()[-TAIL:])
        raise BedError(
            f"`{' '.join(command)}` failed in {module}:\n{tail}\n"
            "Is the Go module proxy reachable, and is Go 1.26 or later?"
        )
