"""The round: what is served when all is well, in an incident, in a rollout, paused, and blind.

Prometheus is real, with a past of ten days in which the clock moves; the whole way through a real
API server is in `test_whole_way.py`.
"""

import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from healer.clients.prometheus_range import PrometheusRanges
from healer.testing.clock import FakeClock
from scalers.collector import Collector
from scalers.forecast.desk import ForecastDesk
from scalers.masking import Disturbance
from scalers.policy import Mode, ScalingPolicy, Workload
from scalers.ports import Reason, Refused, Scaler, SourceError, Standing
from scalers.service import POLICY_LABEL, Scaling
from tests.clients.past import midnight, past

DAY = 86400
#: Six in the morning of the last day: the load rises by a third within the hour.
END = midnight()
MORNING = END - DAY + 6 * 3600
WEB = Workload("shop", "Deployment", "web")


def demand(at: float) -> float:
    """Quiet nights, busy days."""
    return 60 - 40 * math.cos(2 * math.pi * at / DAY) + 2 * math.sin(at / 700)


def lines() -> Iterator[str]:
    """Ten days, each minute."""
    yield "# TYPE load gauge\n"
    for at in range(int(END - 10 * DAY), int(END), 60):
        yield f'load{{service="web"}} {demand(at):.4f} {at}\n'
    yield "# EOF\n"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The past, served."""
    with past(tmp_path_factory.mktemp("past"), lines()) as found:
        yield found


@dataclass
class Town:
    """Workloads as the test says."""

    standing: Standing = field(default_factory=lambda: Standing(5, 5))
    away: str = ""

    async def look(self, workloads: Sequence[Workload]) -> Mapping[Workload, Standing]:
        """What it says."""
        if self.away:
            raise SourceError(self.away)
        return dict.fromkeys(workloads, self.standing)


@dataclass
class Stand:
    """A round's surroundings."""

    clock: FakeClock
    town: Town
    desk: ForecastDesk
    scaling: Scaling
    source: PrometheusRanges
    incidents: dict[str, str]
    paused: dict[str, str]

    async def foresee(self, one: ScalingPolicy) -> None:
        """Follow it until there is a forecast, then look again."""
        self.scaling.follow([one])
        await self.scaling.round()
        await self.scaling.round()  # the past was read after the first
        await self.desk.run()
        await self.scaling.round()

    def value(self) -> float | Refused:
        """What the HPA is told."""
        (metric,) = self.scaling.external("shop", "web_demand")
        return metric.value


@pytest.fixture
async def stand(url: str, tmp_path: Path) -> AsyncIterator[Stand]:
    """All of it, in the morning."""
    clock = FakeClock(MORNING)
    source = PrometheusRanges(url, clock=clock)
    desk = ForecastDesk(tmp_path, clock)
    town = Town()
    incidents: dict[str, str] = {}
    paused: dict[str, str] = {}

    async def healing() -> Mapping[str, str]:
        return incidents

    async def switched() -> Mapping[str, str]:
        return paused

    scaling = Scaling(
        Collector(source, clock), town, desk, clock, incidents=healing, paused=switched
    )
    yield Stand(clock, town, desk, scaling, source, incidents, paused)
    await desk.stop()
    await source.close()


def policy(mode: Mode = Mode.ACTIVE) -> ScalingPolicy:
    """Ten a replica."""
    return ScalingPolicy(
        "web", WEB, 'load{service="web"}', 10.0, 1, 50, "web_demand", mode=mode,
    )  # fmt: skip


async def test_active_serves_the_morning_and_shadow_only_shows_it(stand: Stand) -> None:
    """In mode active more is served than there is, as foreseen; in shadow what there is, and what
    would be is told."""
    stand.town.standing = replace(stand.town.standing, became_ready=(("u1", MORNING, 1770.0),))
    await stand.foresee(policy())
    now = demand(MORNING)
    served = stand.value()
    assert isinstance(served, float)
    assert served == pytest.approx(demand(MORNING + 1800), rel=0.08)
    assert served > 1.03 * now
    stand.scaling.follow([policy(Mode.SHADOW)])
    await stand.scaling.round()
    assert stand.value() == pytest.approx(now, abs=0.01)
    told = stand.scaling.told["web"]
    assert told.decision.would == pytest.approx(served)
    assert told.lead_seconds == 1800.0


@pytest.mark.parametrize("way", ["incident", "rollout", "pause", "blind"])
async def test_trouble_rests_prediction(stand: Stand, way: str) -> None:
    """In an incident, in a rollout, paused, or with the API server away, nothing is foreseen; the
    reason is told; afterwards it goes on."""
    await stand.foresee(policy())
    before = stand.value()
    match way:
        case "incident":
            stand.incidents["shop"] = "incident Down: ep-1 is being healed"
        case "rollout":
            stand.town.standing = Standing(5, rollout="2 of 5 pods are of the new revision")
        case "pause":
            stand.paused[""] = "we look first (ada)"
        case _:
            stand.town.away = "no route to host"
    await stand.scaling.round()
    told = stand.scaling.told["web"]
    assert told.decision.would is None
    shrunk = stand.value()
    assert isinstance(before, float)
    if way == "pause":
        assert shrunk == pytest.approx(demand(MORNING), abs=0.01)
    else:
        assert shrunk == before  # nothing shrinks
    stand.incidents.clear()
    stand.paused.clear()
    stand.town.standing, stand.town.away = Standing(5, 5), ""
    await stand.scaling.round()
    assert stand.scaling.told["web"].decision.would is not None


async def test_two_scalers_and_a_missing_capacity_are_refused(stand: Stand) -> None:
    """The metric says why instead of a number, by name."""
    cpu = Scaler("HorizontalPodAutoscaler", "cpu")
    ours = Scaler("HorizontalPodAutoscaler", "web", ("web_demand",))
    stand.town.standing = Standing(5, 5, scalers=(cpu, ours))
    stand.scaling.follow([policy()])
    await stand.scaling.round()
    value = stand.value()
    assert isinstance(value, Refused)
    assert value.reason is Reason.RIVALS
    assert "cpu" in value.message
    stand.town.standing = Standing(5, 5, scalers=(cpu,))
    await stand.scaling.round()
    assert isinstance(stand.value(), Refused)
    stand.scaling.follow([policy(Mode.SHADOW)])
    await stand.scaling.round()
    assert stand.value() == pytest.approx(demand(MORNING), abs=0.01)
    stand.scaling.follow([replace(policy(Mode.SHADOW), capacity=None)])
    await stand.scaling.round()
    value = stand.value()
    assert isinstance(value, Refused)
    assert value.reason is Reason.NO_CAPACITY


async def test_the_last_good_value_stands_in_for_its_time_only(stand: Stand) -> None:
    """Past the end of the data: maxAge, then hold, then a refusal; never zero."""
    stand.clock.advance(END - 60 - MORNING)
    stand.scaling.follow([replace(policy(), prediction=None, hold_seconds=600.0)])
    await stand.scaling.round()
    last = stand.value()
    stand.clock.advance(500)
    await stand.scaling.round()
    assert stand.value() == last
    assert "stands in" in stand.scaling.told["web"].decision.why()
    stand.clock.advance(200)
    await stand.scaling.round()
    value = stand.value()
    assert isinstance(value, Refused)
    assert value.reason is Reason.EMPTY


async def test_what_is_followed_no_more_is_unknown_at_once(stand: Stand) -> None:
    """A policy that goes takes its metrics along; one that comes is known as not read yet."""
    stand.scaling.follow([policy()])
    value = stand.value()
    assert isinstance(value, Refused)
    assert value.reason is Reason.NOT_YET
    assert stand.scaling.custom_names() == [("apps", "deployments", True, "web_demand")]
    (metric,) = stand.scaling.custom("apps", "deployments", "shop", "web_demand")
    assert metric.labels == {POLICY_LABEL: "web"}
    stand.scaling.follow([])
    assert stand.scaling.external("shop", "web_demand") == ()
    assert stand.scaling.custom_names() == []
    await stand.scaling.round()
    assert stand.scaling.told == {}


async def test_incidents_of_before_teach_nothing(url: str, tmp_path: Path, stand: Stand) -> None:
    """What the journal knows of the past is masked in what forecasts learn from."""
    begin = MORNING - 2 * DAY
    before = {"shop": [Disturbance(begin, begin + 3600, "incident Down")]}
    offered: list[int] = []

    class Watching(ForecastDesk):
        def offer(self, key: str, identity: str, series: object, serving: float) -> None:
            taught = series.taught  # type: ignore[attr-defined]
            offered.append(int((~taught).sum()))

    scaling = Scaling(
        Collector(stand.source, stand.clock), stand.town, Watching(tmp_path, stand.clock),
        stand.clock, before=before,
    )  # fmt: skip
    scaling.follow([policy()])
    await scaling.round()
    await scaling.round()
    # An hour and five minutes before and after it, both ends included.
    assert offered == [(3600 + 2 * 300) // 300 + 1]
