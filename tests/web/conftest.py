"""A real journal, a real webhook on a real socket."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from healer.kernel.clock import SystemClock
from healer.settings.listen import Limits, Source
from healer.settings.listen import Webhook as WebhookListener
from healer.store.sqlite import SqliteStore
from healer.web.conditions import Conditions
from healer.web.listeners import Server
from healer.web.metrics import Instruments
from healer.web.webhook import Webhook
from tests.web.door import Door


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "healer.db", clock=SystemClock(), accept_seconds=5.0)
    yield opened
    await opened.close()


@pytest.fixture
async def doors(store: SqliteStore) -> AsyncIterator[Callable[..., Any]]:
    """Opens webhooks; each on a port of its own, over the test's journal unless told otherwise."""
    async with AsyncExitStack() as stack:

        async def open_door(
            *,
            limits: Limits | None = None,
            sources: dict[str, Source] | None = None,
            over: Any = None,
            listener: WebhookListener | None = None,
        ) -> Door:
            clock = SystemClock()
            instruments, conditions = Instruments(), Conditions(clock)
            accepted: list[None] = []
            truncated: list[str] = []
            webhook = Webhook(
                over or store,
                clock,
                sources=sources or {},
                limits=limits or Limits(),
                instruments=instruments,
                conditions=conditions,
                on_accepted=lambda: accepted.append(None),
                on_truncated=truncated.append,
            )
            stack.callback(webhook.close)
            server = await Server.start(
                webhook.application(), listener or WebhookListener(port=0), clock, "webhook"
            )
            stack.push_async_callback(server.stop)
            http = await stack.enter_async_context(aiohttp.ClientSession())
            scheme = "https" if listener and listener.tls else "http"
            return Door(
                f"{scheme}://127.0.0.1:{server.port}", http, over or store, webhook, instruments,
                conditions, server.port, accepted, truncated,
            )  # fmt: skip

        yield open_door


@pytest.fixture
async def door(doors: Callable[..., Any]) -> Door:
    opened: Door = await doors()
    return opened
