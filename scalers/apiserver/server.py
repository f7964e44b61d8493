"""The metrics API on its own TLS listener; what it trusts and serves with follows the cluster.

It listens at once and says at `/readyz` what it still waits for. Prometheus is never among that: a
metric without a value says so itself, and an adapter that goes away breaks discovery for everybody.
"""

import asyncio
import logging
from collections import Counter

from aiohttp import web

from healer.kernel.clock import Clock
from healer.kernel.tasks import keep
from scalers.apiserver import certificates, front_proxy
from scalers.apiserver.access import Access
from scalers.apiserver.certificates import CertificateFiles, Pair
from scalers.apiserver.contract import (
    ApiServices,
    AuthenticationSource,
    Listening,
    MetricsApiError,
    Reviewer,
    Unavailable,
)
from scalers.apiserver.front_proxy import Trust
from scalers.apiserver.handler import Handler
from scalers.apiserver.tls import LiveTls
from scalers.ports import MetricReader

_log = logging.getLogger(__name__)

#: How often certificate files and what the cluster says of the front proxy are looked at. Seconds.
LOOK_SECONDS, TRUST_SECONDS = 5.0, 30.0
#: The same while it is not ready yet. Seconds.
SOON_SECONDS = 1.0
#: The aggregator drops an idle connection after 90 s; a server that does so first may cut one off
#: that a request is on its way on. Seconds.
KEEPALIVE_SECONDS = 150.0
#: How long answers under way may take at the end. Seconds.
SHUTDOWN_SECONDS = 5.0


class MetricsApi:
    """The running server."""

    def __init__(
        self,
        listening: Listening,
        reader: MetricReader,
        clock: Clock,
        *,
        authentication: AuthenticationSource,
        reviewer: Reviewer | None,
        api_services: ApiServices | None,
    ) -> None:
        """Nothing is bound yet; see `start`. Raises MetricsApiError for unusable files."""
        self._listening = listening
        self._clock = clock
        self._authentication = authentication
        self._services = api_services
        self._files: CertificateFiles | None = None
        if listening.cert_file is not None and listening.key_file is not None:
            self._files = CertificateFiles(listening.cert_file, listening.key_file)
        elif listening.cert_file is not None or listening.key_file is not None:
            raise MetricsApiError(
                "the metrics API was given one of certificate and key; give both, or neither"
            )
        pair = self._files.read() if self._files else certificates.make(listening, clock.now())
        self._pair = pair
        self._trust: Trust | None = None
        self._trust_at = float("-inf")
        self._told: Pair | None = None
        self._problems: dict[str, str] = {"front proxy": "not read yet"}
        if self._must_tell:
            self._problems["APIServices"] = "not told of the certificate yet"
        self._tls = LiveTls(pair, "")
        self._access = Access(reviewer if listening.review else None, clock.monotonic)
        self._handler = Handler(reader, self._access, self._tls, self.problems, clock.now)
        self._runner: web.ServerRunner | None = None
        self._server: web.Server | None = None
        self._looking: asyncio.Task[None] | None = None
        self._stopping = False
        self.port = 0  #: the one that was bound

    @classmethod
    async def start(
        cls,
        listening: Listening,
        reader: MetricReader,
        clock: Clock,
        *,
        authentication: AuthenticationSource,
        reviewer: Reviewer | None,
        api_services: ApiServices | None = None,
    ) -> "MetricsApi":
        """Bind and serve, ready or not. Raises MetricsApiError when it never could."""
        made = cls(
            listening, reader, clock,
            authentication=authentication, reviewer=reviewer, api_services=api_services,
        )  # fmt: skip
        await made._bind()
        try:
            await made.look()
        except BaseException:
            await made.stop()
            raise
        made._looking = asyncio.create_task(keep("metrics-api", made._watch, clock=clock))
        return made

    @property
    def answered(self) -> Counter[tuple[str, int]]:
        """How many answers of each kind (external, custom, discovery, health, other) and code."""
        return self._handler.answered

    def problems(self) -> list[str]:
        """Why it is not ready, each with its place; empty when it is."""
        found = [f"{place}: {why}" for place, why in self._problems.items()]
        return [*found, "shutting down"] if self._stopping else found

    def drain(self) -> None:
        """From now on not ready; what is asked is still answered."""
        self._stopping = True

    async def stop(self) -> None:
        """Finish the answers under way and close."""
        self.drain()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        await self._access.close()

    async def look(self) -> None:
        """See once whether certificate or trust changed. Raises MetricsApiError."""
        await self._look_at_trust()
        if self._trust is not None:
            self._renew(authority=self._trust.authority)
        self._look_at_certificate()
        # A made one is shown when the aggregator has had the time of one look to hear of it.
        heard = self._told is self._pair
        await self._tell()
        if heard or not self._must_tell:
            self._renew(pair=self._pair)

    async def _watch(self) -> None:
        await self._clock.sleep(SOON_SECONDS if self._problems else LOOK_SECONDS)
        await self.look()

    @property
    def _must_tell(self) -> bool:
        return self._files is None and self._services is not None

    async def _look_at_trust(self) -> None:
        now = self._clock.monotonic()
        if self._trust is not None and now - self._trust_at < TRUST_SECONDS:
            return
        try:
            self._trust = front_proxy.read(await self._authentication.read())
        except Unavailable as error:
            if self._trust is None:
                self._problems["front proxy"] = str(error)
            # What was true goes on: the cluster being away is no reason to refuse it.
            _log.warning("the front proxy's authority was not read", extra={"error": str(error)})
            return
        self._trust_at = now
        self._handler.trust = self._trust
        self._problems.pop("front proxy", None)

    def _look_at_certificate(self) -> None:
        if self._files is None:
            if self._clock.now() >= self._pair.replace_at:
                self._pair = certificates.make(self._listening, self._clock.now())
            return
        try:
            if self._files.changed():
                self._pair = self._files.read()
        except MetricsApiError as error:
            # Half-way through a rotation the two do not belong together; the next look sees both.
            _log.warning("the certificate stays as it was", extra={"error": str(error)})

    async def _tell(self) -> None:
        """The aggregator must know a made certificate before it is shown to it."""
        if not self._must_tell:
            return
        assert self._services is not None
        names = self._listening.api_services
        try:
            await certificates.tell(self._services, names, self._pair.authority, self._clock.now())
        except Unavailable as error:
            if self._told is None:
                self._problems["APIServices"] = str(error)
            _log.warning("an APIService was not told", extra={"error": str(error)})
            return
        self._told = self._pair
        self._problems.pop("APIServices", None)

    async def _bind(self) -> None:
        self._server = web.Server(
            self._handler.handle,
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            max_line_size=32_768,  # selectors are long
        )
        self._runner = web.ServerRunner(
            self._server, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS
        )
        await self._runner.setup()
        at = self._listening
        site = web.TCPSite(
            self._runner, at.host, at.port, ssl_context=self._tls.door, reuse_address=True
        )
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise MetricsApiError(
                f"the metrics API cannot bind {at.host}:{at.port}: {error}; free the port or set "
                "another"
            ) from error
        self.port = int(self._runner.addresses[0][1])

    def _renew(self, *, pair: Pair | None = None, authority: str | None = None) -> None:
        """End what was made under an older trust, each after the answer that is under way."""
        if not self._tls.renew(pair=pair, authority=authority):
            return
        assert self._server is not None
        for connection in self._server.connections:
            transport = connection.transport
            if not isinstance(transport, asyncio.Transport) or self._tls.is_current(
                transport.get_extra_info("ssl_object")
            ):
                continue
            connection.close()
            # An idle one is not closed by that: aiohttp only stops to listen on it.
            if transport not in self._handler.busy:
                transport.close()
