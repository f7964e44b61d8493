"""What was frozen between its last look and its first write sends nothing."""

from pathlib import Path

import pytest

from healer.domain.target import Kind, TargetRef
from healer.engine.first_write import FirstWrite
from healer.engine.lease import LOOK_SECONDS, Lease
from healer.errors import NotFound, TemporaryError
from healer.ports import Cluster
from healer.testing.builders import a_playbook
from tests.engine.stage import a_stage

POD = TargetRef(Kind.POD, "web-1", "shop", "uid-1")


async def test_a_first_write_that_comes_too_late_is_not_sent(tmp_path: Path) -> None:
    """An action that read, was frozen, and would write then, is told that nothing was done."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        now = stage.clock.monotonic()
        lease = Lease(now + 600.0, 5.0, 600.0, now + LOOK_SECONDS)
        cluster: Cluster = FirstWrite(stage.cluster, lease, stage.clock)
        with pytest.raises(NotFound):
            await cluster.get(POD)
        stage.clock.advance(LOOK_SECONDS + 1)
        for write in (cluster.delete(POD), cluster.evict(POD), cluster.create({})):
            with pytest.raises(TemporaryError, match="nothing was done"):
                await write
        with pytest.raises(NotFound):  # reading is always allowed
            await cluster.get(POD)
        assert stage.cluster.writes == []


async def test_what_was_begun_in_time_may_be_ended(tmp_path: Path) -> None:
    """Later writes of one action are not held to the age of the look: a drain takes minutes."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        now = stage.clock.monotonic()
        lease = Lease(now + 600.0, 5.0, 600.0, now + LOOK_SECONDS)
        cluster: Cluster = FirstWrite(stage.cluster, lease, stage.clock)
        with pytest.raises(NotFound):  # it reached the cluster, which has no such pod
            await cluster.evict(POD)
        stage.clock.advance(LOOK_SECONDS + 60)
        with pytest.raises(NotFound):
            await cluster.delete(POD)
