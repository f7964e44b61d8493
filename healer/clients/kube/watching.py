"""Lists, then follows for ever: what breaks on the way is begun again and never ends the watch."""

import logging
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from healer.clients.kube.connection import Connection
from healer.clients.kube.errors import Gone, from_answer
from healer.clients.kube.paths import collection_path
from healer.clients.kube.reading import Reader, decode_as, describe
from healer.domain.kinds import RESOURCES
from healer.domain.target import Kind
from healer.errors import HealerError, TimedOut, Unauthorized
from healer.kernel.clock import Clock
from healer.ports import JsonObject, WatchEvent, WatchKind

_log = logging.getLogger(__name__)

#: No stream is followed for longer. The server is asked to end it sooner, so one that comes to this
#: is dead, or bookmarks and nothing else come through. What was missed is found within a minute.
SILENCE_SECONDS = 55.0
#: The server ends each watch after this share of it, and up to a quarter more, so that not all end
#: at once.
SERVED_SHARE = 0.72
#: A stream that ended, in good order or not, may have lost events on its way, so all is listed anew
#: when the last list is this share of `SILENCE_SECONDS` old, and at least so many times as old as
#: it took: lists never take more than a tenth of the time.
LISTED_SHARE, LIST_COST = 0.6, 10.0
#: Waits after failures double from the first to the last of these, with jitter.
FIRST_WAIT, LAST_WAIT = 0.2, 30.0

_random = secrets.SystemRandom().random

_CHANGES = {
    "ADDED": WatchKind.ADDED,
    "MODIFIED": WatchKind.MODIFIED,
    "DELETED": WatchKind.DELETED,
    "BOOKMARK": WatchKind.BOOKMARK,
}


class _Line(msgspec.Struct):
    type: str
    object: dict[str, Any]


class Watch:
    """One watch of one kind. Iterate `events`; closing that iterator closes the connection."""

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        kind: Kind,
        namespace: str,
        *,
        silence_seconds: float = SILENCE_SECONDS,
        jitter: Callable[[], float] = _random,
    ) -> None:
        self._connection = connection
        self._reader = Reader(connection)
        self._clock = clock
        self._kind = kind
        self._namespace = namespace
        self._silence = silence_seconds
        self._jitter = jitter
        self._call = describe("watch", kind, namespace)
        self._version = ""  #: resourceVersion to go on from; empty: list first
        self._wait = FIRST_WAIT
        self._listed_at = self._list_took = 0.0

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        """ADDED for all there is, SYNCED with their keys, then every change; all of it again and
        again, because a watch is only a hint.

        Only Unauthorized and cancellation come out of it; all else is logged and begun again.
        """
        while True:
            try:
                if not self._version:
                    async with aclosing(self._list()) as listed:
                        async for event in listed:
                            yield event
                began = self._clock.monotonic()
                async with aclosing(self._follow()) as changes:
                    async for event in changes:
                        self._wait = FIRST_WAIT
                        yield event
            except Unauthorized:
                raise
            except (Gone, TimedOut) as error:
                # Forgotten by the server, or silent: what was missed can only be found by a list.
                self._version = ""
                await self._pause(error)
            except HealerError as error:
                await self._pause(error)
                self._list_when_old()
            else:
                # The server ended it in good order; one that does so at once must not be hammered.
                if self._clock.monotonic() - began < FIRST_WAIT:
                    await self._pause(None)
                self._list_when_old()

    def _list_when_old(self) -> None:
        age = self._clock.monotonic() - self._listed_at
        if age >= max(self._silence * LISTED_SHARE, self._list_took * LIST_COST):
            self._version = ""

    async def _list(self) -> AsyncGenerator[WatchEvent, None]:
        api = {"apiVersion": RESOURCES[self._kind].api_version, "kind": str(self._kind)}
        keys: list[tuple[str, str]] = []
        version = ""
        began = self._clock.monotonic()
        pages = self._reader.pages(self._kind, self._namespace)
        async for page in pages:
            version = page.resource_version
            for raw in page.items:
                value: JsonObject = {**decode_as(self._call, raw, dict[str, Any]), **api}
                head = value.get("metadata") or {}
                keys.append((str(head.get("namespace", "")), str(head.get("name", ""))))
                yield WatchEvent(WatchKind.ADDED, value)
        self._version = version
        self._listed_at = self._clock.monotonic()
        self._list_took = self._listed_at - began
        yield WatchEvent(WatchKind.SYNCED, {"keys": keys, "metadata": {"resourceVersion": version}})

    async def _follow(self) -> AsyncGenerator[WatchEvent, None]:
        seconds = self._silence * SERVED_SHARE * (1 + self._jitter() / 4)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        path = collection_path(self._kind, self._namespace)
        stream = self._connection.lines(
            path, self._call, query=query, silence_seconds=self._silence
        )
        async with stream as lines, aclosing(lines):
            async for line in lines:
                event = decode_as(self._call, line, _Line)
                if event.type == "ERROR":
                    code = int(event.object.get("code") or 500)
                    raise from_answer(self._call, code, {}, msgspec.json.encode(event.object))
                kind = _CHANGES.get(event.type)
                if kind is None:
                    raise Gone(f"{self._call}: an event of the unknown type {event.type[:40]!r}")
                head = event.object.get("metadata") or {}
                self._version = str(head.get("resourceVersion") or self._version)
                yield WatchEvent(kind, event.object)

    async def _pause(self, error: HealerError | None) -> None:
        # At least half of the wait, so that a failing server is never asked in a tight loop.
        wait = self._wait * (0.5 + self._jitter() / 2)
        told = getattr(error, "retry_after", None)
        self._wait = min(self._wait * 2, LAST_WAIT)
        if error is not None:
            _log.warning(
                "watch broke and is begun again",
                extra={"call": str(self._call), "error": str(error), "after_seconds": wait},
            )
        await self._clock.sleep(max(wait, min(told or 0.0, LAST_WAIT)))
