"""R3 with the real Alertmanager: healer refuses for a while, goes away, and comes back."""

import asyncio
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from healer.testing.cluster import FakeCluster
from tests.bed.alertmanager import Alertmanager, webhook_config
from tests.bed.ports import free_port
from tests.bed.simulated import SimulatedCluster
from tests.faults.daemon import Daemon, daemon, playbook
from tests.faults.fast import REAL

pytestmark = pytest.mark.cluster

BOOK = playbook(
    "restart", {"alert": '{alertname="Sick"}'},
    {"kind": "Deployment", "namespace": "shop", "name": "${labels.deployment}"},
)  # fmt: skip


def _fire(alertmanager: Alertmanager, numbers: range) -> None:
    alerts = [{"labels": {"alertname": f"Storm{n % 5}", "number": str(n)}} for n in numbers]
    request = urllib.request.Request(
        f"{alertmanager.url}/api/v2/alerts", method="POST", data=json.dumps(alerts).encode(),
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    urllib.request.urlopen(request, timeout=10).close()


async def _known(house: Daemon, count: int) -> float:
    began = REAL.monotonic()
    while len(await house.episodes()) < count:
        assert REAL.monotonic() - began < 60.0, f"{len(await house.episodes())} of {count}"
        await REAL.sleep(0.1)  # what is folded is not told to listeners
    return REAL.monotonic() - began


@pytest.mark.timeout(240)
async def test_r3_the_real_alertmanager_loses_nothing_to_refusals_and_restarts(
    plane: SimulatedCluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """What fires while healer answers 503, and while it is gone, arrives when it is back."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/alertmanager"
    alertmanager = Alertmanager(plane, tmp_path / "am", webhook_config(url), "alertmanager-r3")
    settings: dict[str, Any] = {
        "listen": {"webhook": {"port": port}, "api": {"port": 0}, "health": {"port": 0}}
    }
    await asyncio.to_thread(alertmanager.start)
    try:
        async with daemon(
            tmp_path / "healer", [BOOK], cluster=FakeCluster(REAL), settings=settings
        ) as house:
            await asyncio.to_thread(_fire, alertmanager, range(50))
            await _known(house, 50)
            house.app.webhook.drain()  # from now on every answer is 503
            await asyncio.to_thread(_fire, alertmanager, range(50, 150))
            refused = house.app.webhook._is.requests.labels("503")
            began = REAL.monotonic()
            while refused._value.get() < 3:
                assert REAL.monotonic() - began < 60.0, "nothing was refused"
                await REAL.sleep(0.1)
            answers = int(refused._value.get())
            before = len(await house.episodes())
        await asyncio.to_thread(_fire, alertmanager, range(150, 200))  # nobody is there
        async with daemon(
            tmp_path / "healer", [BOOK], cluster=FakeCluster(REAL), settings=settings
        ) as house:
            took = await _known(house, 200)
            labels = {episode.labels.get("number") for episode in await house.episodes()}
    finally:
        await asyncio.to_thread(alertmanager.stop)
    record_property("fault", "R3 real Alertmanager, 503 and a restart")
    record_property("worst", f"{answers} refusals, 200 of 200 known {took:.1f} s after the restart")
    assert before == 50
    assert labels == {str(number) for number in range(200)}
