"""The load test's sender against a server that holds its answers back."""

import asyncio
import time

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.loadtest.send import Ingress, play


async def test_requests_leave_while_none_is_answered() -> None:
    """No answer comes until the last request is there, so a loop that waits for one never ends."""
    came, everyone = 0, asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        nonlocal came
        came += 1
        if came == 20:
            everyone.set()
        await everyone.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        way = Ingress(session)
        way.ready = [f"{server.host}:{server.port}"]
        start = time.time()  # noqa: TID251
        await play([start + n / 100 for n in range(20)], [way])
    assert [one.served for one in way.sent] == [True] * 20
    first = min(way.sent, key=lambda one: one.due)
    assert first.seconds >= 0.19  # it counts from when it was due until the last one was there


async def test_nobody_ready_is_demand_that_was_not_served() -> None:
    """Without a ready pod a request counts as arrived, and as unserved."""
    async with aiohttp.ClientSession() as session:
        way = Ingress(session)
        await play([time.time()], [way])  # noqa: TID251
    assert way.arrived == 1
    assert [one.served for one in way.sent] == [False]
