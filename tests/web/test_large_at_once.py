"""Large deliveries are taken two at a time, and what is refused is refused before it is read."""

import asyncio

from healer.kernel.clock import SystemClock
from tests.web.door import Door
from tests.web.payloads import alert, group

CLOCK = SystemClock()
HEAD = b"POST /v1/alertmanager HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"


async def test_a_third_large_delivery_is_sent_back_unread(door: Door) -> None:
    """While two are being taken a third gets 503 on its head alone, small ones pass, and when one
    of the two has gone there is room again."""
    held = []
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(HEAD + b" " * 1000)
        held.append(writer)
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(HEAD)
        try:
            async with asyncio.timeout(0.5):
                line = await reader.readline()
        except TimeoutError:  # it came before one of the two: it is one of them now
            held.append(writer)
            continue
        writer.close()
        break
    assert line.startswith(b"HTTP/1.1 503")
    assert "webhook_overloaded" in door.condition()
    assert (await door.post(group(alert()))).status == 200
    for writer in held:
        writer.close()
    large = group(*(alert(number) for number in range(3000)))
    while (answer := await door.post(large)).status == 503:
        await CLOCK.sleep(0.05)
    assert answer.status == 200
