"""R10: a journal of six hours ago: nothing old is done without a fresh look, and a person."""

from collections.abc import Callable
from pathlib import Path

import pytest

from healer.domain.episode import EpisodeState
from healer.domain.facts import Approval
from healer.domain.verdict import Reason
from healer.errors import Unreachable
from healer.store.sqlite import SqliteStore
from healer.testing.builders import a_playbook
from healer.testing.clock import FakeClock
from tests.engine.stage import Stage

SIX_HOURS = 6 * 3600.0


@pytest.mark.parametrize("level", ["ended", "away", "fires"])
async def test_r10_what_waited_six_hours_is_not_done_unasked(
    tmp_path: Path, level: str, record_property: Callable[[str, object], None]
) -> None:
    """Ended: closed. Not to be asked: held. Still firing: a person decides, and then it is done."""
    record_property("fault", "R10")
    clock = FakeClock()
    clock.advance(600)
    first = await SqliteStore.open(tmp_path / "healer.db", clock=clock, accept_seconds=10.0)
    stage = Stage(first, clock, a_playbook())
    pod = stage.pod()
    stage.break_pod(pod)
    episode_id = await stage.fire(pod)
    await first.close()  # accepted and folded, nothing decided yet
    clock.advance(SIX_HOURS)
    again = await SqliteStore.open(tmp_path / "healer.db", clock=clock, accept_seconds=10.0)
    stage.store = stage.world.store = again
    try:
        if level == "ended":
            stage.alerts.end((await stage.episode(episode_id)).labels)
        if level == "away":
            stage.alerts.down = Unreachable("Alertmanager is away")
        await stage.pass_time(900, step=30)
        assert stage.cluster.writes == []
        episode = await stage.episode(episode_id)
        if level == "ended":
            assert episode.reason is Reason.NOT_FIRING
        elif level == "away":
            assert episode.reason is Reason.BLIND
        else:
            assert (episode.state, episode.reason) == (
                EpisodeState.AWAITING_APPROVAL, Reason.TOO_OLD,
            )  # fmt: skip
            plan = (await again.runs(episode_id))[0].plan
            now = clock.now()
            await again.answer(episode_id, Approval(plan.digest, True, "ada", now, now + 600), now)
            await stage.settle()
            assert stage.deleted() == [pod.name]
    finally:
        await again.close()
    record_property("worst", "0 actions on what is older than max_age, unasked")
