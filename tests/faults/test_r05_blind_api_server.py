"""R5: while the API server fails for everything nothing is done; afterwards no more than paced."""

from collections.abc import Callable
from pathlib import Path

import pytest

from healer.domain.journal import FactKind
from tests.bed.simulated import SimulatedCluster
from tests.faults.daemon import daemon, playbook
from tests.faults.fast import REAL, FastClock
from tests.faults.proxy import FaultProxy
from tests.faults.senders import Alertmanager
from tests.faults.workloads import deploy, effects, reached

pytestmark = pytest.mark.cluster

BUDGET = 2
BOOK = playbook(
    "restart", {"alert": '{alertname="Sick", deployment!=""}'},
    {"kind": "Deployment", "namespace": "default", "name": "${labels.deployment}"},
    guards={"budgets": {"playbook": f"{BUDGET}/1h"}},
)  # fmt: skip


@pytest.mark.parametrize("how", [{"status": 503}, {"status": 429}, {"cut": True}], ids=str)
async def test_r5_a_blind_cluster_is_left_alone_and_then_paced(
    how: dict[str, object],
    plane: SimulatedCluster,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """No write is even tried while nothing can be read, and what waited is paced when it can be."""
    names = deploy(plane, *(f"blind-{number}" for number in range(6)))
    clock = FastClock(20.0)
    sender = Alertmanager("", clock=clock)
    async with (
        sender.running(),
        FaultProxy(plane).serving() as proxy,
        reached(proxy, tmp_path, clock) as cluster,
        daemon(
            tmp_path, [BOOK], cluster=cluster, clock=clock,
            settings={"alertmanager": {"urls": [sender.api], "poll_seconds": 5}},
        ) as house,
    ):  # fmt: skip
        sender.url = house.url
        fault = proxy.fault(**how)
        for name in names:
            sender.fire({"alertname": "Sick", "deployment": name})
        await house.heard.until(lambda: len(fault.hits) >= 12, "a dozen failed calls")
        tried = [p for p in proxy.passed if p.method in {"PATCH", "DELETE"}]
        blind = effects(plane, names)
        proxy.mend()
        mended = REAL.monotonic()

        def decided() -> bool:
            acted = {f.episode_id for f in house.heard.of(FactKind.INTENT)}
            short = {
                f.episode_id
                for f in house.heard.of(FactKind.VERDICT)
                if str(f.reason) == "budget_exhausted"
            }
            return len(acted) == BUDGET and len(acted | short) == len(names)

        await house.heard.until(decided, "two that act and four that wait")
        took = REAL.monotonic() - mended
    after = effects(plane, names)
    record_property("fault", f"R5 API server blind: {how}")
    record_property(
        "worst",
        f"{sum(blind.values())} writes while blind, {sum(after.values())} after "
        f"(budget {BUDGET}), within {took:.1f} s",
    )
    assert tried == []
    assert sum(blind.values()) == 0
    assert sum(after.values()) == BUDGET
    assert max(after.values()) == 1
