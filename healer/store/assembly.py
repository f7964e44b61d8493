"""From settings to an open journal."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from healer.errors import ConfigError
from healer.kernel.clock import Clock
from healer.kernel.crashpoints import CrashPoints
from healer.kernel.secrets import SecretFile
from healer.ports import Store
from healer.settings.conduct import StoreSettings
from healer.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Journal:
    """An open journal, and what comes with it."""

    store: Store
    clock: Clock  #: tells the time that the journal goes by
    subscribe: Callable[[Callable[[], None]], None]  #: be told that another replica has left work


async def open_store(
    settings: StoreSettings, stack: AsyncExitStack, clock: Clock, crash: CrashPoints, replica: str
) -> Journal:
    """Open what is configured; `stack` closes it.

    `replica` names this replica; claims that an earlier process of that name held are over. Empty:
    it has no name that is surely its own.
    """
    if not settings.shared:
        store = await SqliteStore.open(settings.path, clock=clock, crash=crash)
        stack.push_async_callback(store.close)
        return Journal(store, clock, lambda _: None)
    try:
        from healer.store.postgres import PostgresStore
        from healer.store.postgres.time import DatabaseClock
    except ImportError as error:
        raise _not_installed(error) from error
    time = DatabaseClock(clock)
    journal = await PostgresStore.open(
        _address(settings),
        direct_url=_direct(settings) or "",
        time=time,
        crash=crash,
        connections=settings.connections,
        heir_of=replica,
    )
    stack.push_async_callback(journal.close)
    return Journal(journal, time, journal.hints.subscribe)


async def look_at_postgres(settings: StoreSettings) -> tuple[int, int]:
    """The schema the configured database has (0: none), and the one this healer makes of it.

    Changes nothing. Raises StoreUnavailable, or ConfigError for a server that will not do.
    """
    try:
        from healer.store.postgres import moving
    except ImportError as error:
        raise _not_installed(error) from error
    return await moving.version(_address(settings)())


def _not_installed(error: ImportError) -> ConfigError:
    return ConfigError(
        f"store.url: PostgreSQL needs {error.name or 'asyncpg'}, which is not installed; "
        "install healer[postgres], or set store.path instead"
    )


def _address(settings: StoreSettings) -> Callable[[], str]:
    if settings.url_file is None:
        return lambda: settings.url
    return _secret("store.url_file", SecretFile(settings.url_file))


def _direct(settings: StoreSettings) -> Callable[[], str] | None:
    if settings.direct_url_file is not None:
        return _secret("store.direct_url_file", SecretFile(settings.direct_url_file))
    if settings.direct_url:
        return lambda: settings.direct_url
    return None


def _secret(key: str, file: SecretFile) -> Callable[[], str]:
    def read() -> str:
        try:
            return file.read().reveal()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{key}: {error}; put the URL on line one of the file") from error

    return read
