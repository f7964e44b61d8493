"""What every action promises, on the fake cluster and on a real one."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from healer.actions.contract import Params, Presence
from healer.actions.registry import ACTIONS, BuiltIn
from healer.clients.kube import KubeCluster
from healer.domain.outcome import Applied, Outcome
from healer.domain.target import TargetRef
from healer.errors import Conflict, HealerError, NotFound, TimedOut
from healer.kernel.clock import SystemClock
from healer.testing.alerts import FakeAlerts
from healer.testing.clock import LoopClock
from healer.testing.cluster import FakeCluster
from tests.contract.action_scenarios import SCENARIOS, Scenario
from tests.contract.action_stage import Stage, said

WRITES = ("patch", "delete", "evict", "create")


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "fake":
        clock = LoopClock()
        yield Stage(FakeCluster(clock), "shop", clock, FakeAlerts(clock))
        return
    bed = request.getfixturevalue("cluster")
    namespace = request.getfixturevalue("namespace")
    system = SystemClock()
    kube = await KubeCluster.open(system, kubeconfig=str(bed.kubeconfig), context=bed.context)
    made = Stage(kube, namespace, system, FakeAlerts(system), real=bed)
    try:
        yield made
        await made.clean()
    finally:
        await kube.close()


@pytest.fixture(params=SCENARIOS, ids=str)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    found: Scenario = request.param
    return found


class Step:
    """One action on one target, as the engine would drive it."""

    def __init__(self, stage: Stage, scenario: Scenario, target: TargetRef) -> None:
        self.stage = stage
        self.target = target
        self.action: BuiltIn = ACTIONS[scenario.action]
        self.params: Params = self.action.params.model_validate(dict(scenario.params))
        self.before: dict[str, Any] = {}

    async def prepare(self) -> dict[str, Any]:
        seen = await self.stage.inner.observe(self.target)
        self.before = await self.action.prepare(self.stage.context(), self.params, seen)
        return self.before

    async def apply(self, **changes: Any) -> Applied:
        return await self.action.apply(
            self.stage.context(**changes), self.params, self.target, self.before
        )

    async def probe(self) -> Presence:
        return await self.action.probe(self.stage.context(), self.params, self.target, self.before)

    async def undo(self, evidence: Any) -> Applied | None:
        return await self.action.undo(
            self.stage.context(), self.params, self.target, {**self.before, **evidence}
        )

    async def now(self) -> Any:
        """The target as it was told to be, None when that incarnation is gone or going."""
        try:
            found = await self.stage.inner.get(self.target)
        except NotFound:
            return None
        if found["metadata"]["uid"] != self.target.uid:
            return None
        return None if "deletionTimestamp" in found["metadata"] else said(found)


async def begin(stage: Stage, scenario: Scenario) -> Step:
    if stage.real is not None and scenario.fake_only:
        pytest.skip(scenario.fake_only)
    return Step(stage, scenario, await scenario.setup(stage))


def test_every_action_has_a_scenario() -> None:
    """No registered action escapes this suite."""
    assert {scenario.action for scenario in SCENARIOS} == set(ACTIONS)


async def test_once(stage: Stage, scenario: Scenario) -> None:
    """An action is not there before, is there after, has one effect when applied twice with the
    same key, and its undo puts back what was."""
    step = await begin(stage, scenario)
    was = await step.now()
    before = await step.prepare()
    assert json.loads(json.dumps(before)) == before
    assert await step.now() == was
    if step.action.probeable:
        assert await step.probe() is Presence.NOT_APPLIED
    done = await step.apply()
    assert done.outcome is Outcome.APPLIED, done
    assert json.loads(json.dumps(dict(done.evidence))) == done.evidence
    # The undo is handed both together, so evidence must never hide what was before.
    assert {**before, **done.evidence} == {**done.evidence, **before}
    after = await step.now()
    if scenario.gone:
        assert after is None
    if step.action.probeable:
        assert await step.probe() is Presence.APPLIED
    again = await step.apply()
    assert again.outcome in {Outcome.APPLIED, Outcome.ALREADY_DONE}
    assert await step.now() == after
    undone = await step.undo(done.evidence)
    if not scenario.reversible:
        assert undone is None
        return
    assert undone is not None
    assert undone.outcome is Outcome.APPLIED, undone
    assert await step.now() == was


async def test_rights(stage: Stage, scenario: Scenario) -> None:
    """needs() names the rights of every call that is made, and none that is not."""
    step = await begin(stage, scenario)
    await step.prepare()
    await step.probe()
    done = await step.apply()
    await step.probe()
    await step.undo(done.evidence)
    needed = set(step.action.needs(step.params, step.target.kind))
    assert stage.cluster.used == needed
    assert needed <= set(step.action.needs(step.params))
    assert not [right for right in needed if "*" in str(right)]


async def test_dry_run(stage: Stage, scenario: Scenario) -> None:
    """A dry run is said to be one and changes nothing."""
    step = await begin(stage, scenario)
    was = await step.now()
    await step.prepare()
    done = await step.apply(dry_run=True)
    if step.action.name == "notify":
        assert done.outcome is Outcome.DRY_RUN
        return
    assert done.outcome is Outcome.DRY_RUN
    assert await step.now() == was
    assert stage.http.asked == []
    if step.action.probeable and not stage.http.asked:
        assert await step.probe() is Presence.NOT_APPLIED


async def test_parameters_survive_the_journal(scenario: Scenario) -> None:
    """Parameters that were written as JSON are read back the same."""
    schema = ACTIONS[scenario.action].params
    given = schema.model_validate(dict(scenario.params))
    kept = json.loads(json.dumps(given.model_dump(mode="json")))
    assert schema.model_validate(kept) == given


async def test_another_incarnation_is_left_alone(stage: Stage, scenario: Scenario) -> None:
    """A target that was replaced by another of its name is refused or found done, not touched."""
    if scenario.action in {"run_job", "http_call", "silence", "notify", "wait"}:
        return  # these act beside their target
    step = await begin(stage, scenario)
    await step.prepare()
    real = step.target
    was = await step.now()
    step.target = real.with_uid("00000000-0000-0000-0000-000000000000")
    try:
        done = await step.apply()
        assert scenario.gone
        assert done.outcome is Outcome.ALREADY_DONE
    except (Conflict, NotFound):
        assert not scenario.gone
    step.target = real
    assert await step.now() == was


@pytest.mark.parametrize("call", WRITES)
async def test_a_lost_answer(scenario: Scenario, call: str) -> None:
    """When the answer to its write is lost, the lookup says that it was done, and doing it again
    changes nothing more."""
    clock = LoopClock()
    fake = FakeCluster(clock)
    stage = Stage(fake, "shop", clock, FakeAlerts(clock))
    step = await begin(stage, scenario)
    await step.prepare()
    made = len(fake.writes)
    fake.fail_next(call, TimedOut("no answer"), after=True)
    lost: HealerError | None = None
    try:
        await step.apply()
    except HealerError as error:
        lost = error
    if lost is None:
        assert call not in {write.call for write in fake.writes[made:]}
        return
    assert lost.may_have_happened
    if scenario.action == "drain":
        return  # one pod's eviction was lost: the rest is still to do, as another test shows
    assert len(fake.writes) == made + 1
    assert await step.probe() is Presence.APPLIED
    after = await step.now()
    await step.apply()
    assert await step.now() == after
