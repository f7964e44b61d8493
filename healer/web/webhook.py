"""`POST /v1/alertmanager[/{source}]`: an alert answered with 2xx is on disk.

What Alertmanager does with an answer decides what we answer: it sends again only after a 5xx or a
cut connection, never after 4xx, and 429 counts as 4xx (Alertmanager `notify/util.go`). So all that
may be better later is 503, and 4xx is kept for what can never succeed, and is made loud.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from aiohttp import hdrs, web

from healer.errors import HealerError
from healer.kernel.clock import Clock
from healer.ports import Store
from healer.settings.listen import Limits, Source
from healer.web.alertmanager import Delivery, Malformed, TooLarge, parse
from healer.web.auth import Refusal, SourceGate
from healer.web.conditions import Conditions
from healer.web.metrics import Instruments
from healer.web.pace import Pace

_log = logging.getLogger(__name__)

#: Smaller bodies are parsed where they are; larger ones in a thread, off the event loop. Bytes.
INLINE_BYTES = 64 * 1024
#: Larger deliveries are taken `LARGE_AT_ONCE` at a time: what is parsed only to be refused by a
#: busy journal costs as much as what is kept, and in a storm it all comes again. Bytes.
LARGE_BYTES = 1 << 20
LARGE_AT_ONCE = 2
#: What Alertmanager and people are told to wait after a 503. Seconds; Alertmanager ignores it.
RETRY_AFTER = "1"
#: The source of deliveries to `/v1/alertmanager` itself.
DEFAULT_SOURCE = "alertmanager"
_SOURCE = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")


class _Answer(Exception):
    """Ends a delivery early with this status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Held:
    """How much one delivery holds of the common allowance."""

    count = 0  #: bytes
    large = False


class Webhook:
    """Receives deliveries: authenticates on headers, reads bounded, commits, then answers."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        sources: Mapping[str, Source],
        limits: Limits,
        instruments: Instruments,
        conditions: Conditions,
        on_accepted: Callable[[], None] = lambda: None,
        on_truncated: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_accepted` is called after each commit that brought news; `on_truncated` with the
        receiver whose delivery Alertmanager cut: its whole group must be pulled at once.

        Raises ConfigError when a token file cannot be read.
        """
        self._store = store
        self._clock = clock
        self._limits = limits
        self._is = instruments
        self._conditions = conditions
        self._on_accepted = on_accepted
        self._on_truncated = on_truncated
        self._gate = SourceGate(sources)
        self._paces = {
            name: Pace(clock, source.requests_per_second, source.burst)
            for name, source in sources.items()
        }
        self._draining = False
        self._requests = 0
        self._bytes = 0
        self._large = 0
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="healer-parse")

    def drain(self) -> None:
        """From now on every delivery is answered 503, so that a peer or a successor gets it."""
        self._draining = True

    async def idle(self) -> None:
        """Returns when no delivery is being answered."""
        while self._requests:
            await self._clock.sleep(0.01)

    def close(self) -> None:
        """Let the parsing thread go."""
        self._parser.shutdown(wait=False, cancel_futures=True)

    def application(self) -> web.Application:
        """The aiohttp application with this one route."""
        application = web.Application(client_max_size=self._limits.body_bytes)
        for path in ("/v1/alertmanager", "/v1/alertmanager/{source}"):
            application.router.add_post(path, self.receive, expect_handler=self._expect)
        return application

    async def receive(self, request: web.Request) -> web.Response:
        """One delivery. Answers 200 with an empty body only after every valid alert is on disk."""
        began = self._clock.monotonic()
        self._requests += 1
        try:
            await self._deliver(request)
            self._is.ack.observe(self._clock.monotonic() - began)
            return self._answered(200, "")
        except _Answer as answer:
            return self._answered(answer.status, str(answer))
        finally:
            self._requests -= 1

    async def _deliver(self, request: web.Request) -> None:
        source = self._admit(request)
        held = _Held()
        try:
            if (request.content_length or 0) > LARGE_BYTES:
                self._take_large(held)
            delivery = await self._parse(await self._read(request, held), source)
            await self._commit(delivery)
        finally:
            self._bytes -= held.count
            self._large -= held.large
        if delivery.truncated:
            self._conditions.hold(
                "webhook_truncated",
                f"Alertmanager cut {delivery.truncated} alerts off for receiver "
                f"{delivery.receiver!r}; set max_alerts: 0 there",
            )
            self._on_truncated(delivery.receiver)

    # ------------------------------------------------------------------- on headers alone

    def _admit(self, request: web.Request) -> str:
        """The source this caller may deliver as."""
        source = request.match_info.get("source", DEFAULT_SOURCE)
        refusal = self._gate.refuse(request, source)
        if refusal is not None:
            self._conditions.hold(
                "webhook_unauthorized",
                f"{request.remote} was refused ({refusal.value}) for /v1/alertmanager: its alerts "
                "are lost until its credential is mended",
            )
            text = (
                "give a bearer token of this source"
                if refusal is Refusal.UNAUTHENTICATED
                else "this credential is for another source"
            )
            raise _Answer(refusal.value, text)
        if not _SOURCE.fullmatch(source):
            raise _Answer(404, "the source in the URL must be a lower-case name")
        if self._draining:
            raise _Answer(503, "shutting down")
        if self._requests > self._limits.inflight_requests:
            raise self._overloaded("limits.inflight_requests deliveries are being answered")
        pace = self._paces.get(source)
        if pace is not None and pace.wait() > 0:
            raise self._overloaded(f"source {source} is faster than its requests_per_second")
        length = request.content_length
        if length is not None and length > self._limits.body_bytes:
            raise self._too_large(f"{length} bytes; limits.body_bytes is {self._limits.body_bytes}")
        if self._bytes + (length or 0) > self._limits.inflight_bytes:
            raise self._overloaded("limits.inflight_bytes of bodies are being read")
        return source

    async def _expect(self, request: web.Request) -> web.StreamResponse | None:
        """`Expect: 100-continue` invites a body only from callers who may send one."""
        if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
            return self._answered(417, "the only expectation there is, is 100-continue")
        refusal = self._gate.refuse(request, request.match_info.get("source", DEFAULT_SOURCE))
        if refusal is None and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None  # the handler says the rest

    # -------------------------------------------------------------------------- the body

    async def _read(self, request: web.Request, held: _Held) -> bytes:
        """The whole body; `held` counts what it takes of the common allowance."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                async for piece in request.content.iter_any():
                    self._take(held, len(piece))
                    body += piece
        except TimeoutError:
            raise _Answer(503, "the body did not arrive within limits.read_seconds") from None
        except (web.RequestPayloadError, ConnectionError) as error:
            raise self._malformed(f"the body is broken: {error}") from error
        return bytes(body)

    def _take_large(self, held: _Held) -> None:
        if self._large >= LARGE_AT_ONCE:
            raise self._overloaded(f"{LARGE_AT_ONCE} deliveries above 1 MiB are being taken")
        self._large += 1
        held.large = True

    def _take(self, held: _Held, count: int) -> None:
        held.count += count
        self._bytes += count
        if held.count > LARGE_BYTES and not held.large:
            self._take_large(held)
        if held.count > self._limits.body_bytes:
            raise self._too_large(f"limits.body_bytes is {self._limits.body_bytes}")
        if self._bytes > self._limits.inflight_bytes:
            raise self._overloaded("limits.inflight_bytes of bodies are being read")

    async def _parse(self, body: bytes, source: str) -> Delivery:
        try:
            if len(body) <= INLINE_BYTES:
                return parse(body, source, self._limits)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._parser, parse, body, source, self._limits)
        except TooLarge as error:
            raise self._too_large(str(error)) from error
        except Malformed as error:
            raise self._malformed(str(error)) from error

    async def _commit(self, delivery: Delivery) -> None:
        if not delivery.alerts and not delivery.rejected:
            return
        now = self._clock.now()
        try:
            async with asyncio.timeout(self._limits.commit_seconds):
                receipt = await self._store.accept(delivery.alerts, delivery.rejected, now)
        except TimeoutError:
            raise self._not_stored("no commit within limits.commit_seconds") from None
        except HealerError as error:
            raise self._not_stored(str(error)) from error
        self._conditions.clear("store_unavailable")
        self._is.alerts.labels("accepted").inc(receipt.new)
        self._is.alerts.labels("duplicate").inc(receipt.duplicate)
        self._is.alerts.labels("rejected").inc(receipt.rejected)
        if delivery.rejected:
            self._conditions.hold(
                "webhook_rejected_alerts",
                f"{len(delivery.rejected)} alerts could not be understood, first: "
                f"{delivery.rejected[0].problem}",
            )
        if receipt.new:
            self._on_accepted()

    # ------------------------------------------------------------------------- the answers

    def _malformed(self, detail: str) -> _Answer:
        self._conditions.hold(
            "webhook_malformed",
            f"a body was no Alertmanager delivery ({detail[:200]}) and will not be sent again; "
            "mend the sender",
        )
        return _Answer(400, detail[:200])

    def _too_large(self, detail: str) -> _Answer:
        self._conditions.hold(
            "webhook_too_large",
            f"a body was refused ({detail}) and will not be sent again; group alerts more finely "
            "or raise the limit",
        )
        return _Answer(413, detail)

    def _overloaded(self, detail: str) -> _Answer:
        self._conditions.hold("webhook_overloaded", f"deliveries are sent back: {detail}")
        return _Answer(503, detail)

    def _not_stored(self, detail: str) -> _Answer:
        told = f"deliveries cannot be made durable: {detail}; see the store"
        if self._conditions.hold("store_unavailable", told):
            _log.error("deliveries are not made durable", extra={"error": detail})
        return _Answer(503, "the journal cannot commit now")

    def _answered(self, status: int, text: str) -> web.Response:
        self._is.requests.labels(str(status)).inc()
        headers: dict[str, str] = {}
        if status == 503:
            headers[hdrs.RETRY_AFTER] = RETRY_AFTER
        if status == 401:
            headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
        response = web.Response(status=status, text=text or None, headers=headers)
        if status in {400, 401, 403, 413, 503}:
            response.force_close()  # the rest of the body, if any, is not read
        return response
