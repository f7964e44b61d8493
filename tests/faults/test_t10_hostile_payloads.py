"""T10: hostile and broken payloads, sent to the whole daemon over a socket.

`corpus/` holds them: `keeps-*.json` have one valid alert beside the bad one, `*.http` are whole
requests, everything else is a body.
"""

import asyncio
import gc
import json
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from healer.domain.target import Kind
from healer.testing.cluster import FakeCluster
from healer.testing.objects import a_workload
from tests.faults.daemon import Daemon, daemon, playbook
from tests.faults.fast import REAL

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
BOOK = playbook(
    "restart", {"alert": '{alertname="Sick"}'},
    {"kind": "Deployment", "namespace": "shop", "name": "${labels.deployment}"},
)  # fmt: skip
#: How long an answer, or the end of the connection, may take on a busy machine. Seconds.
PATIENCE = 20.0


@asynccontextmanager
async def _house(folder: Path) -> AsyncIterator[tuple[Daemon, FakeCluster]]:
    cluster = FakeCluster(REAL)
    cluster.add(a_workload(Kind.DEPLOYMENT, "web"))
    quick = {"limits": {"read_seconds": 2.0}}
    async with daemon(folder, [BOOK], cluster=cluster, settings=quick) as house:
        yield house, cluster


async def _said(house: Daemon, request: bytes, patience: float = PATIENCE) -> int:
    """The status of the first answer to these bytes; 0 when none comes."""
    port = house.app.ports["webhook"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(patience):
            writer.write(request)
            await writer.drain()
            head = await reader.readline()
    except (ConnectionError, TimeoutError):
        return 0
    finally:
        writer.close()
    return int(head.split()[1]) if head.startswith(b"HTTP/") else 0


def _whole(body: bytes) -> bytes:
    head = f"POST /v1/alertmanager HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def test_t10_no_payload_of_the_corpus_is_answered_badly(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each is answered with 2xx, 4xx or 503, or cut off; none is acted on, and the daemon goes on;
    the second ten rounds need no more memory than the first."""
    answers: dict[str, int] = {}
    slowest, grown = 0.0, []
    async with _house(tmp_path) as (house, cluster):
        for round_ in range(20):
            for file in CORPUS:
                content = file.read_bytes()
                if file.suffix == ".http":
                    if round_ == 0:  # some are never whole, so nobody answers them
                        answers[file.name] = await _said(house, content, 3.0)
                    continue
                began = REAL.monotonic()
                answers[file.name] = await _said(house, _whole(content))
                slowest = max(slowest, REAL.monotonic() - began)
            if round_ in {9, 19}:
                gc.collect()
                grown.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        assert await house.deliver(house.alert({"alertname": "Good"})) == 200
    record_property("fault", f"T10 corpus of {len(CORPUS)}")
    record_property(
        "worst",
        f"slowest answer {slowest * 1000:.0f} ms, memory {grown[1] - grown[0]:+.0f} MiB in "
        f"{10 * len(CORPUS)} deliveries",
    )
    bad = {name: code for name, code in answers.items() if code >= 500 and code != 503}
    assert bad == {}
    assert [
        name for name in answers if name.startswith("keeps-") and answers[name] not in {200, 503}
    ] == []
    assert [w for w in cluster.writes if w.call != "create"] == []
    assert grown[1] - grown[0] < 16


@pytest.mark.parametrize("file", [f for f in CORPUS if f.name.startswith("keeps-")], ids=str)
async def test_t10_the_valid_alert_beside_a_bad_one_is_kept(file: Path, tmp_path: Path) -> None:
    """One bad alert costs only itself."""
    async with _house(tmp_path) as (house, _):
        while (status := await _said(house, _whole(file.read_bytes()))) == 503:
            await REAL.sleep(0.1)  # the disk is busy; Alertmanager comes again too
        assert status == 200
        await house.heard.until(lambda: house.heard.facts, "the episode")
        assert "Kept" in {episode.name for episode in await house.episodes()}


_TEXT = st.text(max_size=30)
_JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)
_ALERT = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.dictionaries(_TEXT, _TEXT | _JSON, max_size=5) | _JSON,
        "status": st.sampled_from(["firing", "resolved"]) | _JSON,
        "startsAt": st.datetimes().map(lambda at: at.isoformat() + "Z") | _JSON,
        "endsAt": _JSON, "annotations": _JSON, "fingerprint": _JSON, "generatorURL": _JSON,
    },
)  # fmt: skip
_BODY = st.binary(max_size=300) | st.lists(_ALERT | _JSON, max_size=5).map(
    lambda alerts: json.dumps({"alerts": alerts}).encode()
)


async def test_t10_nothing_generated_is_answered_badly(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Two hundred generated bodies: 200, 400, 413 or 503 each, and no action."""
    bodies: list[bytes] = []

    @given(_BODY)
    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    def gather(body: bytes) -> None:
        bodies.append(body)

    gather()
    async with _house(tmp_path) as (house, cluster):
        codes = [await house.post(body) for body in bodies]
        assert await house.deliver(house.alert({"alertname": "Good"})) == 200
        slowest = max(seconds for _, seconds in house.answers)
    record_property("fault", f"T10 {len(bodies)} generated bodies")
    record_property("worst", f"slowest answer {slowest * 1000:.0f} ms")
    assert set(codes) <= {200, 400, 413, 503}
    assert [w for w in cluster.writes if w.call != "create"] == []
