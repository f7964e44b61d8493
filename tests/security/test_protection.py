"""Protected objects stay untouched, whatever a playbook or an alert says."""

from dataclasses import replace
from pathlib import Path

import pytest

from healer.domain.protection import PROTECT_ANNOTATION, Protection, protected_because
from healer.domain.target import Kind, Observation, TargetRef
from healer.domain.verdict import Reason
from healer.engine.world import EngineOptions
from healer.playbook_yaml import parse
from healer.playbook_yaml.registry import shipped_registry
from healer.testing.builders import a_playbook
from tests.engine.stage import a_stage

JOB = """\
apiVersion: healer.dev/v1alpha1
kind: Playbook
metadata: {name: run-it}
spec:
  summary: Runs a Job.
  mode: auto
  when: {alert: '{alertname="KubePodCrashLooping"}'}
  target: {kind: Pod, namespace: '${labels.namespace}', name: '${labels.pod}'}
  steps:
    - name: run
      action: run_job
      with:
        namespace: NAMESPACE
        service_account: fixer
        template: {containers: [{name: a, image: b}]}
"""


def _pod(**changes: object) -> Observation:
    seen = Observation(
        TargetRef(Kind.POD, "web-1", "shop", "u1"), 0.0, "1",
        owner=TargetRef(Kind.DEPLOYMENT, "web", "shop", "u2"),
    )  # fmt: skip
    return replace(seen, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "protection"),
    [
        (_pod(annotations={PROTECT_ANNOTATION: " TRUE "}), Protection()),
        (_pod(owner_annotations={PROTECT_ANNOTATION: "true"}), Protection()),
        (_pod(), Protection(kinds=("Deployment",))),
        (_pod(), Protection(objects=("Deployment/shop/web",))),
        (_pod(), Protection(namespaces=("shop",))),
        (_pod(), Protection(own_namespace="shop")),
        (_pod(labels={"app.kubernetes.io/name": "x", "k8s-app": "kube-dns"}), Protection()),
        (
            _pod(annotations={PROTECT_ANNOTATION: "true"}),
            Protection(unprotected_namespaces=("shop",)),
        ),
    ],
)
def test_a_pod_is_protected_with_its_workload(seen: Observation, protection: Protection) -> None:
    """What protects a pod, its workload or their namespace protects the pod; no exception lifts
    an annotation."""
    assert protected_because(seen, protection)


def test_what_nobody_protects_may_be_healed() -> None:
    """An ordinary pod of an ordinary workload is not protected."""
    assert protected_because(_pod(), Protection(own_namespace="healer")) == ""


async def test_a_pod_of_an_annotated_workload_is_left_alone(tmp_path: Path) -> None:
    """A pod whose Deployment is annotated is not deleted, and the reason is target_protected."""
    async with a_stage(tmp_path, a_playbook()) as stage:
        annotated = {"metadata": {"annotations": {PROTECT_ANNOTATION: "true"}}}
        stage.cluster.change(stage.web, annotated)
        pod = stage.pod()
        stage.break_pod(pod)
        episode = await stage.fire(pod)
        await stage.settle()
        assert (await stage.episode(episode)).reason is Reason.TARGET_PROTECTED
        assert stage.deleted() == []


@pytest.mark.parametrize("namespace", ["kube-system", "healer", "payments"])
async def test_a_job_does_not_run_in_a_protected_namespace(tmp_path: Path, namespace: str) -> None:
    """A Job that a playbook sends into a protected namespace is refused, wherever its target is."""
    playbook = parse(JOB.replace("NAMESPACE", namespace), shipped_registry())
    async with a_stage(tmp_path, playbook) as stage:
        stage.options(protection=Protection("healer", namespaces=("payments",)))
        pod = stage.pod()
        stage.break_pod(pod)
        episode = await stage.fire(pod)
        await stage.settle()
        assert (await stage.episode(episode)).reason is Reason.TARGET_PROTECTED
        assert not stage.cluster.writes


async def test_the_same_job_runs_elsewhere(tmp_path: Path) -> None:
    """The same playbook runs its Job in a namespace that nobody protects."""
    playbook = parse(JOB.replace("NAMESPACE", "tools"), shipped_registry())
    async with a_stage(tmp_path, playbook) as stage:
        pod = stage.pod()
        stage.break_pod(pod)
        await stage.fire(pod)
        await stage.settle()
        assert [write.call for write in stage.cluster.writes] == ["create"]


def test_the_default_protects() -> None:
    """Without any setting, the cluster's own namespaces are protected."""
    kube = _pod(ref=TargetRef(Kind.POD, "x", "kube-system", "u"))
    assert protected_because(kube, EngineOptions().protection)
