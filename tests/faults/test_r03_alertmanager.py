"""R3: an Alertmanager that keeps its real rules of retrying, giving up and staying silent."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from healer.domain.journal import FactKind
from healer.domain.target import Kind
from healer.testing.cluster import FakeCluster
from healer.testing.objects import a_node, a_workload
from tests.bed.ports import free_port
from tests.faults.daemon import Daemon, daemon, playbook
from tests.faults.fast import FastClock
from tests.faults.senders import Alertmanager, Log, settled

FACTOR = 10.0
POLL = 10.0
BOOK = playbook(
    "restart", {"alert": '{alertname="Sick"}'},
    {"kind": "Deployment", "namespace": "shop", "name": "${labels.deployment}"},
)  # fmt: skip
LABELS = {"alertname": "Sick", "namespace": "shop", "deployment": "web-0"}


@asynccontextmanager
async def _house(
    folder: Path, *, url: str = "", **settings: object
) -> AsyncIterator[tuple[Daemon, Alertmanager, FakeCluster]]:
    """A daemon that polls an Alertmanager of ours every `POLL` seconds of its own."""
    clock = FastClock(FACTOR)
    cluster = FakeCluster(clock)
    for zone in ("a", "b", "c"):
        cluster.add(a_node(f"node-{zone}", zone))
    for number in range(3):
        cluster.add(a_workload(Kind.DEPLOYMENT, f"web-{number}"))
    sender = Alertmanager(url, clock=clock, interval=0.2, deadline=1.0, pace=FACTOR)
    alertmanager = {"urls": ["placeholder"], "poll_seconds": POLL}
    async with sender.running():
        alertmanager["urls"] = [sender.api]
        async with daemon(
            folder, [BOOK], cluster=cluster, clock=clock,
            settings={"alertmanager": alertmanager, **settings},
        ) as house:  # fmt: skip
            sender.url = url or house.url
            yield house, sender, cluster


def _restarts(cluster: FakeCluster) -> list[str]:
    return [w.ref.name for w in cluster.writes if w.call == "patch" and not w.dry_run]


async def test_r3_what_is_never_delivered_is_seen_by_the_next_poll(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """When no delivery ever arrives, an alert is known within the poll interval, and acted on."""
    dead = f"http://127.0.0.1:{free_port()}/v1/alertmanager"
    async with _house(tmp_path, url=dead) as (house, sender, cluster):
        known = sender.fire(LABELS)
        await house.heard.until(lambda: house.heard.of(FactKind.OUTCOME), "the restart")
        (episode,) = await house.episodes()
        late = episode.opened_at - known.starts_at
        assert sender.log.attempts, "nothing was ever sent"
        assert set(sender.log.statuses()) == {0}
    record_property("fault", "R3 deliveries never arrive")
    record_property("worst", f"seen after {late:.1f} s of a poll interval of {POLL:g} s")
    assert _restarts(cluster) == ["web-0"]
    assert late <= POLL * 1.5  # the poll itself takes its time on a busy machine


async def test_r3_a_delivery_that_comes_after_its_alert_cleared_does_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A firing that was under way when its alert ended, first heard of afterwards, is not acted
    on: Alertmanager itself is asked before anything is done."""
    async with _house(tmp_path) as (house, _, cluster):
        since = house.clock.now() - 60.0
        assert await house.deliver(house.alert(LABELS, since=since)) == 200
        await house.heard.until(lambda: house.heard.facts, "a look at it")
        began = house.clock.monotonic()
        await house.heard.until(lambda: house.clock.monotonic() - began > 3 * POLL, "three polls")
    record_property("fault", "R3 firing delivered after it cleared")
    record_property("worst", f"{len(_restarts(cluster))} actions")
    assert _restarts(cluster) == []


async def test_r3_refused_deliveries_come_again_and_nothing_is_missing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Under overload each refusal is a 503 in time, the sender comes again, and all is taken."""
    source = {"token_files": [str(tmp_path / "token")], "requests_per_second": 20, "burst": 2}
    (tmp_path / "token").write_text("x" * 32)
    log = Log()
    async with _house(tmp_path, sources={"alertmanager": source}) as (house, _, _cluster):
        sender = Alertmanager(
            house.url, clock=house.clock, group_by=("deployment",), interval=0.2, deadline=20.0,
            pace=FACTOR, log=log, token="x" * 32,
        )  # fmt: skip
        async with sender.running():
            for number in range(60):
                sender.fire({**LABELS, "alertname": "Other", "deployment": f"d-{number}"})
            await settled([sender], log.statuses)
        await house.heard.until(lambda: len(house.heard.of(FactKind.DECIDED)) >= 60, "all")
        kept = {episode.fingerprint for episode in await house.episodes()}
    slowest = log.slowest(503)
    record_property("fault", "R3 T9 overload")
    record_property("worst", f"{log.statuses()}, slowest 503 {slowest * 1000:.0f} ms, 0 missing")
    assert set(log.statuses()) == {200, 503}
    assert {fingerprint for fingerprint, _ in log.acknowledged} <= kept
    assert len(kept) == 60
    refusals = sorted(a.seconds for a in log.attempts if a.status == 503)
    assert refusals[len(refusals) // 2] < 0.5  # its sender shares the daemon's loop here


async def test_r3_what_resolves_while_refused_is_not_acted_on(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Alerts that end while every delivery is refused leave no action behind."""
    async with _house(tmp_path) as (house, sender, cluster):
        house.app.webhook.drain()  # from now on every answer is 503
        sender.fire({**LABELS, "alertname": "Sick"})
        sender.refuse = 503  # and nobody can be asked
        await house.heard.until(lambda: len(sender.log.attempts) >= 3, "three refusals")
        sender.resolve(LABELS)
        sender.refuse = 0
        began = house.clock.monotonic()
        await house.heard.until(lambda: house.clock.monotonic() - began > 3 * POLL, "three polls")
        assert set(sender.log.statuses()) == {503}
    record_property("fault", "R3 resolved before delivery")
    record_property("worst", f"{len(_restarts(cluster))} actions, {sender.log.statuses()}")
    assert _restarts(cluster) == []


@pytest.mark.parametrize("peers", [3])
async def test_r3_peers_that_all_deliver_cause_one_action(
    peers: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Three peers tell the same alert, seconds apart; it is restarted once."""
    async with _house(tmp_path) as (house, sender, cluster):
        sender.fire(LABELS)
        since = sender.alerts[next(iter(sender.alerts))].starts_at
        for _ in range(peers):
            assert await house.deliver(house.alert(LABELS, since=since)) == 200
        await house.heard.until(lambda: house.heard.of(FactKind.VERIFIED), "the restart")
    record_property("fault", "R3 duplicates from peers")
    record_property("worst", f"{peers + 1} deliveries, {len(_restarts(cluster))} action")
    assert _restarts(cluster) == ["web-0"]
