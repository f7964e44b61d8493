"""The engine from an accepted alert to a closed episode, with a real journal and a fake cluster."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from healer.domain.episode import EpisodeState
from healer.domain.facts import Approval
from healer.domain.outcome import Outcome, Result
from healer.domain.pause import Pause
from healer.domain.playbook import (
    Condition,
    ConditionLanguage,
    Escalation,
    Guards,
    Mode,
    Playbook,
    ProbeRule,
    StepRule,
    TargetRule,
    UndoRule,
    VerifyRule,
)
from healer.domain.run import Phase
from healer.domain.target import Kind, TargetRef
from healer.domain.verdict import Reason
from healer.errors import Refused, TimedOut, Unreachable
from healer.testing.builders import a_playbook
from healer.testing.metrics import FakeMetrics
from tests.engine.stage import Stage, a_stage

READY = VerifyRule((ProbeRule("workload_ready", {}),), 60.0, 5.0, 10.0)


def _ladder(*steps: StepRule, **changes: Any) -> Playbook:
    target = TargetRule(Kind.POD, "${labels.pod}", "${labels.namespace}", owner=True)
    return a_playbook(steps=steps, target=target, **changes)


async def _sick(stage: Stage) -> str:
    stage.clock.advance(600)
    pod = stage.pod()
    stage.break_pod(pod)
    return await stage.fire(pod)


async def test_a_crash_looping_pod_is_replaced_once_and_the_episode_closes(tmp_path: Path) -> None:
    """One alert, one delete, recovery that holds, a resolution, and a closed episode."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        broken = stage.pod()
        episode_id = await _sick(stage)
        await stage.settle()
        assert stage.deleted() == [broken.name]
        await stage.pass_time(20)
        settled = await stage.episode(episode_id)
        assert (settled.state, settled.result) == (EpisodeState.SETTLED, Result.HEALED)
        await stage.resolve(episode_id)
        await stage.settle()
        closed = await stage.episode(episode_id)
        assert (closed.state, closed.result) == (EpisodeState.CLOSED, Result.HEALED)
        assert stage.deleted() == [broken.name]
        assert await stage.told() == []
        words = await stage.words(episode_id)
        order = ["planned", "evidence", "intent:allowed", "outcome", "verified", "closed:recovered"]
        assert [word for word in words if word in order][: len(order)] != []
        positions = [words.index(word) for word in order]
        assert positions == sorted(positions)


async def test_repeated_deliveries_do_nothing_twice(tmp_path: Path) -> None:
    """Peers that send the same alert again and again cause one delete."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        pod = stage.pod()
        stage.break_pod(pod)
        for _ in range(5):
            await stage.fire(pod)
            await stage.settle()
        assert stage.deleted() == [pod.name]


async def test_an_alert_that_resolves_before_anything_was_done_closes_by_itself(
    tmp_path: Path,
) -> None:
    """A resolution in time means that nothing is done at all."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        episode_id = await _sick(stage)
        await stage.resolve(episode_id)
        await stage.settle()
        episode = await stage.episode(episode_id)
        assert (episode.state, episode.result) == (EpisodeState.CLOSED, Result.SELF_RESOLVED)
        assert stage.deleted() == []


async def test_a_step_that_does_not_help_is_undone_and_the_ladder_goes_on(tmp_path: Path) -> None:
    """Scaling out does not help, so it is put back, and the rollout is restarted."""
    book = _ladder(
        StepRule("more pods", "scale", {"by": 2, "max": 9}, READY,
                 undo=UndoRule.IF_NOT_RECOVERED),
        StepRule("restart", "restart_rollout", {}, READY),
    )  # fmt: skip
    async with a_stage(tmp_path, book) as stage:
        episode_id = await _sick(stage)
        await stage.settle()
        assert stage.cluster.object(stage.web)["spec"]["replicas"] == 5
        await stage.pass_time(65)
        assert stage.cluster.object(stage.web)["spec"]["replicas"] == 3
        assert stage.cluster.writes[-1].call == "patch"
        await stage.pass_time(30)
        episode = await stage.episode(episode_id)
        assert episode.result is Result.HEALED
        run = (await stage.store.runs(episode_id))[0]
        assert [(r.step, r.undo, r.outcome) for r in run.steps] == [
            (0, False, Outcome.APPLIED), (0, True, Outcome.APPLIED), (1, False, Outcome.APPLIED),
        ]  # fmt: skip


async def test_a_ladder_that_ends_without_recovery_pages_and_then_gives_the_all_clear(
    tmp_path: Path,
) -> None:
    """A failed remediation pages a person once, and its end is told too."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        stage.cluster.pods_start = False
        episode_id = await _sick(stage)
        await stage.settle()
        await stage.pass_time(90)
        episode = await stage.episode(episode_id)
        assert (episode.state, episode.reason) == (EpisodeState.ESCALATED, Reason.NOT_RECOVERED)
        assert len(await stage.told()) == 1
        assert (await stage.told())[0].startswith("Not healed")
        await stage.resolve(episode_id)
        await stage.settle()
        assert (await stage.episode(episode_id)).state is EpisodeState.CLOSED
        assert [title.split(":")[0] for title in await stage.told()] == ["Not healed", "Over"]


async def test_a_lost_answer_is_looked_up_and_not_repeated(tmp_path: Path) -> None:
    """The API server did delete the pod but the answer was lost: no second delete is sent."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        stage.cluster.fail_next("delete", TimedOut("no answer"), after=True)
        episode_id = await _sick(stage)
        await stage.settle()
        run = (await stage.store.runs(episode_id))[0]
        assert run.open_step is not None
        await stage.pass_time(5)
        run = (await stage.store.runs(episode_id))[0]
        assert run.steps[0].outcome is Outcome.APPLIED
        assert len(stage.deleted()) == 1


async def test_an_answer_lost_before_the_effect_is_looked_up_and_done_again(tmp_path: Path) -> None:
    """The request never arrived: the lookup says so, the guard is asked again, and it is done."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        broken = stage.pod()
        stage.cluster.fail_next("delete", Unreachable("cut"))
        episode_id = await _sick(stage)
        await stage.pass_time(15, step=1)
        run = (await stage.store.runs(episode_id))[0]
        assert [r.outcome for r in run.steps] == [Outcome.APPLIED]
        deletes = [write.ref.uid for write in stage.cluster.writes if write.call == "delete"]
        assert deletes == [broken.uid, broken.uid]


async def test_a_refused_action_goes_on_to_a_person(tmp_path: Path) -> None:
    """What the API server refuses is not tried again and does not end in silence."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        stage.cluster.fail_next("delete", Refused("admission webhook says no"))
        episode_id = await _sick(stage)
        await stage.settle()
        episode = await stage.episode(episode_id)
        assert episode.state is EpisodeState.ESCALATED
        assert len(await stage.told()) == 1


async def test_a_storm_in_a_zone_holds_pages_once_and_restarts_nothing(tmp_path: Path) -> None:
    """Two thirds of a zone's pods fail together: nothing is deleted and one page goes out."""
    async with a_stage(tmp_path, a_playbook(guards=Guards(storm_minimum=3))) as stage:
        stage.cluster.change(stage.web, {"spec": {"replicas": 9}})
        for name in ("node-b", "node-c"):
            zone = {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}}
            stage.cluster.change(TargetRef(Kind.NODE, name), zone)
        pods = stage.cluster.pods_of(stage.web)
        for pod in pods[:6]:
            stage.break_pod(pod)
        stage.clock.advance(120)
        ids = [await stage.fire(pod) for pod in pods[:6]]
        await stage.settle()
        await stage.pass_time(60)
        assert stage.deleted() == []
        for episode_id in ids:
            assert (await stage.episode(episode_id)).reason is Reason.ZONE_DEGRADED
        assert len(await stage.told()) == 1
        for pod, episode_id in zip(pods[2:6], ids[2:6], strict=True):
            stage.mend_pod(pod)
            await stage.resolve(episode_id)
        await stage.pass_time(15)
        assert len(stage.deleted()) == 1, "after a hold the ramp begins with one"
        await stage.pass_time(300)
        assert sorted(stage.deleted()) == sorted(pod.name for pod in pods[:2])


async def test_a_plan_waits_for_a_persons_yes_and_acts_on_it(tmp_path: Path) -> None:
    """In mode approve nothing is done before the answer, and the answered plan is done."""
    async with a_stage(tmp_path, a_playbook(mode=Mode.APPROVE)) as stage:
        episode_id = await _sick(stage)
        await stage.settle()
        waiting = await stage.episode(episode_id)
        assert waiting.state is EpisodeState.AWAITING_APPROVAL
        assert stage.deleted() == []
        run = (await stage.store.runs(episode_id))[0]
        now = stage.clock.now()
        yes = Approval(run.plan.digest, True, "ada", now, now + 600)
        await stage.store.answer(episode_id, yes, now)
        await stage.settle()
        assert len(stage.deleted()) == 1


@pytest.mark.parametrize("approved", [False, None])
async def test_no_answer_and_a_no_do_nothing(tmp_path: Path, approved: bool | None) -> None:
    """A plan that is rejected, or that nobody answers in time, is never done."""
    async with a_stage(tmp_path, a_playbook(mode=Mode.APPROVE)) as stage:
        episode_id = await _sick(stage)
        await stage.settle()
        if approved is False:
            run = (await stage.store.runs(episode_id))[0]
            now = stage.clock.now()
            no = Approval(run.plan.digest, False, "ada", now, now + 600)
            await stage.store.answer(episode_id, no, now)
            await stage.settle()
        else:
            await stage.pass_time(1900, step=60)
        episode = await stage.episode(episode_id)
        wanted = Reason.APPROVAL_EXPIRED if approved is None else Reason.APPROVAL_REJECTED
        assert (episode.state, episode.reason) == (EpisodeState.SETTLED, wanted)
        assert stage.deleted() == []


async def test_a_pause_stops_everything_and_its_end_lets_it_go_on(tmp_path: Path) -> None:
    """While paused nothing is done; afterwards the episode is taken up by itself."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        await stage.store.set_pause(Pause("p", "release", "ada", stage.clock.now()))
        episode_id = await _sick(stage)
        await stage.settle()
        await stage.pass_time(60)
        assert (await stage.episode(episode_id)).reason is Reason.PAUSED
        assert stage.deleted() == []
        await stage.store.clear_pause("p", "ada", stage.clock.now())
        await stage.pass_time(20)
        assert len(stage.deleted()) == 1


async def test_a_dry_run_asks_the_server_and_changes_nothing(tmp_path: Path) -> None:
    """Every call of a dry run carries dryRun, and the pod stays."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        stage.options(dry_run=True)
        broken = stage.pod()
        episode_id = await _sick(stage)
        await stage.settle()
        assert [write.dry_run for write in stage.cluster.writes] == [True]
        assert stage.cluster.object(broken)
        episode = await stage.episode(episode_id)
        assert episode.state is not EpisodeState.RUNNING
        run = (await stage.store.runs(episode_id))[0]
        assert (run.phase, run.result) == (Phase.DONE, Result.OBSERVED)


async def test_blind_means_still(tmp_path: Path) -> None:
    """When nobody can say whether the alert fires, nothing is done, and sight brings no burst."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        pod = stage.pod()
        stage.break_pod(pod)
        episode_id = await stage.fire(pod)
        stage.alerts.down = Unreachable("Alertmanager is away")
        stage.clock.advance(30)
        await stage.settle()
        assert (await stage.episode(episode_id)).reason is Reason.BLIND
        await stage.pass_time(120)
        assert stage.deleted() == []
        stage.alerts.down = None
        await stage.pass_time(20)
        assert stage.deleted() == [pod.name]


async def test_another_incarnation_of_the_pod_is_left_alone(tmp_path: Path) -> None:
    """A pod that was replaced between plan and action is not deleted."""
    async with a_stage(tmp_path, a_playbook(mode=Mode.APPROVE)) as stage:
        pod = stage.pod()
        episode_id = await _sick(stage)
        await stage.settle()
        run = (await stage.store.runs(episode_id))[0]
        stage.cluster.remove(pod)
        now = stage.clock.now()
        yes = Approval(run.plan.digest, True, "ada", now, now + 600)
        await stage.store.answer(episode_id, yes, now)
        await stage.settle()
        assert stage.deleted() == []
        assert (await stage.episode(episode_id)).state is EpisodeState.SETTLED


async def test_an_alert_no_playbook_is_for_is_kept_and_left_alone(tmp_path: Path) -> None:
    """It is journaled with its reason, and nobody is paged by healer."""
    other = a_playbook(trigger=replace(a_playbook().trigger, matchers=()))
    async with a_stage(tmp_path, other) as stage:
        episode_id = await _sick(stage)
        await stage.settle()
        episode = await stage.episode(episode_id)
        assert (episode.result, episode.reason) == (Result.UNMATCHED, Reason.NO_PLAYBOOK)
        assert await stage.told() == []


async def test_two_alerts_of_one_workload_do_not_act_at_the_same_time(tmp_path: Path) -> None:
    """The second waits for the lock on their common owner."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        pods = stage.cluster.pods_of(stage.web)
        stage.break_pod(pods[0])
        first = await stage.fire(pods[0])
        stage.cluster.pods_start = False
        await stage.settle()
        stage.break_pod(pods[1])
        second = await stage.fire(pods[1])
        await stage.settle()
        assert len(stage.deleted()) == 1
        assert (await stage.episode(second)).reason in {Reason.TARGET_LOCKED, Reason.STORM_PACED}
        assert (await stage.episode(first)).state is EpisodeState.RUNNING


async def test_a_step_that_only_silences_the_alert_neither_ends_the_run_nor_climbs(
    tmp_path: Path,
) -> None:
    """While the alert is silent and the target sick nothing is done; when it fires again, it is."""
    book = _ladder(
        StepRule("restart", "restart_rollout", {}, READY), StepRule("undo", "scale", {"by": 1})
    )
    async with a_stage(tmp_path, book) as stage:
        stage.cluster.pods_start = False
        episode_id = await _sick(stage)
        labels = (await stage.episode(episode_id)).labels
        await stage.settle()
        await stage.pass_time(30)
        await stage.resolve(episode_id)
        await stage.pass_time(120)
        quiet = await stage.episode(episode_id)
        assert (quiet.state, quiet.firing) == (EpisodeState.RUNNING, False)
        assert stage.cluster.object(stage.web)["spec"]["replicas"] == 3
        assert await stage.fire(stage.pod(), labels) == episode_id
        await stage.pass_time(15)
        assert stage.cluster.object(stage.web)["spec"]["replicas"] == 4


async def test_a_page_begins_with_the_words_of_the_playbooks_author(tmp_path: Path) -> None:
    """The escalation's summary leads the page, with labels filled in and gaps shown as `?`."""
    words = Escalation(summary="${labels.pod} of ${owner.name} again; ${labels.nothing}")
    async with a_stage(tmp_path, a_playbook(escalation=words)) as stage:
        stage.cluster.fail_next("delete", Refused("no"))
        pod = stage.pod()
        await _sick(stage)
        await stage.settle()
        due = await stage.store.messages_due(stage.clock.now(), 10)
        assert due[0].body["text"].startswith(f"{pod.name} of web again; ?\n")


async def test_a_step_whose_condition_cannot_be_evaluated_holds(tmp_path: Path) -> None:
    """A rung that cannot be judged is neither done nor passed over for a stronger one."""
    book = _ladder(
        StepRule("first", "scale", {"by": 1, "max": 9}, READY, condition="labels.absent == 'x'"),
        StepRule("second", "restart_rollout", {}, READY),
    )
    async with a_stage(tmp_path, book) as stage:
        episode_id = await _sick(stage)
        await stage.settle()
        assert stage.cluster.writes == []
        assert (await stage.episode(episode_id)).reason is Reason.BLIND


async def test_an_unless_query_counts_only_series_of_the_alert(tmp_path: Path) -> None:
    """A backup in another namespace holds nobody here; one in this namespace does."""
    rule = Condition(
        ConditionLanguage.PROMQL, "backup_running", "a backup runs",
        {"namespace": "${labels.namespace}"},
    )  # fmt: skip
    async with a_stage(tmp_path, a_playbook(guards=Guards(unless=(rule,)))) as stage:
        metrics = FakeMetrics(stage.clock)
        stage.world.metrics = metrics
        metrics.set("backup_running", ({"namespace": "shop"}, 1.0))
        episode_id = await _sick(stage)
        await stage.settle()
        assert (await stage.episode(episode_id)).reason is Reason.UNLESS_CONDITION
        metrics.set("backup_running", ({"namespace": "other"}, 1.0))
        await stage.pass_time(20)
        assert len(stage.deleted()) == 1


async def test_a_first_step_with_a_target_of_its_own_acts_on_that(tmp_path: Path) -> None:
    """The alert is about a pod; the first rung restarts the Deployment that it names itself."""
    own = TargetRule(Kind.DEPLOYMENT, "web", "${labels.namespace}")
    book = a_playbook(steps=(StepRule("restart", "restart_rollout", {}, READY, target=own),))
    async with a_stage(tmp_path, book) as stage:
        await _sick(stage)
        await stage.settle()
        assert [(w.call, str(w.ref)) for w in stage.cluster.writes] == [
            ("patch", "Deployment/shop/web")
        ]
