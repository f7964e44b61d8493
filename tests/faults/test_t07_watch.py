"""T7: watches are cut, forgotten, stall, say only bookmarks, tell the past, and cannot be listed.

Each fault has a daemon, a proxy and a namespace of its own; all live at once over one real API
server. A pod comes to a bad state, which a playbook watches for, and which Prometheus never tells.
"""

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from healer.domain.journal import FactKind
from healer.testing.objects import crashing_status
from tests.bed.api import Api
from tests.bed.simulated import SimulatedCluster
from tests.faults.daemon import daemon, playbook
from tests.faults.fast import REAL, FastClock
from tests.faults.proxy import Cut, FaultProxy, Lines
from tests.faults.workloads import begin, reached, written

pytestmark = pytest.mark.cluster

FACTOR = 4.0
#: No stream is followed for longer; 55 s in production. Real seconds.
SILENCE = 2.0
#: What a relist may take beyond that on a busy machine: calls, back-off, jitter. Real seconds.
SLACK = 12.0


async def _cut(lines: Lines) -> Lines:
    """Each connection breaks when there is something to say."""
    async for _ in lines:
        raise Cut
        yield b""


async def _gone(lines: Lines) -> Lines:
    """The server has forgotten, as soon as something happens."""
    async for _ in lines:
        status = {"kind": "Status", "code": 410, "message": "too old resource version"}
        yield json.dumps({"type": "ERROR", "object": status}).encode()
        return


async def _stall(lines: Lines) -> Lines:
    """Open, and silent for ever."""
    await asyncio.Event().wait()
    async for line in lines:
        yield line


async def _bookmarks(lines: Lines) -> Lines:
    """Every event is swallowed, and a bookmark says that nothing was missed."""
    async for line in lines:
        event = json.loads(line)
        meta = {"resourceVersion": event["object"]["metadata"]["resourceVersion"]}
        bookmark = {"kind": "Pod", "apiVersion": "v1", "metadata": meta}
        yield json.dumps({"type": "BOOKMARK", "object": bookmark}).encode()


async def _reorder(lines: Lines) -> Lines:
    """After each event comes the one before it, of the same object."""
    last: dict[str, bytes] = {}
    async for line in lines:
        event = json.loads(line)
        uid = str(event["object"]["metadata"].get("uid"))
        yield line
        if uid in last and event["type"] == "MODIFIED":
            yield last[uid]
        last[uid] = line


async def _twice(lines: Lines) -> Lines:
    """Every event comes three times."""
    async for line in lines:
        for _ in range(3):
            yield line


WATCH = {"method": "GET", "path": r"/api/v1/pods\?.*watch=true"}
CASES: dict[str, list[dict[str, Any]]] = {
    "disconnect": [{**WATCH, "lines": _cut, "times": 3}],
    "disconnect-for-ever": [{**WATCH, "lines": _cut}],
    "410-event": [{**WATCH, "lines": _gone, "times": 2}],
    "410-status": [{**WATCH, "status": 410, "times": 3}],
    "stall-once": [{**WATCH, "lines": _stall, "times": 1}],
    "stall-for-ever": [{**WATCH, "lines": _stall}],
    "bookmarks-only": [{**WATCH, "lines": _bookmarks}],
    "reorder": [{**WATCH, "lines": _reorder}],
    "twice": [{**WATCH, "lines": _twice}],
    "503": [{**WATCH, "status": 503, "times": 4}],
    "list-fails-too": [
        {**WATCH, "lines": _stall, "times": 1},
        {"method": "GET", "path": r"/api/v1/pods\?limit=500$", "status": 500, "times": 2},
    ],
    "list-hangs-too": [
        {**WATCH, "lines": _cut, "times": 2},
        {"method": "GET", "path": r"/api/v1/pods\?limit=500$", "hang": True, "times": 1},
    ],
}


@dataclass
class Seen:
    """What one daemon did under one fault."""

    struck: int
    found_after: float  #: from the bad state to the effect; real seconds
    longest: float  #: between two lists
    deletes: set[str]
    intents: int
    pod: str
    episodes: int


async def _live(plane: SimulatedCluster, folder: Path, case: str, web: str) -> Seen:
    clock = FastClock(FACTOR)
    namespace = f"t7-{case}"
    pod_playbook = playbook(
        "replace", {"condition": {
            "kind": "Pod", "reason": "CrashLoopBackOff", "namespaces": [namespace]}},
        {"kind": "Pod", "namespace": "${labels.namespace}", "name": "${labels.pod}"},
        # A dozen cases break a pod each, and that is no storm.
        guards={"storm": {"ratio": "90%", "minimum": 1000, "maxInFlight": 100}},
    )  # fmt: skip
    pod_playbook["spec"]["steps"][0]["action"] = "delete_pod"
    api = Api(plane.kubeconfig)
    async with (
        FaultProxy(plane).serving() as proxy,
        reached(proxy, folder, clock, silence_seconds=SILENCE) as cluster,
        daemon(folder, [pod_playbook], cluster=cluster, clock=clock) as house,
    ):
        await house.heard.until(lambda: proxy.asked("GET", r"/pods\?limit=500$"), "the first list")
        faults = [proxy.fault(**how) for how in CASES[case]]
        # The first watch is older than the fault: only those that begin now are under it.
        await house.heard.until(lambda: all(f.hits for f in faults[:1]), "the first strike")
        pods = f"/api/v1/namespaces/{namespace}/pods"
        found = await asyncio.to_thread(api.get, f"{pods}?labelSelector=app={web}")
        name = found["items"][0]["metadata"]["name"]
        broken = REAL.monotonic()
        await asyncio.to_thread(api.merge, f"{pods}/{name}/status", {"status": crashing_status()})
        await house.heard.until(lambda: house.heard.of(FactKind.OUTCOME), "the replacement")
        found_after = REAL.monotonic() - broken
        since = REAL.monotonic()
        await house.heard.until(lambda: REAL.monotonic() - since > 2 * SILENCE, "two more lists")
        lists = [p.at for p in proxy.asked("GET", r"/api/v1/pods\?limit=500$")]
        lists.append(REAL.monotonic())
        longest = max(b - a for a, b in itertools.pairwise(lists))
        struck = sum(len(fault.hits) for fault in faults)
        episodes = len(await house.episodes())
        intents = len(house.heard.of(FactKind.INTENT))
    deletes = {
        what
        for _, what, code in written(plane, f"{web}-[^-]+-[^-]+$")
        if "delete" in what and code < 300
    }
    return Seen(struck, found_after, longest, deletes, intents, name, episodes)


@pytest.fixture(scope="module")
def seen(plane: SimulatedCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """All cases at once."""
    names = [{"metadata": {"name": f"t7-{case}"}, "kind": "Namespace"} for case in CASES]
    items = [{"apiVersion": "v1", **one} for one in names]
    content = {"apiVersion": "v1", "kind": "List", "items": items}
    plane.kubectl("create", "-f", "-", stdin=json.dumps(content))
    webs = {case: f"watch-{case}" for case in CASES}
    begin(plane, {web: f"t7-{case}" for case, web in webs.items()})

    async def live() -> dict[str, Seen]:
        lives = [
            _live(plane, tmp_path_factory.mktemp(f"t07-{case}"), case, webs[case]) for case in CASES
        ]
        return dict(zip(CASES, await asyncio.gather(*lives), strict=True))

    return asyncio.run(live())


@pytest.mark.parametrize("case", CASES)
def test_t7_no_state_is_missed_and_none_acted_on_twice(
    seen: dict[str, Seen], case: str, record_property: Callable[[str, object], None]
) -> None:
    """Whatever happens to the watch, the bad pod is found by the next list and replaced once."""
    one = seen[case]
    record_property("fault", f"T7 watch: {case}")
    record_property(
        "worst",
        f"found and replaced once after {one.found_after:.1f} s, "
        f"lists {one.longest:.1f} s apart (limit here {SILENCE:g} s, 55 s by default)",
    )
    assert one.struck, "the fault never struck"
    assert one.deletes == {f"delete {one.pod}"}
    assert one.intents == 1
    assert one.episodes == 1
    assert one.longest < SILENCE + SLACK
