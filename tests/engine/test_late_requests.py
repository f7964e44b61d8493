"""Requests whose answer was lost, and which arrive when nobody expects them any more."""

from pathlib import Path

import pytest

from healer.domain.episode import EpisodeState
from healer.domain.outcome import Outcome, Result
from healer.domain.playbook import ProbeRule, StepRule, TargetRule, VerifyRule
from healer.domain.target import Kind
from healer.errors import Conflict, Throttled, Unreachable
from healer.ports import PatchType
from healer.testing.builders import a_playbook
from tests.engine.stage import Stage, a_stage

READY = VerifyRule((ProbeRule("workload_ready", {}),), 60.0, 5.0, 10.0)
RESTART = a_playbook(
    steps=(StepRule("restart", "restart_rollout", {}, READY),),
    target=TargetRule(Kind.POD, "${labels.pod}", "${labels.namespace}", owner=True),
)


async def _sick(stage: Stage) -> str:
    stage.clock.advance(600)
    pod = stage.pod()
    stage.break_pod(pod)
    return await stage.fire(pod)


async def test_what_arrives_after_it_was_repeated_changes_nothing(tmp_path: Path) -> None:
    """A patch that lay in a frozen server is the same as its repetition: there is one restart."""
    async with a_stage(tmp_path, RESTART) as stage:
        stage.cluster.fail_next("patch", Unreachable("cut"))
        episode_id = await _sick(stage)
        await stage.pass_time(40, step=1)
        lost, repeated = (w for w in stage.cluster.writes if w.call == "patch" and not w.dry_run)
        assert isinstance(lost.body, dict)
        assert lost.body == repeated.body
        before = stage.cluster.object(stage.web)["metadata"]["generation"]
        await stage.cluster.patch(lost.ref, lost.body, PatchType.MERGE)
        assert stage.cluster.object(stage.web)["metadata"]["generation"] == before
        assert (await stage.episode(episode_id)).result is Result.HEALED


async def test_a_repetition_that_meets_a_conflict_is_begun_anew(tmp_path: Path) -> None:
    """A conflict says that the lost request cannot arrive either; the next attempt is a new one."""
    async with a_stage(tmp_path, RESTART) as stage:
        stage.cluster.fail_next("patch", Unreachable("cut"))
        stage.cluster.fail_next("patch", Conflict("the object was changed"))
        episode_id = await _sick(stage)
        await stage.pass_time(40, step=1)
        run = (await stage.store.runs(episode_id))[0]
        assert [r.outcome for r in run.steps] == [Outcome.FAILED, Outcome.APPLIED]


async def test_repetitions_become_rarer_and_end(tmp_path: Path) -> None:
    """A lost request that can never be repeated is tried ever more rarely, and a person is told."""
    async with a_stage(tmp_path, RESTART) as stage:
        for _ in range(200):
            stage.cluster.fail_next("patch", Unreachable("cut"))
        episode_id = await _sick(stage)
        await stage.pass_time(1200, step=2)
        assert (await stage.episode(episode_id)).state is EpisodeState.ESCALATED
        patches = [w for w in stage.cluster.writes if w.call == "patch"]
        assert 4 <= len(patches) <= 40


@pytest.mark.parametrize(("told", "within"), [(20.0, 30.0), (86400.0, 400.0)])
async def test_a_told_wait_is_kept_within_reason(
    tmp_path: Path, told: float, within: float
) -> None:
    """Retry-After is waited for, and one that names a day does not cost a day."""
    async with a_stage(tmp_path, RESTART) as stage:
        stage.cluster.fail_next("patch", Throttled("slow down", retry_after=told))
        await _sick(stage)
        await stage.pass_time(min(told, 200.0) - 2, step=2)
        assert len([w for w in stage.cluster.writes if w.call == "patch"]) == 1
        await stage.pass_time(within, step=2)
        assert len([w for w in stage.cluster.writes if w.call == "patch"]) == 2
