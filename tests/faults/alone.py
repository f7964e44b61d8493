"""`python -m tests.faults.alone FOLDER DEPLOYMENTS`: a daemon over a fake cluster, alone in a
process, so that its memory and files are its own. Prints its ports; ends at SIGTERM."""

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from healer.domain.target import Kind
from healer.kernel.clock import SystemClock
from healer.testing.cluster import FakeCluster
from healer.testing.objects import a_node, a_workload
from tests.faults.daemon import daemon, playbook

BOOK = playbook(
    "restart", {"alert": '{alertname="Sick"}'},
    {"kind": "Deployment", "namespace": "shop", "name": "${labels.deployment}"},
    guards={"cooldown": "1s"},
)  # fmt: skip


async def serve(folder: Path, deployments: int) -> None:
    """Until SIGTERM."""
    clock = SystemClock()
    cluster = FakeCluster(clock)
    for zone in ("a", "b", "c"):
        cluster.add(a_node(f"node-{zone}", zone))
    for number in range(deployments):
        cluster.add(a_workload(Kind.DEPLOYMENT, f"web-{number}", replicas=5))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(
            daemon(folder, [BOOK], cluster=cluster, clock=clock)
        )
        house.app.world.listeners.remove(
            house.heard
        )  # it keeps every fact: not the daemon's memory
        print(json.dumps(house.app.ports), flush=True)
        while not stop.is_set():
            cluster.writes.clear()  # so does the fake cluster
            try:
                async with asyncio.timeout(5.0):
                    await stop.wait()
            except TimeoutError:
                continue


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
