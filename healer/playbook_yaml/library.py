"""The set of playbooks in force: swapped whole or not at all, and the last good one is kept."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import healer
from healer.domain.playbook import Playbook
from healer.errors import ConfigError
from healer.kernel.clock import Clock
from healer.playbook_yaml.loader import PlaybookSet, load_contents, playbook_files
from healer.playbook_yaml.registry import Registry

_log = logging.getLogger(__name__)

Contents = tuple[tuple[str, bytes], ...]

#: How often the files are looked at. A kubelet refreshes a ConfigMap mount about once a minute.
POLL_SECONDS = 5.0
#: A change counts once it reads the same after this long: no half-written file, no half-new set.
SETTLE_SECONDS = 1.0


class PlaybookLibrary:
    """The playbooks of some files and folders, reloaded when a text changes.

    A faulty change is refused as a whole: `current()` stays what it was and `error` says why.
    """

    def __init__(self, paths: Iterable[Path], registry: Registry) -> None:
        """Load the set. Raises PlaybookSetError or ConfigError: nothing starts on a faulty set."""
        self._paths = tuple(paths)
        self._registry = registry
        contents = self._read()
        self._set = load_contents(contents, registry)
        self._seen = _identity(contents)
        self._error: ConfigError | None = None
        self._warn()

    def current(self) -> tuple[Playbook, ...]:
        """The playbooks in force, in order of name."""
        return self._set.playbooks

    @property
    def digest(self) -> str:
        """Identity of the set in force."""
        return self._set.digest

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look at although the set is valid."""
        return self._set.warnings

    @property
    def error(self) -> ConfigError | None:
        """Why the files as they are now are not in force; None when they are."""
        return self._error

    async def watch(
        self,
        clock: Clock,
        on_swap: Callable[[PlaybookSet], None],
        *,
        every: float = POLL_SECONDS,
        settle: float = SETTLE_SECONDS,
    ) -> None:
        """Follow the files for ever; `on_swap` is told of each new set once it is in force.

        Contents are compared, not times: an editor may keep a file's time, and a ConfigMap mount
        swaps links. A set of some dozens of files reads in a millisecond, off the event loop.
        """
        while True:
            await clock.sleep(every)
            await self.refresh(clock, on_swap, settle=settle)

    async def refresh(
        self,
        clock: Clock,
        on_swap: Callable[[PlaybookSet], None],
        *,
        settle: float = SETTLE_SECONDS,
    ) -> bool:
        """Look once; True when a new set came into force."""
        try:
            contents = await asyncio.to_thread(self._read)
            identity = _identity(contents)
            if identity == self._seen:
                return False
            await clock.sleep(settle)
            if _identity(await asyncio.to_thread(self._read)) != identity:
                return False  # still being written: the next look decides
        except ConfigError as error:
            self._refuse(error, "")
            return False
        try:
            fresh = await asyncio.to_thread(load_contents, contents, self._registry)
        except ConfigError as error:
            self._refuse(error, identity)
            return False
        swapped = fresh.digest != self._set.digest
        self._set, self._seen, self._error = fresh, identity, None
        self._warn()
        if swapped:
            _log.info(
                "playbooks replaced",
                extra={"playbooks": len(fresh.playbooks), "digest": fresh.digest},
            )
            on_swap(fresh)
        return swapped

    def _refuse(self, error: ConfigError, identity: str) -> None:
        if str(error) != str(self._error):
            _log.error("playbooks refused, the last good ones stay", extra={"error": str(error)})
        self._error, self._seen = error, identity

    def _warn(self) -> None:
        for warning in self._set.warnings:
            _log.warning("playbooks tie", extra={"warning": warning})

    def _read(self) -> Contents:
        """Path and bytes of every file now. Raises ConfigError when one cannot be read."""
        contents: list[tuple[str, bytes]] = []
        for file in playbook_files(self._paths):
            try:
                contents.append((str(file), file.read_bytes()))
            except OSError as error:
                raise ConfigError(
                    f"{file}: cannot be read: {error.strerror}; correct its path or rights"
                ) from error
        return tuple(contents)


def _identity(contents: Contents) -> str:
    state = hashlib.sha256()
    for path, data in contents:
        for part in (path.encode(), data):
            state.update(len(part).to_bytes(8, "big"))
            state.update(part)
    return state.hexdigest()


def find_shipped() -> Path:
    """The folder of playbooks that come with healer: in the wheel, or in the repository.

    An editable install does not make `healer/_playbooks`, so the repository's own folder is next.
    Raises ConfigError when neither is there.
    """
    package = Path(healer.__file__).parent
    for folder in (package / "_playbooks", package.parent / "playbooks"):
        if folder.is_dir():
            return folder
    raise ConfigError(
        f"no shipped playbooks in {package}; reinstall healer, or name a folder of your own"
    )
