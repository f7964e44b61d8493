"""One suite for what is promised of `healer.ports.Alerts`: the fake and a real Alertmanager."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from healer.clients.alertmanager import Alertmanager
from healer.domain.alert import Alert, AlertStatus
from healer.errors import Refused, Unreachable
from healer.kernel.clock import SystemClock
from healer.kernel.ids import label_fingerprint, random_id
from healer.ports import Alerts
from healer.testing.alerts import FakeAlerts
from tests.bed.builds import binary
from tests.bed.ports import free_port
from tests.bed.processes import launch
from tests.bed.waiting import until

CLOCK = SystemClock()
ODD = "team.a+b (1)"
CONFIG = {
    "route": {
        "receiver": "default",
        "routes": [
            {"matchers": ['team="a"'], "receiver": ODD},
            {"matchers": ['team="b"'], "receiver": "team.a+b 1"},
        ],
    },
    "receivers": [{"name": "default"}, {"name": ODD}, {"name": "team.a+b 1"}],
}


def route(labels: Any) -> str:
    return {"a": ODD, "b": "team.a+b 1"}.get(labels.get("team", ""), "default")


@pytest.fixture(scope="module")
def alertmanager_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Alertmanager with three receivers."""
    folder: Path = tmp_path_factory.mktemp("alertmanager")
    (folder / "alertmanager.yml").write_text(json.dumps(CONFIG))
    url = f"http://127.0.0.1:{free_port()}"
    process = launch(
        "alertmanager",
        [
            str(binary("alertmanager")),
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
            "--cluster.listen-address=",
        ],
        log=folder / "log",
    )

    def ready() -> bool:
        assert process.alive(), process.tail()
        try:
            urllib.request.urlopen(f"{url}/-/ready", timeout=2).close()
        except urllib.error.URLError:
            return False
        return True

    try:
        until(ready, "Alertmanager to be ready", timeout=30)
        yield url
    finally:
        process.stop()


@pytest.fixture(params=["fake", "real"])
async def alerts(request: pytest.FixtureRequest) -> Any:
    """The fake, routing as the real one is configured to, and the real one."""
    if request.param == "fake":
        yield FakeAlerts(CLOCK, route=route)
        return
    client = Alertmanager([request.getfixturevalue("alertmanager_url")], clock=CLOCK)
    yield client
    await client.close()


def own(
    status: AlertStatus = AlertStatus.FIRING, ends_at: float | None = None, **labels: str
) -> Alert:
    at = CLOCK.now() - 60
    return Alert("healer", "", status, labels, at, ends_at, {"summary": "ünï"}, "http://x/y")


async def mine(alerts: Alerts, run: str, receiver: str = "") -> list[Alert]:
    return [a for a in await alerts.firing(receiver) if a.labels.get("run") == run]


async def test_a_posted_alert_fires_until_it_is_resolved(alerts: Alerts) -> None:
    """A posted alert is read back with its fingerprint, and is gone once posted as resolved."""
    run = random_id("r")
    labels = {"alertname": "A", "run": run, "text": 'quote " ünï'}
    fired = own(**labels)
    await alerts.post([fired])
    (seen,) = await mine(alerts, run)
    assert seen.labels == labels
    assert seen.fingerprint == label_fingerprint(labels)
    assert seen.status is AlertStatus.FIRING
    assert seen.annotations == {"summary": "ünï"}
    assert abs(seen.starts_at - fired.starts_at) < 0.002
    assert seen.polled_at is not None
    await alerts.post([own(AlertStatus.RESOLVED, CLOCK.now() - 1, **labels)])
    assert await mine(alerts, run) == []


async def test_a_resolved_alert_may_end_in_the_future_and_ends_now(alerts: Alerts) -> None:
    """A wrong clock of whoever resolves does not keep an alert firing."""
    run = random_id("r")
    await alerts.post([own(alertname="A", run=run)])
    await alerts.post([own(AlertStatus.RESOLVED, CLOCK.now() + 600, alertname="A", run=run)])
    assert await mine(alerts, run) == []


async def test_only_the_named_receivers_alerts_are_read(alerts: Alerts) -> None:
    """A receiver's name is taken literally, whatever a regular expression would make of it."""
    run = random_id("r")
    await alerts.post([own(alertname="A", run=run, team=team) for team in "abc"])
    assert [a.labels["team"] for a in await mine(alerts, run, ODD)] == ["a"]
    assert [a.labels["team"] for a in await mine(alerts, run, "default")] == ["c"]
    assert await mine(alerts, run, "team.*") == []
    assert len(await mine(alerts, run)) == 3


async def test_a_silenced_alert_is_still_firing(alerts: Alerts) -> None:
    """A silence hides an alert from people and not from us."""
    run = random_id("r")
    await alerts.post([own(alertname="A", run=run)])
    await alerts.silence({"run": run}, 60, f"c {run}", CLOCK.now())
    assert len(await mine(alerts, run)) == 1


async def test_a_silence_is_made_once_per_comment(alerts: Alerts) -> None:
    """The same comment gives the same silence while it is in force, and a new one afterwards."""
    run = random_id("r")
    first = await alerts.silence({"run": run}, 60, f"c {run}", CLOCK.now())
    assert await alerts.silence({"run": run}, 60, f"c {run}", CLOCK.now()) == first
    other = await alerts.silence({"run": run}, 60, f"d {run}", CLOCK.now())
    assert other != first
    await alerts.expire(first)
    again = await alerts.silence({"run": run}, 60, f"c {run}", CLOCK.now())
    assert again not in {first, other}


async def test_expiring_twice_or_what_never_was_is_fine(alerts: Alerts) -> None:
    """A silence that is gone is what expiring wants."""
    run = random_id("r")
    silence = await alerts.silence({"run": run}, 60, f"c {run}", CLOCK.now())
    for _ in range(2):
        await alerts.expire(silence)
    await alerts.expire("00000000-0000-4000-8000-000000000000")


@pytest.mark.parametrize(
    ("matchers", "seconds", "comment"),
    [({}, 60, "c"), ({"a": ""}, 60, "c"), ({"a": "b"}, 0, "c"), ({"a": "b"}, 60, "")],
)
async def test_a_silence_of_everything_is_refused(
    alerts: Alerts, matchers: dict[str, str], seconds: float, comment: str
) -> None:
    """A silence without a matching label, a duration or a comment is never made."""
    with pytest.raises(ValueError, match="silence"):
        await alerts.silence(matchers, seconds, comment, CLOCK.now())


async def test_it_is_ready(alerts: Alerts) -> None:
    """Ready returns when it answers."""
    await alerts.ready()


async def test_a_member_that_is_down_is_passed_over(alertmanager_url: str) -> None:
    """Of several members, one that answers is enough for reads and for posts."""
    client = Alertmanager([f"http://127.0.0.1:{free_port()}", alertmanager_url], clock=CLOCK)
    run = random_id("r")
    await client.ready()
    await client.post([own(alertname="A", run=run)])
    assert len(await mine(client, run)) == 1
    await client.close()


async def test_nobody_there_is_unreachable() -> None:
    """Without anybody listening, every method raises Unreachable and none answers empty."""
    real = Alertmanager([f"http://127.0.0.1:{free_port()}"], clock=CLOCK)
    fake = FakeAlerts(CLOCK)
    fake.down = Unreachable("alertmanager: no connection", sent=False)
    subjects: list[Alerts] = [real, fake]
    for subject in subjects:
        for call in (
            subject.firing(), subject.ready(), subject.expire("0-0"), subject.post([own(a="b")]),
            subject.silence({"a": "b"}, 1, "c", CLOCK.now()),
        ):  # fmt: skip
            with pytest.raises(Unreachable):
                await call
    await real.close()


async def test_what_alertmanager_refuses_is_refused(alertmanager_url: str) -> None:
    """An alert without labels is refused in Alertmanager's own words."""
    client = Alertmanager([alertmanager_url], clock=CLOCK)
    with pytest.raises(Refused, match="label"):
        await client.post([own()])
    await client.close()
