"""What Kubernetes objects, as JSON, are read to say."""

from typing import Any

import pytest

from healer.domain.kinds import RESOURCES, kind_of
from healer.domain.manifests import (
    FAILED_SECONDS,
    STARTING_SECONDS,
    counts_in_domain,
    gitops_managers,
    hpa_for,
    is_bad,
    selector_text,
    worst_reason,
)
from healer.domain.target import Health, Kind, TargetRef
from healer.domain.workloads import Seen, health_of, observation, rollout_of
from healer.kernel.clock import rfc3339
from healer.testing.clock import START
from healer.testing.objects import a_workload, an_object, crashing_status, ready_status


def deployment(reason: str = "", **status: Any) -> dict[str, Any]:
    """A Deployment of 3 whose controller has seen generation 1."""
    value = a_workload(Kind.DEPLOYMENT, "web", replicas=3)
    value["metadata"]["generation"] = 1
    value["status"] = {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3} | status
    if reason:
        value["status"]["conditions"] = [{"type": "Progressing", "reason": reason}]
    return value


@pytest.mark.parametrize(
    ("value", "going"),
    [
        (deployment("NewReplicaSetAvailable", availableReplicas=3), False),
        (deployment("NewReplicaSetAvailable", availableReplicas=1), False),  # pods died later
        (deployment("NewReplicaSetAvailable", replicas=4), True),  # an old pod is still there
        (deployment("ReplicaSetUpdated", availableReplicas=2), True),
        (deployment("ReplicaSetUpdated", updatedReplicas=1), True),
        (deployment("ProgressDeadlineExceeded", updatedReplicas=1), False),  # stuck
        (deployment(availableReplicas=3), False),  # no deadline, hence no condition
        (deployment(availableReplicas=2), True),
        (deployment("NewReplicaSetAvailable", observedGeneration=0), True),  # not looked at yet
    ],
)
def test_when_a_deployment_rolls(value: dict[str, Any], *, going: bool) -> None:
    """A Deployment rolls from its new generation until its last new pod is available, or stuck."""
    assert rollout_of(Kind.DEPLOYMENT, value).in_progress is going


@pytest.mark.parametrize(
    ("strategy", "status", "going"),
    [
        ({}, {"currentRevision": "a", "updateRevision": "a"}, False),
        ({}, {"currentRevision": "a", "updateRevision": "b", "updatedReplicas": 1}, True),
        ({"type": "OnDelete"}, {"currentRevision": "a", "updateRevision": "b"}, False),
        (
            {"rollingUpdate": {"partition": 2}},
            {"currentRevision": "a", "updateRevision": "b", "updatedReplicas": 1},
            False,
        ),
    ],
)
def test_when_a_stateful_set_rolls(
    strategy: dict[str, Any], status: dict[str, Any], *, going: bool
) -> None:
    """A StatefulSet rolls until the pods above its partition are new; by hand it never does."""
    value = a_workload(Kind.STATEFUL_SET, "db", replicas=3)
    value["spec"]["updateStrategy"] = strategy
    value["status"] = status
    assert rollout_of(Kind.STATEFUL_SET, value).in_progress is going


def test_a_daemon_set_counts_its_nodes() -> None:
    """A DaemonSet wants one pod a node and rolls until each of them is new."""
    value = a_workload(Kind.DAEMON_SET, "agent")
    value["status"] = {
        "desiredNumberScheduled": 4, "updatedNumberScheduled": 3, "numberReady": 2,
    }  # fmt: skip
    seen = rollout_of(Kind.DAEMON_SET, value)
    assert (seen.replicas, seen.ready, seen.updated, seen.in_progress) == (4, 2, 3, True)


@pytest.mark.parametrize(
    ("kind", "status", "health"),
    [
        (Kind.POD, ready_status(), Health.HEALTHY),
        (Kind.POD, crashing_status(), Health.UNHEALTHY),
        (Kind.POD, {"phase": "Unknown"}, Health.UNKNOWN),
        (Kind.NODE, {"conditions": [{"type": "Ready", "status": "True"}]}, Health.HEALTHY),
        (Kind.NODE, {"conditions": [{"type": "Ready", "status": "Unknown"}]}, Health.UNKNOWN),
        (Kind.NODE, {}, Health.UNKNOWN),
        (Kind.JOB, {"conditions": [{"type": "Failed", "status": "True"}]}, Health.UNHEALTHY),
        (Kind.JOB, {"active": 1}, Health.UNKNOWN),
        (Kind.PVC, {"phase": "Bound"}, Health.HEALTHY),
        (Kind.PVC, {"phase": "Lost"}, Health.UNHEALTHY),
        (Kind.CONFIG_MAP, {}, Health.UNKNOWN),
    ],
)
def test_health_is_what_the_object_says(kind: Kind, status: dict[str, Any], health: Health) -> None:
    """Each kind's own status decides its health, and saying nothing is unknown."""
    assert health_of(kind, an_object(kind, "x", status=status)) is health


def test_a_deployment_not_looked_at_yet_is_of_unknown_health() -> None:
    """Numbers of an older generation say nothing about the present one."""
    value = deployment(readyReplicas=3)
    assert health_of(Kind.DEPLOYMENT, value) is Health.HEALTHY
    value["metadata"]["generation"] = 2
    assert health_of(Kind.DEPLOYMENT, value) is Health.UNKNOWN


def pod(age: float = 3600.0, **status: Any) -> dict[str, Any]:
    """A pod of that age in seconds."""
    value = an_object(Kind.POD, "web-0", status=status)
    value["metadata"]["creationTimestamp"] = rfc3339(START - age)
    return value


@pytest.mark.parametrize(
    ("value", "counted", "bad"),
    [
        (pod(**ready_status()), True, False),
        (pod(**crashing_status()), True, True),
        (pod(phase="Pending"), True, True),
        (pod(STARTING_SECONDS - 1, phase="Pending"), True, False),
        (pod(STARTING_SECONDS + 1, phase="Pending"), True, True),
        (pod(5, **crashing_status()), True, True),
        (pod(phase="Succeeded"), False, False),
        (pod(FAILED_SECONDS - 1, phase="Failed"), True, True),
        (pod(FAILED_SECONDS + 1, phase="Failed"), False, True),
    ],
)
def test_which_pods_are_bad(value: dict[str, Any], *, counted: bool, bad: bool) -> None:
    """Not ready and no longer starting is bad; what ended long ago does not count at all."""
    assert counts_in_domain(value, START) is counted
    assert is_bad(value, START) is bad


def test_a_terminating_pod_is_bad_even_when_ready() -> None:
    """A pod that is going away takes health with it before it is gone."""
    value = pod(**ready_status())
    value["metadata"]["deletionTimestamp"] = rfc3339(START)
    assert is_bad(value, START)


def container(state: dict[str, Any], last: dict[str, Any] | None = None) -> dict[str, Any]:
    """One container status."""
    return {"state": state, "lastState": {"terminated": last} if last else {}}


@pytest.mark.parametrize(
    ("statuses", "more", "reason"),
    [
        ([container({"running": {}})], {}, ""),
        (
            [
                container({"waiting": {"reason": "ContainerCreating"}}),
                container({"waiting": {"reason": "ImagePullBackOff"}}),
            ],
            {},
            "ImagePullBackOff",
        ),
        ([container({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})], {}, "OOMKilled"),
        ([container({"terminated": {"exitCode": 0, "reason": "Completed"}})], {}, ""),
        (
            [container({"running": {}}, {"exitCode": 137, "reason": "OOMKilled"})],
            {},
            "OOMKilled",
        ),
        ([], {"reason": "Evicted", "phase": "Failed"}, "Evicted"),
        (
            [],
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
                ]
            },
            "Unschedulable",
        ),
    ],
)
def test_the_worst_reason_is_told(
    statuses: list[dict[str, Any]], more: dict[str, Any], reason: str
) -> None:
    """Of all a pod's containers the reason that explains most is told."""
    assert worst_reason(pod(containerStatuses=statuses, **more)) == reason


@pytest.mark.parametrize(
    ("metadata", "managers"),
    [
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, ()),
        ({"labels": {"argocd.argoproj.io/instance": "shop"}}, ("argocd",)),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps"}}, ("argocd",)),
        ({"managedFields": [{"manager": "argocd-controller"}]}, ("argocd",)),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "shop"}}, ("flux",)),
        ({"managedFields": [{"manager": "kustomize-controller"}]}, ("flux",)),
        ({"managedFields": [{"manager": "kubectl"}]}, ()),
    ],
)
def test_gitops_tools_are_known_by_their_marks(
    metadata: dict[str, Any], managers: tuple[str, ...]
) -> None:
    """Argo CD and Flux are known by label, annotation or managed field; Helm alone is nobody."""
    assert gitops_managers([{"metadata": metadata}]) == managers


def test_selectors_are_written_as_the_api_reads_them() -> None:
    """All operators are written out, and an empty selector is an error, not everything."""
    text = selector_text(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "x", "operator": "NotIn", "values": ["c"]},
                {"key": "y", "operator": "Exists"},
                {"key": "z", "operator": "DoesNotExist"},
            ],
        }
    )
    assert text == "app=web,tier in (a,b),x notin (c),y,!z"
    with pytest.raises(ValueError, match="every pod"):
        selector_text({})


def test_a_kind_of_another_group_is_not_ours() -> None:
    """A `Job` of another API group is not the Job healer knows."""
    assert kind_of({"kind": "Job", "apiVersion": "batch/v1"}) is Kind.JOB
    assert kind_of({"kind": "Job", "apiVersion": "batch.volcano.sh/v1alpha1"}) is None
    assert kind_of({"kind": "Rollout", "apiVersion": "argoproj.io/v1alpha1"}) is None
    assert set(RESOURCES) == set(Kind)


def test_an_autoscaler_counts_only_for_its_own_target() -> None:
    """Namespace, kind and name of `scaleTargetRef` must all be the workload's."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    hpa = an_object(Kind.HPA, "web-hpa", "shop", spec={"scaleTargetRef": target})
    assert hpa_for(TargetRef(Kind.DEPLOYMENT, "web", "shop"), [hpa]) is not None
    assert hpa_for(TargetRef(Kind.DEPLOYMENT, "web", "other"), [hpa]) is None
    assert hpa_for(TargetRef(Kind.STATEFUL_SET, "web", "shop"), [hpa]) is None
    assert hpa_for(TargetRef(Kind.DEPLOYMENT, "api", "shop"), [hpa]) is None


def test_leftover_pods_do_not_count_to_their_workload() -> None:
    """Evicted leftovers are no pods of a Deployment any more, unless one is the target itself."""
    value = deployment()
    evicted = pod(phase="Failed", reason="Evicted")
    evicted["metadata"]["uid"] = "gone"
    running = pod(**ready_status())
    running["metadata"]["uid"] = "here"
    pods = (running, evicted)

    def uids(kind: Kind, target: dict[str, Any], top: dict[str, Any] | None) -> set[str]:
        seen = Seen(kind, target, top, Kind.DEPLOYMENT if top else None, pods)
        return {state.ref.uid for state in observation(seen, START, lambda _: "").pods}

    assert uids(Kind.DEPLOYMENT, value, None) == {"here"}
    assert uids(Kind.POD, evicted, value) == {"here", "gone"}
