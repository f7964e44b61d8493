"""The cache: a folder outside the tree that holds every built artefact once.

An artefact lies under a name made of its version and a hash of its recipe, so a changed
recipe is a new artefact and nothing is ever rebuilt in place. It is made under a
temporary name and renamed when whole: a killed build leaves nothing that looks finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bed.waiting import now


def cache_folder() -> Path:
    """The folder named by HEALER_BED_CACHE, else `healer-bed` in the user's cache folder."""
    named = os.environ.get("HEALER_BED_CACHE")
    if named:
        folder = Path(named)
    else:
        home = os.environ.get("XDG_CACHE_HOME")
        folder = (Path(home) if home else Path.home() / ".cache") / "healer-bed"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def say(line: str) -> None:
    """Print one line of progress at once, on stderr, so that stdout stays an answer."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` alone; a second process waits here, and says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"bed: another process holds {path.name}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Artefact:
    """Something built once and kept: a folder that `make` fills.

    `recipe` is everything besides the version that decides what comes out.
    """

    name: str
    version: str
    recipe: str
    make: Callable[[Path], None]

    @property
    def key(self) -> str:
        """Name, version and the first digits of the recipe's hash."""
        digest = hashlib.sha256(self.recipe.encode()).hexdigest()[:10]
        return f"{self.name}-{self.version}-{digest}"

    @property
    def built(self) -> bool:
        """True when the artefact is in the cache already."""
        return (cache_folder() / "artefacts" / self.key).is_dir()

    def path(self) -> Path:
        """The artefact's folder; it is built first when it is not in the cache."""
        folder = cache_folder() / "artefacts"
        done = folder / self.key
        if done.is_dir():
            return done
        with locked(cache_folder() / "locks" / f"{self.key}.lock"):
            if done.is_dir():
                return done
            folder.mkdir(exist_ok=True)
            self._build(folder, done)
        return done

    def _build(self, folder: Path, done: Path) -> None:
        for left in folder.glob(f".{self.key}.*"):
            shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=f".{self.key}.", dir=folder))
        work.chmod(0o755)
        started = now()
        say(f"bed: building {self.name} {self.version} (once; kept in {folder})")
        try:
            self.make(work)
            work.rename(done)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        took = now() - started
        with (cache_folder() / "builds.log").open("a") as log:
            log.write(f"{self.key} {took:.1f} s\n")
        say(f"bed: {self.name} {self.version} built in {took:.1f} s")
