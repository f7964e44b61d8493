"""R6: a slow alert after a true fix, no samples, and a healthy pod under a real alert."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from healer.domain.outcome import Outcome, Result
from healer.domain.playbook import (
    Guards,
    Playbook,
    ProbeRule,
    StepRule,
    TargetRule,
    UndoRule,
    VerifyRule,
)
from healer.domain.target import Kind
from healer.domain.verdict import Reason
from healer.engine.sources.level import AlertLevel
from healer.ports import AlertingRule
from healer.testing.builders import a_playbook
from healer.testing.metrics import FakeMetrics
from tests.engine.stage import Stage, a_stage

Record = Callable[[str, object], None]
RESOLVED = VerifyRule((ProbeRule("alert_resolved", {}),), None, 15.0, 30.0)
RULE = AlertingRule(
    "KubePodCrashLooping", "increase(kube_pod_container_status_restarts_total[10m]) > 2",
    0.0, 0.0, {}, 30.0,
)  # fmt: skip


def _book(verify: VerifyRule, *more: StepRule, **changes: Any) -> Playbook:
    target = TargetRule(Kind.POD, "${labels.pod}", "${labels.namespace}", owner=True)
    steps = (StepRule("restart", "restart_rollout", {}, verify), *more)
    return a_playbook(steps=steps, target=target, **changes)


async def _fired(stage: Stage) -> tuple[str, FakeMetrics]:
    """The alert of a broken pod, in Alertmanager and in Prometheus."""
    metrics = FakeMetrics(stage.clock)
    metrics.alerting_rules = [RULE]
    stage.world.metrics = metrics
    stage.world.levels["alertmanager"] = AlertLevel(stage.clock, metrics, stage.alerts)
    stage.clock.advance(600)
    pod = stage.pod()
    stage.break_pod(pod)
    episode_id = await stage.fire(pod)
    metrics.fire((await stage.episode(episode_id)).labels)
    return episode_id, metrics


async def test_r6_an_alert_that_decays_ten_minutes_after_the_fix_is_a_recovery(
    tmp_path: Path, record_property: Record
) -> None:
    """The deadline knows the rule's own window: one action, healed, nothing done again."""
    record_property("fault", "R6")
    async with a_stage(tmp_path, _book(RESOLVED, guards=Guards(cooldown_seconds=60.0))) as stage:
        episode_id, metrics = await _fired(stage)
        await stage.pass_time(600, step=15)
        assert (await stage.store.runs(episode_id))[0].phase == "verifying"
        labels = (await stage.episode(episode_id)).labels
        metrics.end(labels)
        await stage.resolve(episode_id)
        await stage.pass_time(3600, step=30)
        episode = await stage.episode(episode_id)
        runs = await stage.store.runs(episode_id)
        assert (episode.result, episode.reason) == (Result.HEALED, Reason.RECOVERED)
        assert [record.outcome for run in runs for record in run.steps] == [Outcome.APPLIED]
        assert len(stage.cluster.writes) == 1
        record_property("worst", "alert gone 10 min after the fix: recovered, 0 actions twice")


async def test_r6_no_samples_are_unknown_and_never_success(tmp_path: Path) -> None:
    """A query without an answer ends as unknown with a person, not as healed nor as failed."""
    probe = ProbeRule("promql", {"expr": "shop_errors", "is": {"below": 1}})
    async with a_stage(tmp_path, _book(VerifyRule((probe,), 120.0, 15.0, 30.0))) as stage:
        episode_id, _ = await _fired(stage)
        await stage.pass_time(240, step=15)
        run = (await stage.store.runs(episode_id))[0]
        assert (run.result, run.reason) == (Result.ESCALATED, Reason.VERIFY_UNKNOWN)
        assert len(stage.cluster.writes) == 1


async def test_r6_a_healthy_pod_under_a_real_alert_is_not_recovered(tmp_path: Path) -> None:
    """The pods are ready and the alert still fires: the ladder goes on, to its end and no more."""
    both = replace(
        RESOLVED, probes=(ProbeRule("workload_ready", {}), *RESOLVED.probes), within_seconds=120.0
    )
    second = StepRule("more", "scale", {"by": 1, "max": 9}, both, undo=UndoRule.NEVER)
    async with a_stage(tmp_path, _book(both, second)) as stage:
        episode_id, _ = await _fired(stage)
        await stage.pass_time(6 * 3600, step=60)
        runs = await stage.store.runs(episode_id)
        assert [run.result for run in runs] == [Result.ESCALATED]
        assert [record.outcome for record in runs[0].steps] == [Outcome.APPLIED] * 2
        assert len(stage.cluster.writes) == 2
        assert sum(title.startswith("Not healed") for title in await stage.told()) == 1
