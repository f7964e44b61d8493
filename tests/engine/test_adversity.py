"""What goes wrong around a run: stops, upgrades, returns, crashes at bad moments, clocks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from healer.actions.registry import ACTIONS
from healer.domain.episode import EpisodeState
from healer.domain.facts import Approval
from healer.domain.guard import RECURRENCE
from healer.domain.journal import FactKind
from healer.domain.outcome import Outcome, Result
from healer.domain.pause import Pause
from healer.domain.playbook import (
    Guards,
    Mode,
    Playbook,
    ProbeRule,
    Rate,
    Scope,
    StepRule,
    TargetRule,
    UndoRule,
    VerifyRule,
)
from healer.domain.run import Phase
from healer.domain.target import Kind, TargetRef
from healer.domain.verdict import Reason
from healer.engine.worker import tick
from healer.errors import Fenced, Throttled, TimedOut, Unauthorized, Unreachable
from healer.ports import EpisodeFilter
from healer.probes.registry import PROBES
from healer.testing.builders import a_playbook
from tests.engine.stage import Stage, a_stage

READY = VerifyRule((ProbeRule("workload_ready", {}),), 60.0, 5.0, 10.0)
WEB = TargetRule(Kind.DEPLOYMENT, "web", "${labels.namespace}")
FREE = {scope: Rate(1000, 1.0) for scope in Scope}


def _ladder(*steps: StepRule, **changes: Any) -> Playbook:
    target = TargetRule(Kind.POD, "${labels.pod}", "${labels.namespace}", owner=True)
    return a_playbook(steps=steps, target=target, **changes)


async def _sick(stage: Stage) -> str:
    stage.clock.advance(600)
    pod = stage.pod()
    stage.break_pod(pod)
    return await stage.fire(pod)


async def test_a_pause_holds_an_undo_back_too(tmp_path: Path) -> None:
    """While paused nothing is put back either; afterwards it is."""
    book = _ladder(
        StepRule("more", "scale", {"by": 2, "max": 9}, READY, undo=UndoRule.IF_NOT_RECOVERED)
    )
    async with a_stage(tmp_path, book) as stage:
        episode_id = await _sick(stage)
        await stage.settle()
        await stage.pass_time(55)
        await stage.store.set_pause(Pause("p", "stop", "ada", stage.clock.now()))
        await stage.pass_time(120)
        assert stage.cluster.object(stage.web)["spec"]["replicas"] == 5
        assert (await stage.episode(episode_id)).reason is Reason.PAUSED
        await stage.store.clear_pause("p", "ada", stage.clock.now())
        await stage.pass_time(20)
        assert stage.cluster.object(stage.web)["spec"]["replicas"] == 3


@pytest.mark.parametrize("stop", ["pause", "resolved"])
async def test_a_lost_request_is_repeated_only_when_the_guards_still_allow_it(
    tmp_path: Path, stop: str
) -> None:
    """A silence may be asked for again after a crash, but not while paused or after the end."""
    book = a_playbook(
        steps=(StepRule("quiet", "silence", {"matchers": {"pod": "x"}, "for": 600}, None),)
    )
    async with a_stage(tmp_path, book) as stage:
        episode_id = await _sick(stage)
        stage.alerts.down = None
        silence = stage.alerts.silence

        async def cut(*_: Any) -> str:
            raise TimedOut("no answer")

        stage.alerts.silence = cut  # type: ignore[method-assign]
        await stage.settle()
        assert (await stage.store.runs(episode_id))[0].open_step is not None
        stage.alerts.silence = silence  # type: ignore[method-assign]
        if stop == "pause":
            await stage.store.set_pause(Pause("p", "stop", "ada", stage.clock.now()))
        else:
            stage.alerts.end((await stage.episode(episode_id)).labels)
            stage.clock.advance(10)
        await stage.pass_time(30)
        assert stage.alerts.silences == []


async def test_a_run_whose_action_is_gone_goes_to_a_person(tmp_path: Path) -> None:
    """After an upgrade without the action of the next rung a person is told, once."""
    book = _ladder(
        StepRule("restart", "restart_rollout", {}, READY), StepRule("more", "scale", {"by": 1})
    )
    async with a_stage(tmp_path, book) as stage:
        stage.cluster.pods_start = False
        episode_id = await _sick(stage)
        await stage.settle()
        stage.world.actions = {k: v for k, v in ACTIONS.items() if k != "scale"}
        await stage.pass_time(300)
        episode = await stage.episode(episode_id)
        assert episode.state is EpisodeState.ESCALATED
        assert [title.split(":")[0] for title in await stage.told()] == ["Not healed"]


async def test_an_open_step_whose_action_is_gone_is_unknown(tmp_path: Path) -> None:
    """Nobody can look it up any more, so a person decides."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        stage.cluster.fail_next("delete", TimedOut("no answer"))
        episode_id = await _sick(stage)
        await stage.settle()
        stage.world.actions = {k: v for k, v in ACTIONS.items() if k != "delete_pod"}
        await stage.pass_time(10)
        assert (await stage.episode(episode_id)).reason is Reason.UNKNOWN_OUTCOME


async def test_a_verification_whose_probe_is_gone_is_unknown_and_escalates(tmp_path: Path) -> None:
    """A probe that this version does not have never counts as success, and never loops."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        episode_id = await _sick(stage)
        await stage.settle()
        stage.world.probes = {k: v for k, v in PROBES.items() if k != "workload_ready"}
        await stage.pass_time(90)
        assert (await stage.episode(episode_id)).reason is Reason.VERIFY_UNKNOWN


async def test_a_ladder_that_loses_its_rights_is_told_as_what_it_is(tmp_path: Path) -> None:
    """A run that has acted and may not look any more pages: it is not "nothing was done"."""
    book = _ladder(
        StepRule("restart", "restart_rollout", {}, READY), StepRule("more", "scale", {"by": 1})
    )
    async with a_stage(tmp_path, book) as stage:
        stage.cluster.pods_start = False
        episode_id = await _sick(stage)
        await stage.settle()
        stage.cluster.fail_next("missing_right", Unauthorized("may not ask"), times=50)
        await stage.pass_time(90)
        episode = await stage.episode(episode_id)
        assert episode.state is EpisodeState.ESCALATED
        assert [title.split(":")[0] for title in await stage.told()] == ["Not healed"]


async def test_a_run_finishes_on_its_own_plan_after_a_rung_was_skipped(tmp_path: Path) -> None:
    """The playbook is replaced while the second rung waits: what was begun is what is done."""
    book = _ladder(
        StepRule("never", "scale", {"by": 1}, condition="target.replicas > 100"),
        StepRule("restart", "restart_rollout", {}, READY),
        guards=Guards(unless=()),
    )
    async with a_stage(tmp_path, book) as stage:
        await _sick(stage)
        claims = await stage.store.claim("worker-1", stage.clock.now(), 30.0, 1)
        claim = await tick(stage.world, claims[0])
        assert claim.run is not None
        assert claim.run.rung == 1
        stage.playbooks = [_ladder(StepRule("less", "scale", {"by": -1}), sha256="1" * 64)]
        claim = await tick(stage.world, claim)
        assert [(w.call, w.subresource) for w in stage.cluster.writes] == [("patch", "")]


async def test_what_comes_back_again_and_again_goes_to_a_person(tmp_path: Path) -> None:
    """An alert that survives every recovery is acted on a few times, then a person is told."""
    guards = Guards(cooldown_seconds=60.0, budgets=FREE)
    book = a_playbook(
        steps=(StepRule("restart", "restart_rollout", {}, READY),), guards=guards, target=WEB
    )
    async with a_stage(tmp_path, book) as stage:
        episode_id = await _sick(stage)
        await stage.pass_time(3 * 3600, step=15)
        rolls = [write for write in stage.cluster.writes if write.call == "patch"]
        assert len(rolls) == RECURRENCE.count
        episode = await stage.episode(episode_id)
        assert (episode.state, episode.reason) == (EpisodeState.SETTLED, Reason.RECURRED)
        assert len(await stage.told()) == 1


async def test_a_yes_is_good_for_one_run(tmp_path: Path) -> None:
    """When the alert goes on after the approved run, a person is asked again."""
    guards = Guards(cooldown_seconds=60.0, budgets=FREE)
    book = a_playbook(
        steps=(StepRule("restart", "restart_rollout", {}, READY),), guards=guards, target=WEB,
        mode=Mode.APPROVE,
    )  # fmt: skip
    async with a_stage(tmp_path, book) as stage:
        episode_id = await _sick(stage)
        await stage.settle()
        for times in (1, 2):
            run = (await stage.store.runs(episode_id))[0]
            now = stage.clock.now()
            yes = Approval(run.plan.digest, True, "ada", now, now + 1800)
            await stage.store.answer(episode_id, yes, now)
            await stage.pass_time(200, step=5)
            assert len(stage.cluster.writes) == times
            assert (await stage.episode(episode_id)).state is EpisodeState.AWAITING_APPROVAL


async def test_a_plan_that_changed_while_it_waited_is_asked_anew(tmp_path: Path) -> None:
    """A yes to a plan for another incarnation is not used, and the new plan is shown to people."""
    async with a_stage(tmp_path) as stage:
        db = stage.cluster.add(_stateful())
        stage.playbooks = [a_playbook(mode=Mode.APPROVE)]
        pod = stage.cluster.pods_of(db)[0]
        stage.break_pod(pod)
        episode_id = await stage.fire(pod)
        await stage.settle()
        first = (await stage.store.runs(episode_id))[0].plan
        stage.cluster.remove(pod)
        now = stage.clock.now()
        yes = Approval(first.digest, True, "ada", now, now + 1800)
        await stage.store.answer(episode_id, yes, now)
        await stage.settle()
        assert stage.deleted() == []
        assert len(await stage.told()) == 2
        second = (await stage.store.runs(episode_id))[0].plan
        yes = Approval(second.digest, True, "ada", now, now + 1800)
        await stage.store.answer(episode_id, yes, now)
        await stage.settle()
        assert [w.ref.uid for w in stage.cluster.writes if w.call == "delete"] == [
            second.target.uid
        ]


def _stateful() -> dict[str, Any]:
    from healer.testing.objects import a_workload

    return dict(a_workload(Kind.STATEFUL_SET, "db", replicas=2))


async def test_a_look_with_the_same_end_leaves_no_new_trace(tmp_path: Path) -> None:
    """An observed alert that fires for days does not fill the journal."""
    async with a_stage(tmp_path, a_playbook(mode=Mode.OBSERVE)) as stage:
        episode_id = await _sick(stage)
        await stage.settle()
        facts = len(await stage.facts(episode_id))
        await stage.pass_time(6 * 3600, step=300)
        assert len(await stage.facts(episode_id)) == facts
        assert len(await stage.store.runs(episode_id)) == 1
        assert (await stage.episode(episode_id)).runs == 1


async def test_nobody_is_given_an_all_clear_of_what_they_were_never_told(tmp_path: Path) -> None:
    """An alert that ended before healer looked closes as self-resolved, in silence."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        episode_id = await _sick(stage)
        stage.alerts.end((await stage.episode(episode_id)).labels)
        stage.clock.advance(30)
        await stage.settle()
        assert (await stage.episode(episode_id)).reason is Reason.NOT_FIRING
        await stage.resolve(episode_id)
        await stage.settle()
        assert await stage.told() == []
        assert (await stage.episode(episode_id)).result is Result.SELF_RESOLVED


async def test_the_page_of_a_held_episode_is_ended_under_its_own_key(tmp_path: Path) -> None:
    """A pager that was told of a hold is told of its end with the same key."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        pod = stage.pod()
        stage.break_pod(pod)
        episode_id = await stage.fire(pod)
        stage.alerts.down = Unreachable("Alertmanager is away")
        stage.clock.advance(30)
        await stage.settle()
        await stage.pass_time(60)
        await stage.resolve_only(episode_id)
        await stage.settle()
        due = await stage.store.messages_due(stage.clock.now() + 1e6, 10)
        assert [message.body["event"] for message in due] == ["trigger", "resolve"]
        assert len({message.body["key"] for message in due}) == 1


async def test_a_second_storm_is_told_too(tmp_path: Path) -> None:
    """Pods that recover by themselves leave the hold behind; the next storm still pages."""
    async with a_stage(tmp_path, a_playbook(guards=Guards(storm_minimum=3))) as stage:
        stage.cluster.change(stage.web, {"spec": {"replicas": 9}})
        for name in ("node-b", "node-c"):
            zone = {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}}
            stage.cluster.change(TargetRef(Kind.NODE, name), zone)
        pods = stage.cluster.pods_of(stage.web)[:6]
        stage.clock.advance(600)
        for storm in (1, 2):
            for pod in pods:
                stage.break_pod(pod)
            ids = [await stage.fire(pod) for pod in pods]
            await stage.pass_time(90)
            assert len(await stage.told()) == storm
            for pod, episode_id in zip(pods, ids, strict=True):
                stage.mend_pod(pod)
                await stage.resolve(episode_id)
            await stage.pass_time(7200, step=300)
        assert stage.deleted() == []


async def test_a_retry_after_no_effect_is_not_paid_twice(tmp_path: Path) -> None:
    """Three refusals for now and one delete cost one token, not four."""
    budgets = {**FREE, Scope.TARGET: Rate(1, 3600.0)}
    async with a_stage(tmp_path, a_playbook(guards=Guards(budgets=budgets))) as stage:
        stage.cluster.fail_next("delete", Throttled("slow down"), times=3)
        episode_id = await _sick(stage)
        await stage.settle()
        await stage.pass_time(60)
        run = (await stage.store.runs(episode_id))[0]
        assert [r.outcome for r in run.steps] == [*[Outcome.FAILED] * 3, Outcome.APPLIED]


async def test_what_waits_for_its_budget_does_not_hold_up_the_queue(tmp_path: Path) -> None:
    """Older episodes that wait for a window leave their places in the zone to those that can go."""
    from healer.domain.playbook import Window

    closed = Guards(windows=(Window((0, 1, 2, 3, 4, 5, 6), 0, 1439),))
    frozen = a_playbook("frozen", guards=closed)
    async with a_stage(tmp_path, frozen) as stage:
        stage.cluster.change(stage.web, {"spec": {"replicas": 18}})
        in_a = [p for p in stage.cluster.pods_of(stage.web) if _node(stage, p) == "node-a"]
        for pod in in_a[:5]:
            await stage.fire(pod)
        await stage.settle()
        stage.playbooks = [a_playbook("open", guards=Guards(max_in_flight=4))]
        stage.break_pod(in_a[5])
        stage.clock.advance(1)
        await stage.store.set_pause(
            Pause("p", "only the new one", "ada", stage.clock.now(), playbook="frozen")
        )
        stage.playbooks = [frozen, a_playbook("open", priority=90, guards=Guards(max_in_flight=4))]
        late = await stage.fire(in_a[5])
        claim = next(
            c
            for c in await stage.store.claim("worker-1", stage.clock.now(), 30.0, 50)
            if c.episode.id == late
        )
        await tick(stage.world, claim)
        assert stage.deleted() == [in_a[5].name]


def _node(stage: Stage, pod: TargetRef) -> str:
    return str(stage.cluster.object(pod)["spec"]["nodeName"])


def _teller(*steps: StepRule) -> Playbook:
    return a_playbook(
        "notify-people", steps=steps, escalation=replace(a_playbook().escalation, summary="Look!")
    )


@pytest.mark.parametrize(
    "step",
    [StepRule("hand over", "wait", {"for": 1}), StepRule("say it", "notify", {"message": "Look!"})],
    ids=["wait", "notify"],
)
async def test_what_only_tells_tells_once_and_fails_nothing(tmp_path: Path, step: StepRule) -> None:
    """One message with the playbook's words, an all-clear at most, and no bad outcome."""
    async with a_stage(tmp_path, _teller(step)) as stage:
        episode_id = await _sick(stage)
        await stage.work()
        episode = await stage.episode(episode_id)
        assert (episode.state, episode.result) == (EpisodeState.ESCALATED, Result.TOLD)
        due = await stage.store.messages_due(stage.clock.now() + 1e6, 10)
        assert len(due) == 1
        assert "Look!" in due[0].body["text"]
        run = (await stage.store.runs(episode_id))[0]
        assert (run.phase, run.result) == (Phase.DONE, Result.TOLD)
        await stage.resolve(episode_id)
        await stage.settle()
        assert (await stage.episode(episode_id)).result is Result.TOLD


async def test_a_remedy_that_was_not_tried_is_no_failure_of_it(tmp_path: Path) -> None:
    """A ladder whose only disruptive rung was skipped does not open its playbook's breaker."""
    book = _teller(
        StepRule("look", "notify", {"message": "Look!"}),
        StepRule("restart", "delete_pod", {}, READY, condition="target.replicas > 100"),
    )
    async with a_stage(tmp_path, book) as stage:
        episode_id = await _sick(stage)
        await stage.settle()
        assert (await stage.store.runs(episode_id))[0].result is Result.TOLD


async def test_a_worker_that_was_replaced_does_nothing(tmp_path: Path) -> None:
    """A claim that another worker took over in the meantime is worth no effect."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        await _sick(stage)
        old = (await stage.store.claim("worker-1", stage.clock.now(), 30.0, 1))[0]
        stage.clock.advance(31)
        assert len(await stage.store.claim("worker-2", stage.clock.now(), 30.0, 1)) == 1
        with pytest.raises(Fenced):
            await tick(stage.world, old)
        assert stage.cluster.writes == []


async def test_nothing_is_begun_that_the_lease_does_not_outlive(tmp_path: Path) -> None:
    """When the journal was so slow that the lease may run out, the effect is put off."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        await _sick(stage)
        commit = stage.store.commit

        async def slowly(claim: Any, change: Any) -> Any:
            done = await commit(claim, change)
            if change.step is not None and change.step.outcome is None:
                stage.clock.advance(45)
            return done

        stage.store.commit = slowly  # type: ignore[method-assign]
        claim = (await stage.store.claim("worker-1", stage.clock.now(), 30.0, 1))[0]
        await tick(stage.world, claim)
        assert stage.cluster.writes == []


async def test_who_was_frozen_after_its_look_looks_again(tmp_path: Path) -> None:
    """Thirteen seconds between look and effect are too many: the alert may have ended meanwhile."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        await _sick(stage)
        commit = stage.store.commit
        frozen: list[float] = []

        async def frozen_once(claim: Any, change: Any) -> Any:
            done = await commit(claim, change)
            if change.step is not None and change.step.outcome is None and not frozen:
                frozen.append(13.0)
                stage.clock.advance(13)
                for episode in await stage.firing():
                    await stage.resolve(episode.id)
            return done

        stage.store.commit = frozen_once  # type: ignore[method-assign]
        await stage.settle()
        await stage.pass_time(120)
        assert frozen
        assert stage.cluster.writes == []


async def test_who_was_frozen_while_it_looked_looks_again(tmp_path: Path) -> None:
    """A look counts from its beginning: what was heard before a stop of 13 s is no longer true."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        await _sick(stage)
        ledger = stage.store.ledger
        frozen: list[float] = []

        async def frozen_once(*args: Any) -> Any:
            found = await ledger(*args)
            if not frozen:
                frozen.append(13.0)
                stage.clock.advance(13)
                for episode in await stage.firing():
                    stage.alerts.end(episode.labels)
            return found

        stage.store.ledger = frozen_once  # type: ignore[method-assign]
        await stage.settle()
        await stage.pass_time(120)
        assert frozen
        assert stage.cluster.writes == []
        (episode,) = await stage.store.episodes(EpisodeFilter())
        kinds = [fact.kind for fact in await stage.facts(episode.id)]
        assert FactKind.INTENT not in kinds, "begun on what it no longer knew"


async def test_the_lease_is_made_to_outlive_the_step_before_it_begins(tmp_path: Path) -> None:
    """While a step with a timeout of 30 s is under way, nobody takes over after 31 s."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        await _sick(stage)
        found: list[int] = []
        delete = stage.cluster.delete

        async def look_around(*args: Any, **named: Any) -> None:
            at = stage.clock.now() + 31
            found.append(len(await stage.store.claim("worker-2", at, 30.0, 5)))
            await delete(*args, **named)

        stage.cluster.delete = look_around  # type: ignore[method-assign]
        await stage.settle()
        assert found == [0]


async def test_a_late_delivery_is_not_believed_over_alertmanager(tmp_path: Path) -> None:
    """A firing that is delivered after its alert has ended, as a retry is, leads to no action."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        pod = stage.pod()
        stage.break_pod(pod)
        await stage.deliver({"pod": pod.name})
        await stage.settle()
        assert stage.deleted() == []
        [episode] = await stage.firing()
        assert episode.reason is Reason.NOT_FIRING
