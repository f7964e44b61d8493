"""Binding the three servers: TLS whose files may be replaced, and an end that loses nothing."""

import asyncio
import ssl
from pathlib import Path

from aiohttp import web

from healer.errors import ConfigError
from healer.kernel.clock import Clock
from healer.kernel.tasks import keep
from healer.settings.listen import Listener, Tls

#: How often certificate files are looked at. Seconds.
CERTIFICATE_SECONDS = 30.0
#: How long a server waits at its end for answers that are under way. Seconds.
SHUTDOWN_SECONDS = 5.0
#: A caller whose body is not wanted may go on sending for this long before it is cut off. Seconds.
LINGER_SECONDS = 1.0


class Server:
    """One application on one address."""

    def __init__(
        self, runner: web.AppRunner, port: int, watcher: asyncio.Task[None] | None
    ) -> None:
        self._runner = runner
        self._watcher = watcher
        self.port = port  #: the one that was bound, also when 0 was asked for

    @classmethod
    async def start(
        cls, application: web.Application, listener: Listener, clock: Clock, name: str
    ) -> "Server":
        """Bind and serve. Raises ConfigError naming the setting when that is not possible."""
        context = None
        watcher = None
        if listener.tls is not None:
            certificate = _Certificate(listener.tls, name)
            context = certificate.context
            watcher = asyncio.create_task(
                keep(f"{name}-certificate", lambda: certificate.watch(clock), clock=clock)
            )
        runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=75.0,
            lingering_time=LINGER_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        await runner.setup()
        site = web.TCPSite(
            runner, listener.host, listener.port, ssl_context=context, reuse_address=True
        )
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            if watcher is not None:
                watcher.cancel()
            raise ConfigError(
                f"listen.{name}: cannot bind {listener.host}:{listener.port}: {error}; "
                "free the port or set another"
            ) from error
        port = int(runner.addresses[0][1])
        return cls(runner, port, watcher)

    async def stop(self) -> None:
        """Take no more connections, finish the answers under way, then close."""
        if self._watcher is not None:
            self._watcher.cancel()
        await self._runner.cleanup()


class _Certificate:
    """An SSL context that follows its files."""

    def __init__(self, tls: Tls, name: str) -> None:
        self._tls = tls
        self._name = name
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._stamp = self._stamps()
            self._load()
            if tls.client_ca_file is not None:
                self.context.load_verify_locations(tls.client_ca_file)
                self.context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"listen.{name}.tls: the certificate cannot be used: {error}; give PEM files that "
                "belong together"
            ) from error

    async def watch(self, clock: Clock) -> None:
        """Load the files again when they changed; an unusable pair raises and the old one stays."""
        await clock.sleep(CERTIFICATE_SECONDS)
        stamp = self._stamps()
        if stamp != self._stamp:
            self._load()
            self._stamp = stamp

    def _load(self) -> None:
        self.context.load_cert_chain(self._tls.cert_file, self._tls.key_file)

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        return tuple(_stamp(path) for path in (self._tls.cert_file, self._tls.key_file))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns
