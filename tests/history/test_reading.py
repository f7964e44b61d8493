"""The witnesses are read as they write."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from healer.domain.alert import AlertStatus
from healer.domain.journal import FactKind
from healer.domain.run import Phase
from healer.testing.builders import a_playbook
from healer.testing.history import History, Sent, check
from healer.testing.history.reading import audit_effects, read_store, sent_lines
from tests.engine.stage import a_stage

LINE: dict[str, Any] = {
    "kind": "Event",
    "apiVersion": "audit.k8s.io/v1",
    "level": "Metadata",
    "stage": "ResponseComplete",
    "requestURI": "/api/v1/namespaces/shop/pods/web-0",
    "verb": "delete",
    "userAgent": "healer/1.0.0 run/ep-0123456789abcdef-1",
    "objectRef": {"resource": "pods", "namespace": "shop", "name": "web-0", "apiVersion": "v1"},
    "responseStatus": {"code": 200},
    "requestReceivedTimestamp": "2026-01-05T10:48:17.123456Z",
}


def effects(**changes: Any) -> list[str]:
    return [f"{one} {one.run_id}" for one in audit_effects([json.dumps({**LINE, **changes})])]


def test_a_write_in_the_audit_log() -> None:
    """A finished write of healer's is an effect, with its time and its run."""
    [effect] = audit_effects([json.dumps(LINE)])
    assert str(effect) == "delete pods shop/web-0 (200)"
    assert (effect.run_id, effect.happened) == ("ep-0123456789abcdef-1", True)
    assert effect.at == 1767610097.123456


def test_what_is_no_effect() -> None:
    """Dry runs, reads, other callers, what is written beside steps, and cut lines are none."""
    assert effects(requestURI="/api/v1/namespaces/shop/pods/web-0?dryRun=All") == []
    assert effects(verb="get") == []
    assert effects(userAgent="kubectl/1.34") == []
    assert effects(stage="ResponseStarted") == []
    assert effects(objectRef={"resource": "events", "namespace": "shop"}) == []
    assert list(audit_effects([json.dumps(LINE)[:-20]])) == []


def test_a_write_of_no_run_is_one() -> None:
    """A write of healer's that names no run is an effect of nobody."""
    assert effects(userAgent="healer/1.0.0") == ["delete pods shop/web-0 (200) "]


def test_the_log_of_a_sender() -> None:
    """What was written down comes back as it was."""
    sent = Sent(1.5, "alertmanager", "f" * 16, 1.25, AlertStatus.FIRING, True)
    assert list(sent_lines([json.dumps(asdict(sent))])) == [sent]


async def test_a_journal_of_the_engine_is_a_good_history(tmp_path: Path) -> None:
    """What the engine itself wrote while it healed has no fault, until a run of it is changed."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        stage.clock.advance(600)
        pod = stage.pod()
        stage.break_pod(pod)
        episode_id = await stage.fire(pod)
        await stage.settle()
        await stage.pass_time(20)
        await stage.resolve(episode_id)
        await stage.settle()
        facts, runs, episodes = await read_store(stage.store)
        history = History(stage.clock.now(), facts, runs, episodes, calm=True)
    epochs = [one.fact.data["epoch"] for one in facts if one.fact.kind is FactKind.INTENT]
    assert (len(runs), len(epochs)) == (1, 1)
    assert check(history).violations == ()
    open_again = replace(runs[0], phase=Phase.VERIFYING, finished_at=None)
    assert len(check(replace(history, runs=(open_again,))).violations) == 1
