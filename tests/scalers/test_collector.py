"""The collector on a real Prometheus: what is known, since when, and what is refused and why."""

from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from healer.clients.prometheus_range import PrometheusRanges
from healer.testing.clock import FakeClock
from scalers.collector import Collector
from scalers.ports import Followed, Measured, Reason, Refused
from tests.clients.past import midnight, past

#: Where the past ends, and how much of it there is. Seconds.
END, LENGTH = midnight(), 2 * 86400
FAULTS = {
    "absent": ("nosuch", Reason.EMPTY),
    "nan": ("vector(0) / 0", Reason.NOT_FINITE),
    "infinite": ("vector(1) / 0", Reason.NOT_FINITE),
    "negative": ("-vector(1)", Reason.NEGATIVE),
    "several": ("load", Reason.DUPLICATE),
    "malformed": ("sum(", Reason.SOURCE_DOWN),
    "a matrix": ("load[5m]", Reason.SOURCE_DOWN),
}


def demand(at: float) -> float:
    """What the past holds: a day's saw."""
    return 10 + (at % 86400) / 864


def lines() -> Iterator[str]:
    """Every 30 s; the service "stops" an hour before the end, and Prometheus at the end."""
    yield "# TYPE load gauge\n"
    for name, until in (("web", END), ("stops", END - 3600)):
        for at in range(int(END - LENGTH), int(until), 30):
            yield f'load{{service="{name}"}} {demand(at):.4f} {at}\n'
    yield "# TYPE up gauge\n"
    for at in range(int(END - LENGTH), int(END), 30):
        yield f"up 1 {at}\n"
    yield "# EOF\n"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The past, served."""
    with past(tmp_path_factory.mktemp("past"), lines()) as found:
        yield found


@pytest.fixture
async def source(url: str) -> AsyncIterator[PrometheusRanges]:
    """The client on it."""
    client = PrometheusRanges(url, clock=FakeClock(), timeout=10)
    yield client
    await client.close()


def following(source: PrometheusRanges, clock: FakeClock, **queries: str) -> Collector:
    """A collector that follows these."""
    made = Collector(source, clock)
    made.follow([Followed(key, query) for key, query in queries.items()])
    return made


def refused(found: Measured) -> Refused:
    """The refusal that must be there."""
    assert isinstance(found.value, Refused), found
    return found.value


async def test_the_newest_value_and_the_past_are_known_after_one_round(
    source: PrometheusRanges,
) -> None:
    """The value is the one at Prometheus, its time that of the sample; the past is on the grid."""
    clock = FakeClock(END - 7200 + 7)
    it = following(source, clock, web='load{service="web"}')
    assert refused(it.measured("web")).reason is Reason.NOT_YET
    await it.round()
    await it.past()
    found = it.measured("web")
    assert found.at == END - 7200
    assert found.value == pytest.approx(demand(found.at), abs=1e-3)
    history = it.history("web")
    assert history is not None
    assert (history.start, history.end) == (END - LENGTH, END - 7200)
    wanted = [demand(history.start + i * 300) for i in range(len(history))]
    np.testing.assert_allclose(history.values, wanted, atol=1e-3)
    assert it.recent_max("web", 7) == pytest.approx(max(wanted), abs=1e-3)


async def test_the_past_grows_and_is_what_a_restart_would_read(source: PrometheusRanges) -> None:
    """A collector that ran for an hour and one that begins now have the same grid."""
    clock = FakeClock(END - 7200)
    it = following(source, clock, web='load{service="web"}')
    for _ in range(60):
        await it.past()
        clock.advance(60)
    await it.past()
    fresh = following(source, clock, web='load{service="web"}')
    await fresh.past()
    ran, new = it.history("web"), fresh.history("web")
    assert ran is not None
    assert new is not None
    assert (ran.start, ran.end) == (new.start, new.end)
    np.testing.assert_array_equal(ran.values, new.values)


async def test_what_is_no_demand_is_refused_and_spoils_nothing_else(
    source: PrometheusRanges,
) -> None:
    """Every wrong answer has its reason, and the query beside it its value."""
    it = Collector(source, FakeClock(END - 7200))
    it.follow([Followed(key, query) for key, (query, _) in FAULTS.items()]
              + [Followed("web", 'load{service="web"}')])  # fmt: skip
    await it.round()
    await it.past()
    found = {key: refused(it.measured(key)).reason for key in FAULTS}
    assert found == {key: reason for key, (_, reason) in FAULTS.items()}
    assert it.measured("web").value == pytest.approx(demand(END - 7200), abs=1e-3)
    assert it.history("several") is None


async def test_a_hundred_queries_take_few_requests(source: PrometheusRanges) -> None:
    """A round of values asks at most one request for 20 queries, faulty ones among them or not."""
    it = Collector(source, FakeClock(END - 7200))
    it.follow([Followed(f"p{n}", f'load{{service="web"}} + {n}') for n in range(200)])
    await it.round()
    before = source.requests
    await it.round()
    assert source.requests - before <= 200 / 20
    assert it.measured("p199").value == pytest.approx(demand(END - 7200) + 199, abs=1e-3)


async def test_a_series_that_vanishes_stands_in_until_it_is_too_old(
    source: PrometheusRanges,
) -> None:
    """After the lookback of five minutes it is an empty result and never a zero."""
    clock = FakeClock(END - 3600)
    it = following(source, clock, stops='load{service="stops"}')
    await it.round()
    last = it.measured("stops").value
    clock.advance(420)
    await it.round()
    assert refused(it.measured("stops")).reason is Reason.EMPTY
    assert last == pytest.approx(demand(END - 3630), abs=1e-3)


async def test_a_prometheus_that_stopped_scraping_is_seen_before_its_lookback_ends(
    source: PrometheusRanges,
) -> None:
    """Three minutes after the last sample the selector still answers, and the value is refused."""
    clock = FakeClock(END - 30)
    it = following(source, clock, web='load{service="web"}')
    await it.round()
    clock.advance(90)
    await it.round()
    assert it.measured("web").at == END - 30
    clock.advance(120)
    await it.round()
    assert "last sample" in refused(it.measured("web")).message


async def test_a_prometheus_that_is_down_is_named_once_the_value_is_too_old(url: str) -> None:
    """The last good value holds for its max_age; then the reason is that nobody answers."""
    clock = FakeClock(END - 7200)
    good = PrometheusRanges(url, clock=clock)
    it = following(good, clock, web='load{service="web"}')
    await it.round()
    gone = PrometheusRanges("http://127.0.0.1:9", clock=clock, timeout=2)
    it._source = gone
    clock.advance(60)
    await it.round()
    await it.past()  # nothing of it is missing yet, so nobody is asked
    assert it.problem
    assert it.measured("web").value == pytest.approx(demand(END - 7200), abs=1e-3)
    clock.advance(61)
    await it.round()
    assert refused(it.measured("web")).reason is Reason.SOURCE_DOWN
    it._source = good
    await it.round()
    assert it.measured("web").value == pytest.approx(demand(END - 7200 + 120), abs=1e-3)
    await good.close()
    await gone.close()
