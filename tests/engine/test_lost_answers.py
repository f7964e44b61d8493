"""Answers that are lost on the way: of an undo, of a repetition, of the last step of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from healer.domain.episode import EpisodeState
from healer.domain.outcome import Outcome
from healer.domain.playbook import (
    Playbook,
    ProbeRule,
    StepRule,
    TargetRule,
    UndoRule,
    VerifyRule,
)
from healer.domain.target import Kind
from healer.domain.verdict import Reason
from healer.errors import Refused, Throttled, TimedOut, Unreachable
from healer.ports import HttpAnswer
from healer.testing.builders import a_playbook
from tests.engine.stage import Stage, a_stage

READY = VerifyRule((ProbeRule("workload_ready", {}),), 60.0, 5.0, 10.0)


def _scaled_and_taken_back() -> Playbook:
    return a_playbook(
        target=TargetRule(Kind.POD, "${labels.pod}", "${labels.namespace}", owner=True),
        steps=(
            StepRule("more", "scale", {"by": 2, "max": 9}, READY, undo=UndoRule.IF_NOT_RECOVERED),
        ),
    )


async def _sick(stage: Stage) -> str:
    stage.clock.advance(600)
    pod = stage.pod()
    stage.break_pod(pod)
    return await stage.fire(pod)


async def _outcomes(stage: Stage, episode_id: str) -> list[Outcome | None]:
    return [record.outcome for record in (await stage.store.runs(episode_id))[0].steps]


@pytest.mark.parametrize(
    ("error", "after", "ended"),
    [
        (TimedOut("no answer"), True, Outcome.ALREADY_DONE),
        (TimedOut("no answer"), False, Outcome.APPLIED),
        (Throttled("slow down"), False, Outcome.APPLIED),
        (Refused("no"), False, Outcome.FAILED),
    ],
)
async def test_an_undo_is_tried_until_its_outcome_is_known(
    tmp_path: Path, error: Any, after: bool, ended: Outcome
) -> None:
    """An undo whose answer is lost is repeated and found done; only a refusal is a failure."""
    async with a_stage(tmp_path, _scaled_and_taken_back()) as stage:
        stage.cluster.pods_start = False
        episode_id = await _sick(stage)
        await stage.pass_time(55)
        stage.cluster.fail_next("patch", error, after=after)
        await stage.pass_time(120)
        assert await _outcomes(stage, episode_id) == [Outcome.APPLIED, ended]


async def test_an_undo_that_stays_without_answer_is_unknown(tmp_path: Path) -> None:
    """After some minutes of silence nobody claims that the undo failed, nor that it did not."""
    async with a_stage(tmp_path, _scaled_and_taken_back()) as stage:
        stage.cluster.pods_start = False
        episode_id = await _sick(stage)
        await stage.pass_time(55)
        stage.cluster.fail_next("patch", TimedOut("no answer"))
        stage.cluster.fail_next("patch", Unreachable("cut", sent=False), times=100)
        await stage.pass_time(400)
        assert await _outcomes(stage, episode_id) == [Outcome.APPLIED, Outcome.UNKNOWN]
        assert (await stage.episode(episode_id)).reason is Reason.UNDO_FAILED


async def test_a_repetition_without_effect_says_nothing_of_the_first(tmp_path: Path) -> None:
    """A silence whose first answer was lost is made once, though its repetition was cut off."""
    steps = (StepRule("quiet", "silence", {"matchers": {"pod": "x"}, "for": 600}, None),)
    async with a_stage(tmp_path, a_playbook(steps=steps)) as stage:
        episode_id = await _sick(stage)
        silence = stage.alerts.silence
        errors = [TimedOut("no answer"), Unreachable("cut", sent=False)]

        async def flaky(*args: Any) -> str:
            error = errors.pop(0) if errors else None
            if error is None or error.may_have_happened:
                made = await silence(*args)
            if error is not None:
                raise error
            return made

        stage.alerts.silence = flaky  # type: ignore[method-assign]
        await stage.settle()
        await stage.pass_time(60)
        assert len(stage.alerts.silences) == 1
        assert await _outcomes(stage, episode_id) == [Outcome.APPLIED]


async def test_a_run_that_is_escalated_after_its_alert_ended_is_closed_at_once(
    tmp_path: Path,
) -> None:
    """The alert resolved while nobody knew the outcome: the page and the all-clear go together."""
    steps = (StepRule("call", "http_call", {"url": "https://fix.example/mend"}, READY),)

    class Lost:
        async def request(self, *args: Any, **named: Any) -> Any:
            raise TimedOut("no answer")

    async with a_stage(tmp_path, a_playbook(steps=steps)) as stage:
        stage.world.http = Lost()  # type: ignore[assignment]
        episode_id = await _sick(stage)
        await stage.settle()
        await stage.resolve(episode_id)
        await stage.pass_time(30)
        assert (await stage.episode(episode_id)).state is EpisodeState.CLOSED
        assert [title.split(":")[0] for title in await stage.told()] == ["Not healed", "Over"]


async def test_a_keyed_request_that_nobody_can_look_up_is_sent_again_under_its_key(
    tmp_path: Path,
) -> None:
    """Without a lookup nobody claims that it never happened: the same request goes out again."""
    with_ = {"url": "https://fix.example/mend", "idempotent": True}
    steps = (StepRule("call", "http_call", with_, READY),)
    keys: list[str] = []

    class Deaf:
        async def request(self, *args: Any, headers: Mapping[str, str], **named: Any) -> HttpAnswer:
            keys.append(headers["Idempotency-Key"])
            if len(keys) < 3:
                raise TimedOut("no answer")
            return HttpAnswer(200, b"", 0.1)

    async with a_stage(tmp_path, a_playbook(steps=steps)) as stage:
        stage.world.http = Deaf()
        episode_id = await _sick(stage)
        await stage.settle()
        await stage.pass_time(30)
        assert len(keys) == 3
        assert len(set(keys)) == 1
        assert await _outcomes(stage, episode_id) == [Outcome.APPLIED]
        told = " ".join(fact.detail for fact in await stage.facts(episode_id))
        assert "never happened" not in told


async def test_a_keyed_request_that_is_never_answered_is_unknown(tmp_path: Path) -> None:
    """After two minutes of repetitions without an answer a person decides, and none is "failed"."""
    with_ = {"url": "https://fix.example/mend", "idempotent": True}
    steps = (StepRule("call", "http_call", with_, READY),)

    class Lost:
        async def request(self, *args: Any, **named: Any) -> HttpAnswer:
            raise TimedOut("no answer")

    async with a_stage(tmp_path, a_playbook(steps=steps)) as stage:
        stage.world.http = Lost()
        episode_id = await _sick(stage)
        await stage.settle()
        await stage.pass_time(180)
        assert await _outcomes(stage, episode_id) == [Outcome.UNKNOWN]
