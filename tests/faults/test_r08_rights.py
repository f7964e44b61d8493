"""R8: the generated role against the calls of whole runs: all of what is used, and no more."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from healer.actions.registry import ACTIONS
from healer.cli.rights import ALWAYS, needed, rules
from healer.clients.kube.observing import RIGHTS
from healer.domain.playbook import Playbook, ProbeRule, StepRule, TargetRule, UndoRule, VerifyRule
from healer.domain.target import Kind
from healer.engine.announcer import Announcer
from healer.playbook_yaml import Registry
from healer.ports import Permission
from healer.probes.registry import PROBES
from healer.testing.builders import a_playbook
from tests.engine.stage import Stage, a_stage
from tests.faults.recorded import Recorded

READY = VerifyRule((ProbeRule("workload_ready", {}),), 60.0, 5.0, 10.0)
OWNER = TargetRule(
    Kind.POD, "${labels.pod}", "${labels.namespace}", owner=True, owner_kinds=(Kind.DEPLOYMENT,)
)
BOOKS: dict[str, Playbook] = {
    "delete": a_playbook(),
    "evict": a_playbook(steps=(StepRule("evict", "evict_pod", {}, READY),)),
    "ladder": a_playbook(
        target=OWNER,
        steps=(
            StepRule("more", "scale", {"by": 2, "max": 9}, READY, undo=UndoRule.IF_NOT_RECOVERED),
            StepRule("restart", "restart_rollout", {}, READY),
        ),
    ),
    "only tells": a_playbook(steps=(StepRule("say", "notify", {"message": "Look!"}),)),
}
READING = {"get", "list", "watch"}


def _granted(book: Playbook) -> set[Permission]:
    """What the role written for this playbook allows, read from its rules as RBAC reads them."""
    found = set()
    for rule in rules(needed([book], Registry(ACTIONS, PROBES))):
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                name, _, subresource = resource.partition("/")
                assert "*" not in {group, name, subresource, *rule["verbs"]}
                found |= {Permission(verb, name, group, subresource) for verb in rule["verbs"]}
    return found


async def _used(folder: Path, book: Playbook) -> set[Permission]:
    """What a whole run used, from the alert to its end, Events on the target included."""
    async with a_stage(folder, book) as stage:
        recorded = Recorded(stage.cluster)
        stage.world.cluster = recorded  # type: ignore[assignment]
        announcer = Announcer(recorded, "healer")  # type: ignore[arg-type]
        stage.world.listeners.append(announcer)
        stage.clock.advance(600)
        pod = stage.pod()
        stage.break_pod(pod)
        await _live(stage, await stage.fire(pod))
        await announcer.round()
        return recorded.used


async def _live(stage: Stage, episode_id: str) -> None:
    await stage.work()
    await stage.pass_time(300)
    assert (await stage.store.runs(episode_id))[0].phase == "done"


@pytest.mark.parametrize("name", BOOKS)
async def test_r8_the_role_grants_what_a_run_uses_and_no_write_beyond(
    tmp_path: Path, name: str, record_property: Callable[[str, Any], None]
) -> None:
    """Every call is granted; every granted write is one that the playbook's run makes."""
    record_property("fault", "R8")
    granted, used = _granted(BOOKS[name]), await _used(tmp_path, BOOKS[name])
    assert used - granted == set()
    writes = {right for right in granted if right.verb not in READING}
    assert writes - used == set()
    reads = granted - writes
    assert reads - used <= set(RIGHTS), "a read that neither looking nor the run needs"
    assert set(ALWAYS) <= granted
    record_property("worst", f"{name}: {len(used)} rights used, {len(writes)} writes, 0 beyond")


@pytest.mark.parametrize("name", BOOKS)
def test_r8_a_role_denies_what_other_playbooks_need(name: str) -> None:
    """A write that only another playbook needs is not in this one's role."""
    own = _granted(BOOKS[name])
    for other, book in BOOKS.items():
        theirs = {right for right in _granted(book) if right.verb not in READING} - set(ALWAYS)
        if other != name:
            assert not theirs & own or theirs & own <= {r for r in own if r.verb == "patch"}
    assert {"delete": 1, "evict": 1, "ladder": 2, "only tells": 0}[name] == len(
        {right for right in own if right.verb not in READING} - set(ALWAYS)
    )
