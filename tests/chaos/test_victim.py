"""The shipped victim: the routes that faults use, as a real process."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.site import HealerAccess, Site, VictimImage
from chaos.victim import SCRIPT, TOLERATION_SECONDS, deployment
from tests.bed.ports import free_port
from tests.bed.waiting import until

Start = Callable[..., tuple[subprocess.Popen[bytes], int]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a victim and wait until it answers."""
    running = []

    def it(*, answers: bool = True, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            env={**os.environ, "PORT": str(port), "SCRATCH": str(tmp_path), **environment},
        )
        running.append(process)
        if answers:
            until(lambda: ask(port, "/metrics")[0] == 200, "the victim to answer")
        return process, port

    yield it
    for process in running:
        process.kill()
        process.wait()


def ask(port: int, path: str, timeout: float = 5.0) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_poison_outlives_the_process(start: Start) -> None:
    """A poisoned victim dies, and so does the next one on the same scratch state."""
    process, port = start()
    assert ask(port, "/ready")[0] == 200
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(port, "/poison")
    assert process.wait(10) == 3
    again, _ = start(answers=False)
    assert again.wait(10) == 3


def test_a_hung_one_answers_nobody(start: Start) -> None:
    """After /hang the process lives, and neither readiness nor metrics are answered."""
    process, port = start()
    assert ask(port, "/hang")[0] == 200
    with pytest.raises(TimeoutError):
        ask(port, "/ready", timeout=0.5)
    assert process.poll() is None


def test_a_leak_is_in_its_metrics(start: Start) -> None:
    """What /leak keeps is told in bytes."""
    _, port = start()
    assert "app_leaked_bytes 0" in ask(port, "/metrics")[1]
    ask(port, "/leak?mb=2")
    assert f"app_leaked_bytes {2 << 20}" in ask(port, "/metrics")[1]


def test_a_bad_release_is_never_ready(start: Start) -> None:
    """With BAD=unready it answers, and says that it is not ready."""
    _, port = start(BAD="unready")
    assert ask(port, "/ready")[0] == 503


def test_the_deployment_leaves_healing_to_healer() -> None:
    """No liveness probe, the usual patience with nodes, and scratch state that only a pod loses."""
    access = HealerAccess(url="http://h")
    site = Site(namespace="chaos", prometheus="http://p", healer=access)
    pod = deployment("x", site, 6)["spec"]["template"]["spec"]
    assert "livenessProbe" not in pod["containers"][0]
    assert {one["tolerationSeconds"] for one in pod["tolerations"]} == {TOLERATION_SECONDS}
    assert {"name": "scratch", "emptyDir": {}} in pod["volumes"]
    assert any("configMap" in volume for volume in pod["volumes"])
    own = site.model_copy(update={"victim": VictimImage(image="me:1", shipped=False)})
    pod = deployment("x", own, 6, "zone-a")["spec"]["template"]["spec"]
    assert not any("configMap" in volume for volume in pod["volumes"])
    assert pod["nodeSelector"] == {"topology.kubernetes.io/zone": "zone-a"}
