"""T15: the detector of a blocked event loop watches every test, and real processes tell of it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from tests import stall
from tests.faults.process import ROOT, Sender, Served, body, now

PLANTED = """
import asyncio, time
from tests import stall

stall._OURS = (__file__,)


async def blocks():
    time.sleep(0.4)


async def test_planted():
    await asyncio.create_task(blocks())
"""
#: Put into the process before it begins: one callback that blocks once its servers start.
CUSTOM = """
import asyncio, time

begin = asyncio.base_events.BaseEventLoop.create_server


def planted():
    time.sleep(0.3)


async def create_server(self, *args, **named):
    self.call_soon(planted)
    return await begin(self, *args, **named)


asyncio.base_events.BaseEventLoop.create_server = create_server
"""


def test_t15_a_planted_stall_fails_its_test(tmp_path: Path) -> None:
    """A test whose code blocks the loop fails and names the culprit."""
    (tmp_path / "test_planted.py").write_text(PLANTED)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.stall", "-p", "no:cacheprovider",
         "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "the event loop was blocked: blocks" in done.stdout


def test_t15_the_detector_is_on_in_every_test(request: pytest.FixtureRequest) -> None:
    """The plugin is loaded for the whole session and watches every callback of every loop."""
    assert request.config.pluginmanager.hasplugin("tests.stall")
    assert asyncio.Handle._run is stall._run
    assert stall.LIMIT_SECONDS == 0.05


async def test_t15_a_real_process_logs_callbacks_that_are_slow(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """With asyncio's debug mode on, `healer serve` says which callback took long, and how long."""
    record_property("fault", "T15")
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom" / "sitecustomize.py").write_text(CUSTOM)
    path = f"{tmp_path / 'custom'}:{os.environ.get('PYTHONPATH', '')}"
    debug = {"PYTHONASYNCIODEBUG": "1", "PYTHONPATH": path}
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        served = Served(tmp_path, {"path": str(tmp_path / "healer.db")}, debug)
        await stack.enter_async_context(served)
        sender = Sender(served, http)
        await sender.until_ready(200)
        for alert in [body() for _ in range(100)]:  # as Alertmanager does: until it is taken
            began = now()
            while (answer := await sender.post(alert)).status != 200:
                assert now() - began < 30, f"{answer}\n{_said(tmp_path)[-3000:]}"
        assert served.stop() == 0
    said = _said(tmp_path)
    slow = [line for line in said.splitlines() if "Executing" in line and " took " in line]
    assert any("planted" in line for line in slow), said[-2000:]
    ours = [float(line.split(" took ")[1].split()[0]) for line in slow if "planted" not in line]
    record_property(
        "worst",
        f"slowest callback of a real process, start included: {max(ours, default=0.1)} s; "
        f"{len(sender.refused)} of {len(sender.answers)} deliveries sent again",
    )


def _said(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("healer-*.log"))
