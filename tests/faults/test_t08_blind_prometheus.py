"""T8: Prometheus is away, slow, wrong, empty, huge, or says what is no number: nothing is done.

The daemon has one playbook whose trigger is a query, and one whose guard is; while Prometheus
fails both are still, and when it answers again each acts once.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from healer.domain.journal import FactKind
from healer.domain.target import Kind
from healer.testing.cluster import FakeCluster
from healer.testing.objects import a_node, a_workload
from tests.faults.daemon import daemon, playbook
from tests.faults.fast import REAL, FastClock
from tests.faults.prometheus_api import PrometheusApi

FACTOR = 20.0
SICK, HOLD = "sick == 1", "hold == 1"
TARGET = {"kind": "Deployment", "namespace": "shop", "name": "${labels.deployment}"}
BY_QUERY = playbook("by-query", {"query": {"expr": SICK, "every": "5s"}}, TARGET)
GUARDED = playbook(
    "guarded", {"alert": '{alertname="Sick"}'}, TARGET,
    guards={"unless": [{"promql": HOLD, "because": "somebody says so"}]},
)  # fmt: skip
CASES = (
    "down", "slow", "400", "404", "422", "429", "500", "503", "page", "empty", "NaN", "+Inf",
    "-Inf", "garbage", "stale", "future", "twice", "partial", "huge",
)  # fmt: skip
#: An empty answer to a guard's query means that the guard holds nothing back.
EMPTY_ANSWERS = "empty"


def _cluster(clock: FastClock, count: int) -> FakeCluster:
    cluster = FakeCluster(clock)
    for zone in ("a", "b", "c"):
        cluster.add(a_node(f"node-{zone}", zone))
    for number in range(count):
        cluster.add(a_workload(Kind.DEPLOYMENT, f"web-{number}"))
    return cluster


def _restarts(cluster: FakeCluster) -> list[str]:
    return sorted(w.ref.name for w in cluster.writes if w.call != "create" and not w.dry_run)


@pytest.mark.parametrize("case", CASES)
async def test_t8_nothing_is_done_on_what_prometheus_does_not_say(
    case: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """While Prometheus fails nothing is restarted, and afterwards each is restarted once."""
    clock = FastClock(FACTOR)
    cluster = _cluster(clock, 2)
    alert = {"alertname": "Sick", "deployment": "web-1", "namespace": "shop"}
    async with PrometheusApi(clock).serving() as prometheus:
        # What is asked twice or with a sign of its own must be about something.
        prometheus.series = {
            SICK: [{"deployment": "web-0", "namespace": "shop"}],
            HOLD: [{"a": "b"}],
        }
        prometheus.alerts = [] if case == EMPTY_ANSWERS else [alert]
        prometheus.fault = case
        settings = {
            "prometheus": {"url": prometheus.url, "timeout_seconds": 0.5 if case == "slow" else 10},
            "alertmanager": {"poll_seconds": 5},
        }
        async with daemon(
            tmp_path, [BY_QUERY, GUARDED], cluster=cluster, clock=clock, settings=settings
        ) as house:
            if case != EMPTY_ANSWERS:
                assert await house.deliver(house.alert(alert)) == 200
            await house.heard.until(lambda: prometheus.struck >= 3, "three questions")
            blind = _restarts(cluster)
            lag, opened = await _lag(), len(await house.episodes())
            record_property("fault", f"T8 Prometheus: {case}")
            record_property(
                "worst",
                f"{len(blind)} actions in {prometheus.struck} bad answers; "
                f"timers {lag * 1000:.0f} ms late",
            )
            assert blind == []
            assert opened <= 1, "a query was taken for an alert"
            prometheus.series[HOLD] = []
            prometheus.fault = ""
            expected = ["web-0"] if case == EMPTY_ANSWERS else ["web-0", "web-1"]
            await house.heard.until(
                lambda: len(house.heard.of(FactKind.OUTCOME)) >= len(expected), "sight returns"
            )
    assert _restarts(cluster) == expected


async def _lag() -> float:
    """How late the loop wakes a timer now; the worst of ten."""
    late = 0.0
    for _ in range(10):
        began = REAL.monotonic()
        await REAL.sleep(0.01)
        late = max(late, REAL.monotonic() - began - 0.01)
    return late


async def test_r5_sight_returns_without_a_burst(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Twenty that waited while Prometheus was blind are not all acted on when it sees again."""
    clock = FastClock(FACTOR)
    cluster = _cluster(clock, 20)
    book = playbook(
        "paced", {"query": {"expr": SICK, "every": "5s"}}, TARGET,
        guards={"budgets": {"playbook": "4/1h"}},
    )  # fmt: skip
    async with PrometheusApi(clock).serving() as prometheus:
        prometheus.series = {
            SICK: [{"deployment": f"web-{n}", "namespace": "shop"} for n in range(20)]
        }
        prometheus.fault = "503"
        settings = {"prometheus": {"url": prometheus.url}}
        async with daemon(
            tmp_path, [book], cluster=cluster, clock=clock, settings=settings
        ) as house:
            await house.heard.until(lambda: prometheus.struck >= 3, "three questions")
            assert _restarts(cluster) == []
            prometheus.fault = ""

            def judged() -> bool:
                held = house.heard.of(FactKind.VERDICT)
                return len({f.episode_id for f in held}) >= 16

            await house.heard.until(judged, "sixteen that wait")
            since = clock.monotonic()
            await house.heard.until(lambda: clock.monotonic() - since > 60.0, "another minute")
            record_property("fault", "R5 Prometheus blind, 20 waiting")
            record_property("worst", f"0 while blind, {len(_restarts(cluster))} after (budget 4)")
    assert len(_restarts(cluster)) == 4
