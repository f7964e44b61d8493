"""Our own alert: posted, kept, ended; and the documented routing checked by Alertmanager's tool."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from healer.clients.notify.alertmanager import ALERT_NAME, AlertmanagerNotifier, failure_labels
from healer.domain.alert import AlertStatus
from healer.domain.message import Notice, NoticeEvent, Severity
from healer.errors import Refused, Unreachable
from healer.kernel.ids import label_fingerprint
from healer.ports import Message
from healer.testing.alerts import FakeAlerts
from healer.testing.clock import START, FakeClock
from tests.bed.builds import binary

DOCS = Path(__file__).parents[2] / "docs" / "escalation.md"
LABELS = {"alertname": "Down", "namespace": "shop", "severity": "page", "remediation": "healer"}
NOTICE = Notice(
    NoticeEvent.TRIGGER, Severity.CRITICAL, "payments is down", "Restarted twice.", START, "ep-1",
    "restart", "Deployment/shop/payments", "not_recovered", LABELS,
    {"runbook": "https://example.com/r"}, {"last log": "panic"},
)  # fmt: skip
RESOLVE = replace(
    NOTICE, event=NoticeEvent.RESOLVE, severity=Severity.INFO, reason="recovered", playbook=""
)


def message(notice: Notice) -> Message:
    return Message("m", "am", notice.to_mapping())


async def test_a_failure_is_an_alert_with_the_originals_labels() -> None:
    """The alert carries every label of the original, its name moved aside, and pages as ours."""
    clock = FakeClock()
    alerts = FakeAlerts(clock)
    await AlertmanagerNotifier("am", alerts, clock=clock).send(message(NOTICE))
    (alert,) = await alerts.firing()
    assert alert.labels == {**LABELS, "alertname": ALERT_NAME, "original_alertname": "Down"}
    posted = alerts.posted[0]
    assert posted.annotations["summary"] == "payments is down"
    assert posted.annotations["runbook_url"] == "https://example.com/r"
    assert posted.annotations["evidence_last_log"] == "panic"


async def test_the_end_is_the_end_of_the_same_alert() -> None:
    """A resolve whose reason, playbook and severity differ still ends the alert it began."""
    clock = FakeClock()
    alerts = FakeAlerts(clock)
    notifier = AlertmanagerNotifier("am", alerts, clock=clock)
    await notifier.send(message(NOTICE))
    clock.advance(60)
    await notifier.send(message(RESOLVE))
    assert await alerts.firing() == []
    first, last = alerts.posted
    assert first.fingerprint == last.fingerprint == label_fingerprint(failure_labels(NOTICE))
    assert (last.status, last.ends_at) == (AlertStatus.RESOLVED, START + 60)


async def test_what_is_open_is_posted_again() -> None:
    """An Alertmanager that forgot the alert gets it again from what the journal says is open."""
    clock = FakeClock()
    alerts = FakeAlerts(clock)
    journal = [NOTICE, replace(RESOLVE, labels={"alertname": "Other"})]

    async def open_notices() -> list[Notice]:
        return journal

    notifier = AlertmanagerNotifier("am", alerts, clock=clock, open_notices=open_notices)
    assert await notifier.repeat() == 1
    assert [a.labels["original_alertname"] for a in await alerts.firing()] == ["Down"]
    journal.clear()
    assert await notifier.repeat() == 0
    assert len(alerts.posted) == 1


async def test_an_open_alert_outlives_a_restart_and_ends_by_itself() -> None:
    """Without being posted again the alert stays for four hours, and not for ever."""
    clock = FakeClock()
    alerts = FakeAlerts(clock)
    await AlertmanagerNotifier("am", alerts, clock=clock).send(message(NOTICE))
    clock.advance(4 * 3600 - 1)
    assert len(await alerts.firing()) == 1
    clock.advance(2)
    assert await alerts.firing() == []


async def test_an_outage_is_passed_on() -> None:
    """When no Alertmanager takes the alert, the outbox learns it and tries again."""
    clock = FakeClock()
    alerts = FakeAlerts(clock)
    alerts.down = Unreachable("alertmanager: no connection", sent=False)
    notifier = AlertmanagerNotifier("am", alerts, clock=clock)
    with pytest.raises(Unreachable):
        await notifier.send(message(NOTICE))
    with pytest.raises(Refused, match="m-1"):
        await notifier.send(Message("m-1", "am", {}))


def test_a_notice_without_labels_has_an_alert_of_its_own() -> None:
    """Two episodes without labels are two alerts."""
    bare = replace(NOTICE, labels={})
    assert failure_labels(bare) != failure_labels(replace(bare, episode_id="ep-2"))


def documented(kind: str) -> str:
    """The YAML block of the documentation that holds `kind`."""
    found: list[str] = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return next(block for block in found if block.startswith(f"{kind}:"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "alertmanager.yml"
    file.write_text(documented("route"))
    return file


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)


def test_the_documented_configuration_is_one(config: Path) -> None:
    """Alertmanager's own tool accepts the documented configuration, inhibit rules included."""
    checked = run(binary("amtool"), "check-config", config)
    assert checked.returncode == 0, checked.stderr
    assert "2 inhibit rules" in checked.stdout


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (LABELS, "healer"),
        (failure_labels(NOTICE), "people"),
        ({"alertname": "Down"}, "people"),
        ({"alertname": "HealerDown", "severity": "critical"}, "people"),
    ],
    ids=["original", "failed", "unlabelled", "healer down"],
)
def test_the_documented_routes_page_only_for_failures(
    config: Path, labels: dict[str, str], receiver: str
) -> None:
    """The original reaches healer alone, and what healer posts when it failed reaches people."""
    pairs = [f"{name}={value}" for name, value in labels.items()]
    routed = run(binary("amtool"), "config", "routes", "test", f"--config.file={config}", *pairs)
    assert (routed.returncode, routed.stdout.split()) == (0, [receiver])


def test_the_documented_rule_is_one(tmp_path: Path) -> None:
    """Prometheus' own tool accepts the documented rule that pages for healer itself."""
    (tmp_path / "rules.yml").write_text(documented("groups"))
    checked = run(binary("promtool"), "check", "rules", tmp_path / "rules.yml")
    assert checked.returncode == 0, checked.stderr
