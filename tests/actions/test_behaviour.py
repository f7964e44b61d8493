"""What single actions do when things are not as planned, on the fake cluster."""

from typing import Any

import pytest

from healer.actions.contract import Presence
from healer.domain.outcome import Outcome
from healer.domain.target import Kind, TargetRef
from healer.errors import Conflict, HealerError, Refused, ServerFailed, Throttled, TimedOut
from healer.testing.alerts import FakeAlerts
from healer.testing.clock import FakeClock
from healer.testing.cluster import FakeCluster
from healer.testing.objects import a_node, a_template, a_workload, an_object
from tests.contract.action_scenarios import Scenario, a_claim, a_config_map, a_used_node
from tests.contract.action_stage import Stage
from tests.contract.test_action_contract import Step


@pytest.fixture
def stage() -> Stage:
    clock = FakeClock()
    return Stage(FakeCluster(clock), "shop", clock, FakeAlerts(clock))


def a_step(stage: Stage, action: str, target: TargetRef, **params: Any) -> Step:
    async def there(_: Stage) -> TargetRef:
        return target

    return Step(stage, Scenario(action, there, params), target)


def fake(stage: Stage) -> FakeCluster:
    assert isinstance(stage.inner, FakeCluster)
    return stage.inner


@pytest.fixture
def deployment(stage: Stage) -> TargetRef:
    return fake(stage).add(a_workload(Kind.DEPLOYMENT, "web", replicas=2))


async def test_scale_of_somebody_else(stage: Stage, deployment: TargetRef) -> None:
    """When somebody scaled in between, neither the step nor its undo overwrites it."""
    step = a_step(stage, "scale", deployment, by=2)
    await step.prepare()
    fake(stage).change(deployment, {"spec": {"replicas": 7}})
    with pytest.raises(Conflict, match=r"spec\.replicas .* is 7 and was 2"):
        await step.apply()
    with pytest.raises(Conflict, match="somebody else changed it"):
        await step.undo({})
    assert fake(stage).object(deployment)["spec"]["replicas"] == 7


async def test_scale_while_the_status_changes(stage: Stage, deployment: TargetRef) -> None:
    """A change of anything but the number of replicas does not keep the step from scaling."""
    step = a_step(stage, "scale", deployment, by=2)
    before = await step.prepare()
    fake(stage).change(deployment, {"metadata": {"labels": {"touched": "yes"}}})
    found = fake(stage).object(deployment)
    assert found["metadata"]["resourceVersion"] != before["resourceVersion"]
    assert (await step.apply()).outcome is Outcome.APPLIED
    assert fake(stage).object(deployment)["spec"]["replicas"] == 4


async def test_scale_at_its_bound(stage: Stage, deployment: TargetRef) -> None:
    """A relative step that is at its bound is refused rather than turned around."""
    fake(stage).change(deployment, {"spec": {"replicas": 9}})
    step = a_step(stage, "scale", deployment, by=1, max=5)
    with pytest.raises(Refused, match="has 9 replicas"):
        await step.prepare()


async def test_restart_of_a_paused_deployment(stage: Stage, deployment: TargetRef) -> None:
    """Restarting what is paused is refused, because nothing would restart."""
    fake(stage).change(deployment, {"spec": {"paused": True}})
    with pytest.raises(Refused, match="resume_rollout"):
        await a_step(stage, "restart_rollout", deployment).prepare()


async def test_restart_twice(stage: Stage, deployment: TargetRef) -> None:
    """The same restart twice leaves the generation and the pods as they are; another key does
    not."""
    step = a_step(stage, "restart_rollout", deployment)
    await step.prepare()
    await step.apply()
    generation = fake(stage).object(deployment)["metadata"]["generation"]
    pods = fake(stage).pods_of(deployment)
    await step.apply()
    assert fake(stage).object(deployment)["metadata"]["generation"] == generation
    assert fake(stage).pods_of(deployment) == pods
    await step.apply(key="r-1-s0a1")
    assert fake(stage).object(deployment)["metadata"]["generation"] == generation + 1
    assert await step.probe() is Presence.NOT_APPLIED


async def test_delete_never_takes_the_successor(stage: Stage) -> None:
    """When the pod of a StatefulSet was replaced under the same name, the new one is left alone."""
    owner = fake(stage).add(a_workload(Kind.STATEFUL_SET, "db", replicas=1))
    old = fake(stage).pods_of(owner)[0]
    step = a_step(stage, "delete_pod", old)
    await step.prepare()
    fake(stage).remove(old)
    new = fake(stage).pods_of(owner)[0]
    assert (new.name, new.uid != old.uid) == (old.name, True)
    done = await step.apply()
    assert done.outcome is Outcome.ALREADY_DONE
    assert await step.probe() is Presence.APPLIED
    assert fake(stage).pods_of(owner) == [new]


@pytest.mark.parametrize("action", ["delete_pod", "evict_pod"])
async def test_a_bare_pod_is_kept(stage: Stage, action: str) -> None:
    """A pod that nothing would make again is only lost on demand."""
    pod = fake(stage).add(an_object(Kind.POD, "bare", spec=a_template("x")["spec"]))
    with pytest.raises(Refused, match="force: true"):
        await a_step(stage, action, pod).prepare()
    step = a_step(stage, action, pod, force=True)
    await step.prepare()
    assert (await step.apply()).outcome is Outcome.APPLIED


async def test_evict_asks_the_budget(stage: Stage) -> None:
    """A PodDisruptionBudget that refuses is Throttled, and nothing has happened."""
    fake(stage).add(_budget(2))
    owner = fake(stage).add(a_workload(Kind.REPLICA_SET, "web", replicas=2))
    pods = fake(stage).pods_of(owner)
    step = a_step(stage, "evict_pod", pods[0])
    await step.prepare()
    with pytest.raises(Throttled):
        await step.apply()
    assert fake(stage).pods_of(owner) == pods


def _budget(minimum: int) -> dict[str, Any]:
    spec = {"minAvailable": minimum, "selector": {"matchLabels": {"app": "web"}}}
    return an_object(Kind.PDB, "web", spec=spec)


async def test_drain_against_a_budget(stage: Stage) -> None:
    """A drain that a budget stops for good has cordoned, evicted nothing, and says Throttled."""
    node = await a_used_node(stage)
    fake(stage).add(_budget(2))
    step = a_step(stage, "drain", node)
    await step.prepare()
    with pytest.raises(Throttled, match="2 of 2 pods"):
        await step.apply(timeout_seconds=1.0)
    assert fake(stage).object(node)["spec"]["unschedulable"]
    assert await step.probe() is Presence.NOT_APPLIED


async def test_drain_half_way(stage: Stage) -> None:
    """A drain that runs out of time half way may have happened, is found not done, and a second
    one evicts only what is left."""
    node = await a_used_node(stage)
    fake(stage).add(_budget(1))
    for pod in await fake(stage).list(Kind.POD, "shop", labels="app=web"):
        ref = TargetRef(Kind.POD, pod["metadata"]["name"], "shop")
        if pod["spec"]["nodeName"] == node.name:
            keep = ref
    fake(stage).change(keep, {"metadata": {"labels": {"app": "other"}}})
    other = _budget(1)
    other["metadata"]["name"] = "other"
    other["spec"]["selector"]["matchLabels"]["app"] = "other"
    fake(stage).add(other)
    fake(stage).remove(TargetRef(Kind.PDB, "web", "shop"))
    step = a_step(stage, "drain", node)
    await step.prepare()
    with pytest.raises(TimedOut, match="1 of 2 pods") as lost:
        await step.apply(timeout_seconds=1.0)
    assert lost.value.may_have_happened
    assert await step.probe() is Presence.NOT_APPLIED
    fake(stage).remove(TargetRef(Kind.PDB, "other", "shop"))
    evictions = fake(stage).calls["evict"]
    assert (await step.apply()).outcome is Outcome.APPLIED
    assert fake(stage).calls["evict"] == evictions + 1
    assert await step.probe() is Presence.APPLIED


async def test_drain_spares_daemons(stage: Stage) -> None:
    """Pods of a DaemonSet and static pods stay; a pod without a controller stops the drain before
    it begins."""
    node = fake(stage).add(a_node("n1"))
    daemons = fake(stage).add(a_workload(Kind.DAEMON_SET, "agent"))
    on = fake(stage).pods_of(daemons)
    mirror = an_object(Kind.POD, "static", annotations={"kubernetes.io/config.mirror": "x"})
    fake(stage).add({**mirror, "spec": {"nodeName": "n1"}})
    step = a_step(stage, "drain", node)
    await step.prepare()
    await step.apply()
    assert fake(stage).pods_of(daemons) == on
    assert fake(stage).calls["evict"] == 0
    fake(stage).add(an_object(Kind.POD, "bare", spec={"nodeName": "n1"}))
    with pytest.raises(Refused, match="Pod/shop/bare"):
        await a_step(stage, "drain", node).prepare()


async def test_a_cordon_of_somebody_else_stays(stage: Stage) -> None:
    """Undo lifts only the step's own cordon."""
    node = fake(stage).add(a_node("n1"))
    step = a_step(stage, "cordon", node)
    await step.prepare()
    await step.apply()
    mark = {"metadata": {"annotations": {"healer.dev/cordoned-by": None}}}
    fake(stage).change(node, mark)
    assert await step.undo({}) is None
    assert fake(stage).object(node)["spec"]["unschedulable"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"status": {"phase": "Pending"}}, "not Bound"),
        ({"spec": {"resources": {"requests": {"storage": "8Gi"}}}}, "never shrinks"),
        ({"status": {"capacity": {"storage": "512Mi"}}}, "being resized"),
        ({"spec": {"storageClassName": None}}, "no StorageClass"),
    ],
)
async def test_claims_that_stay(stage: Stage, change: dict[str, Any], why: str) -> None:
    """A claim that is not bound, large enough, being resized or without a class is refused."""
    claim = await a_claim(stage)
    fake(stage).change(claim, change)
    with pytest.raises(Refused, match=why):
        await a_step(stage, "expand_pvc", claim, to="2Gi", limit="4Gi").prepare()


async def test_a_class_that_cannot_expand(stage: Stage) -> None:
    """A StorageClass without allowVolumeExpansion is refused by its name."""
    claim = await a_claim(stage)
    name = fake(stage).object(claim)["spec"]["storageClassName"]
    fake(stage).change(TargetRef(Kind.STORAGE_CLASS, name), {"allowVolumeExpansion": False})
    with pytest.raises(Refused, match=f"StorageClass {name}"):
        await a_step(stage, "expand_pvc", claim, to="2Gi", limit="4Gi").prepare()


async def test_a_job_at_work_stays(stage: Stage) -> None:
    """A running Job is deleted only after `stuck_after`."""
    job = fake(stage).add(a_workload(Kind.JOB, "task", replicas=1))
    with pytest.raises(Refused, match="stuck_after"):
        await a_step(stage, "delete_job", job).prepare()
    step = a_step(stage, "delete_job", job, stuck_after="1m")
    with pytest.raises(Refused, match="at work"):
        await step.prepare()
    seen = await stage.inner.observe(job)
    later = stage.context(at=stage.clock.now() + 61)
    assert await step.action.prepare(later, step.params, seen)


async def test_run_job_refuses_a_changed_template(stage: Stage) -> None:
    """A template in a ConfigMap that is not the reviewed one is not run."""
    flags = await a_config_map(stage)
    params = {"config_map": "flags", "service_account": "fixer", "sha256": "0" * 64}
    with pytest.raises(Refused, match="not the `sha256` that was reviewed"):
        await a_step(stage, "run_job", flags, **params).prepare()


async def test_run_job_of_another_run(stage: Stage) -> None:
    """A Job of the same name that is not of this run is not taken for ours."""
    flags = await a_config_map(stage)
    pod = {"containers": [{"name": "x", "image": "y"}]}
    step = a_step(stage, "run_job", flags, template=pod, service_account="fixer")
    await step.prepare()
    fake(stage).add(a_workload(Kind.JOB, "r-1-s0", replicas=1))
    with pytest.raises(Conflict, match="not of this run"):
        await step.apply()


async def test_the_job_is_told_its_target(stage: Stage) -> None:
    """The Job knows its target by environment, runs once, as its own account, for a bounded
    time."""
    flags = await a_config_map(stage)
    pod = {"containers": [{"name": "x", "image": "y"}]}
    step = a_step(stage, "run_job", flags, template=pod, service_account="fixer", deadline="1m")
    spec = (await step.prepare())["manifest"]["spec"]
    env = {one["name"]: one["value"] for one in spec["template"]["spec"]["containers"][0]["env"]}
    assert env["HEALER_TARGET_NAME"] == "flags"
    assert env["HEALER_TARGET_UID"] == flags.uid
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (0, 60)
    assert spec["template"]["spec"]["serviceAccountName"] == "fixer"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


async def test_a_switch_to_nothing(stage: Stage) -> None:
    """A Service is not pointed at a label that no ready pod has."""
    spec = {"selector": {"app": "web", "colour": "blue"}}
    service = fake(stage).add(an_object(Kind.SERVICE, "web", spec=spec))
    with pytest.raises(Refused, match="nothing would answer"):
        await a_step(stage, "switch_service", service, key="colour", to="green").prepare()
    with pytest.raises(Refused, match="has no shade"):
        await a_step(stage, "switch_service", service, key="shade", to="green").prepare()


async def test_json_patch_after_a_change(stage: Stage) -> None:
    """A patch whose values changed since it was planned is refused, and so is a failing test."""
    flags = await a_config_map(stage)
    test = {"op": "test", "path": "/data/mode", "value": "full"}
    change = {"op": "replace", "path": "/data/mode", "value": "brown"}
    step = a_step(stage, "json_patch", flags, patch=[test, change])
    await step.prepare()
    fake(stage).change(flags, {"data": {"mode": "off"}})
    with pytest.raises(Conflict, match="left alone"):
        await step.apply()
    assert await step.probe() is Presence.UNKNOWN
    with pytest.raises(Refused, match="operation 1: /data/mode is 'off'"):
        await a_step(stage, "json_patch", flags, patch=[test, change]).prepare()


@pytest.mark.parametrize(
    ("status", "error", "may_have_happened"),
    [
        (400, Refused, False),
        (302, Refused, False),
        (429, Throttled, False),
        (500, ServerFailed, True),
    ],
)
async def test_http_answers(
    stage: Stage, status: int, error: type[HealerError], may_have_happened: bool
) -> None:
    """A refusal has had no effect; a failing server may have had one, and then nobody knows."""
    flags = await a_config_map(stage)
    step = a_step(stage, "http_call", flags, url="http://fixer.example/do")
    await step.prepare()
    stage.http.status = status
    with pytest.raises(error) as raised:
        await step.apply()
    assert raised.value.may_have_happened is may_have_happened
    assert await step.probe() is Presence.UNKNOWN
    assert stage.http.asked[0][2]["Idempotency-Key"] == "r-1-s0"


async def test_an_idempotent_call_may_be_repeated(stage: Stage) -> None:
    """Nobody can tell whether an idempotent call without a lookup happened: it may be repeated."""
    flags = await a_config_map(stage)
    step = a_step(stage, "http_call", flags, url="http://fixer.example/do", idempotent=True)
    await step.prepare()
    assert await step.probe() is Presence.REPEATABLE


async def test_an_idempotent_call_is_repeated_under_the_same_key(stage: Stage) -> None:
    """Every attempt at a call has the step's key: the other side does it once for one key."""
    flags = await a_config_map(stage)
    step = a_step(stage, "http_call", flags, url="http://fixer.example/do", idempotent=True)
    for key in ("r-1-s0", "r-1-s0a1", "r-1-s0a2"):
        context = stage.context(key=key)
        seen = await stage.inner.observe(flags)
        before = await step.action.prepare(context, step.params, seen)
        await step.action.apply(context, step.params, flags, before)
    sent = {headers["Idempotency-Key"] for _, _, headers, *_ in stage.http.asked}
    assert sent == {"r-1-s0"}


async def test_a_wait_that_does_not_fit(stage: Stage) -> None:
    """A wait longer than the step's own timeout is refused with the remedy."""
    flags = await a_config_map(stage)
    with pytest.raises(Refused, match="longer `timeout`"):
        await a_step(stage, "wait", flags, **{"for": "5m"}).prepare()


async def test_resize_keeps_requests_below_limits(stage: Stage) -> None:
    """A request that would end above its limit is refused before anything is sent."""
    template = a_template("web")
    sizes = {"requests": {"memory": "64Mi"}, "limits": {"memory": "96Mi"}}
    template["spec"]["containers"][0]["resources"] = sizes
    web = fake(stage).add(a_workload(Kind.DEPLOYMENT, "web", spec={"template": template}))
    memory = {"factor": 2.0, "limit": "1Gi"}
    with pytest.raises(Refused, match="above its limit 96Mi"):
        await a_step(stage, "resize_resources", web, memory=memory, of="requests").prepare()
    step = a_step(stage, "resize_resources", web, memory=memory)
    before = await step.prepare()
    assert before["to"] == {"requests": {"memory": "128Mi"}, "limits": {"memory": "192Mi"}}


async def test_resize_stops_at_its_limit(stage: Stage) -> None:
    """A factor never passes its limit, and at the limit the step is refused."""
    template = a_template("web")
    template["spec"]["containers"][0]["resources"] = {"limits": {"memory": "192Mi"}}
    web = fake(stage).add(a_workload(Kind.DEPLOYMENT, "web", spec={"template": template}))
    memory = {"factor": 2.0, "limit": "256Mi"}
    step = a_step(stage, "resize_resources", web, memory=memory)
    assert (await step.prepare())["to"] == {"limits": {"memory": "256Mi"}}
    await step.apply()
    with pytest.raises(Refused, match="nothing would change"):
        await a_step(stage, "resize_resources", web, memory=memory).prepare()
