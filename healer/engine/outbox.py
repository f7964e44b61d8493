"""Delivers messages from the journal's outbox, each until it arrived or everybody was tried."""

import asyncio
import logging
from collections.abc import Mapping

from healer.engine.world import World
from healer.errors import HealerError, TemporaryError
from healer.ports import Message, Notifier

_log = logging.getLogger(__name__)

#: A message is tried for this many attempts (about nine hours), then dropped loudly.
MAX_ATTEMPTS = 60
SEND_SECONDS = 15.0
#: How long a replica has a message to itself; longer than a delivery may take.
HOLD_SECONDS = 2 * SEND_SECONDS
IDLE_SECONDS = 1.0
BATCH = 20


class Outbox:
    """Delivers what the journal says must be told."""

    def __init__(self, world: World, notifiers: Mapping[str, Notifier]) -> None:
        self._world = world
        self._notifiers = notifiers
        self.undelivered = 0  #: messages dropped since start

    async def round(self) -> None:
        """Deliver what is due, then wait a moment."""
        world = self._world
        due = await world.store.messages_due(world.clock.now(), BATCH)
        await asyncio.gather(*(self._deliver(message) for message in due))
        if len(due) < BATCH:
            await world.clock.sleep(IDLE_SECONDS)

    async def _deliver(self, message: Message) -> None:
        world = self._world
        if not await world.store.take_message(message.id, world.clock.now(), HOLD_SECONDS):
            return  # another replica has it
        notifier = self._notifiers.get(message.channel)
        if notifier is None:
            _log.error("no such notifier", extra={"channel": message.channel, "id": message.id})
            self.undelivered += 1
            await world.store.message_done(message.id, True, 0.0)
            return
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await notifier.send(message)
        except (HealerError, TimeoutError) as error:
            await self._again(message, error)
            return
        except Exception as error:  # noqa: BLE001 - one message's trouble must not stop the others
            _log.exception("a notifier failed", extra={"channel": message.channel})
            await self._again(message, error)
            return
        await world.store.message_done(message.id, True, 0.0)

    async def _again(self, message: Message, error: BaseException) -> None:
        """A refusal is tried again too, slowly: a person may mend the credential meanwhile."""
        world = self._world
        if message.attempts + 1 >= MAX_ATTEMPTS:
            self.undelivered += 1
            _log.error(
                "message dropped after all attempts",
                extra={"channel": message.channel, "id": message.id, "error": str(error)},
            )
            await world.store.message_done(message.id, True, 0.0)
            return
        told = error.retry_after if isinstance(error, TemporaryError) else None
        wait = told or min(2.0 * 2**message.attempts, 600.0)
        _log.warning(
            "message not delivered",
            extra={"channel": message.channel, "id": message.id, "error": str(error)},
        )
        await world.store.message_done(message.id, False, world.clock.now() + wait)
