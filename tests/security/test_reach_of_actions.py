"""What actions may not do, however a playbook asks: become root, read secrets, take traffic."""

import time
from typing import Any

import pytest
from pydantic import ValidationError

from healer.actions.json_patch import REFUSED_KINDS
from healer.actions.registry import ACTIONS
from healer.domain.kinds import RESOURCES
from healer.domain.target import Kind, TargetRef
from healer.errors import Refused
from healer.testing.alerts import FakeAlerts
from healer.testing.clock import FakeClock
from healer.testing.cluster import FakeCluster
from healer.testing.objects import an_object
from tests.contract.action_scenarios import Scenario
from tests.contract.action_stage import Stage
from tests.contract.test_action_contract import Step

PLAIN = {"name": "a", "image": "b"}
POD_SPECS: list[tuple[dict[str, Any], str]] = [
    ({"hostNetwork": True}, "into the node"),
    ({"hostUsers": True}, "into the node"),
    ({"nodeName": "node-a"}, "into the node"),
    ({"ephemeralContainers": [PLAIN]}, "into the node"),
    ({"serviceAccountName": "admin"}, "service_account"),
    ({"serviceAccount": "admin"}, "service_account"),
    ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "may reach into nodes"),
    ({"volumes": [{"name": "v", "csi": {"driver": "x"}}]}, "may reach into nodes"),
    ({"volumes": [{"name": "v", "projected": {}}]}, "may reach into nodes"),
    ({"volumes": [{"name": "v", "yetToCome": {}}]}, "may reach into nodes"),
    ({"volumes": {"name": "v"}}, "list of mappings"),
    ({"volumes": ["hostPath"]}, "list of mappings"),
    ({"initContainers": {"name": "x"}}, "list of mappings"),
    ({"containers": [{**PLAIN, "securityContext": {"privileged": True}}]}, "privileged"),
    ({"containers": [{**PLAIN, "securityContext": ["privileged"]}]}, "no mapping"),
    ({"initContainers": [{**PLAIN, "securityContext": {"privileged": True}}]}, "privileged"),
    ({"containers": [{**PLAIN, "securityContext": {"allowPrivilegeEscalation": True}}]}, "escal"),
    ({"containers": [{**PLAIN, "securityContext": {"procMount": "Unmasked"}}]}, "procMount"),
    (
        {"containers": [{**PLAIN, "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]},
        "SYS_ADMIN",
    ),
    ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "unconfined"),
    ({"securityContext": {"sysctls": [{"name": "kernel.x"}]}}, "sysctls"),
    ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, "windowsOptions"),
    ({"containers": [{**PLAIN, "ports": [{"hostPort": 80}]}]}, "hostPort"),
    ({"containers": [{**PLAIN, "env": {"A": "b"}}]}, "list of mappings"),
    ({"containers": [{"name": "a"}]}, "no `image`"),
    ({"containers": ["a"]}, "list of mappings"),
]


@pytest.mark.parametrize(("spec", "why"), POD_SPECS)
def test_a_job_stays_inside_its_container(spec: dict[str, Any], why: str) -> None:
    """A pod spec that reaches into the node, or is no pod spec at all, is refused by name."""
    given = {"template": {"containers": [PLAIN], **spec}, "service_account": "fixer"}
    with pytest.raises(ValidationError, match=why):
        ACTIONS["run_job"].params.model_validate(given)


def test_a_restricted_job_passes() -> None:
    """A pod spec of the level "restricted", with volumes of its own, is accepted."""
    context = {
        "allowPrivilegeEscalation": False, "runAsNonRoot": True, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    spec = {
        "containers": [{**PLAIN, "securityContext": context, "env": [{"name": "A", "value": "b"}]}],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x"}}],
    }
    ACTIONS["run_job"].params.model_validate({"template": spec, "service_account": "fixer"})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 40_000, "nested deeper"),
        ("- " * 20_000, "nested deeper"),
        ("a: &a [x]\nb: [*a, *a]", "aliases"),
        ("!!python/object/apply:os.system [echo]", "not YAML"),
        ("containers: [{name: a, image: b, securityContext: {privileged: true}}]", "privileged"),
        ("containers: [{name: a, image: b}]\nvolumes: [hostPath]", "list of mappings"),
        ("x" * 70_000, "longer than"),
        ("just text", "no pod spec"),
        ("a: 2026-99-99", "not YAML|no `containers`"),
    ],
)
async def test_a_hostile_template_only_fails_its_step(text: str, why: str) -> None:
    """Whatever somebody writes into the ConfigMap of a template, the step is refused by name."""
    cluster = FakeCluster(FakeClock())
    stage = Stage(cluster, "shop", FakeClock(), FakeAlerts(FakeClock()))
    target = cluster.add(an_object(Kind.CONFIG_MAP, "script", data={"pod.yaml": text}))

    async def there(_: Stage) -> TargetRef:
        return target

    params = {"config_map": "script", "service_account": "fixer"}
    began = time.process_time()
    with pytest.raises(Refused, match=why):
        await Step(stage, Scenario("run_job", there, params), target).prepare()
    assert time.process_time() - began < 2.0


def _change(path: str, value: Any = "x", op: str = "add") -> dict[str, Any]:
    return {"patch": [{"op": op, "path": path, **({} if op == "remove" else {"value": value})}]}


POD = "/spec/template/spec"
PATCHES = [
    _change(f"{POD}/serviceAccountName"),
    _change(f"{POD}/automountServiceAccountToken", True),
    _change(f"{POD}/securityContext", {}, "replace"),
    _change(f"{POD}/containers/0/securityContext", op="remove"),
    _change(f"{POD}/containers/0/securityContext/privileged", True),
    _change(f"{POD}/containers/-", {**PLAIN, "securityContext": {"privileged": True}}),
    _change(POD, {"containers": [PLAIN]}, "replace"),
    _change("/spec/template", {"spec": {"containers": [PLAIN]}}, "replace"),
    _change("/spec/jobTemplate/spec/template/spec", {"containers": [PLAIN]}, "replace"),
    _change(f"{POD}/containers", [PLAIN], "replace"),
    _change(f"{POD}/containers/0", PLAIN, "replace"),
    _change("/spec/jobTemplate/spec/template/spec/containers/0", PLAIN, "replace"),
    _change("/spec/containers/0", PLAIN, "replace"),
    _change(f"{POD}/volumes/-", {"name": "v", "hostPath": {"path": "/"}}),
    _change(f"{POD}/volumes/-", {"name": "v", "secret": {"secretName": "other"}}),
    _change(f"{POD}/volumes/-", {"name": "v", "projected": {"sources": []}}),
    _change(f"{POD}/containers/0/envFrom", [{"secretRef": {"name": "other"}}]),
    _change(f"{POD}/containers/0/env/-", {"name": "A", "valueFrom": {"secretKeyRef": {}}}),
    _change(f"{POD}/containers/0/ports/0/hostPort", 80),
    _change(f"{POD}/nodeName"),
    _change(f"{POD}/hostPID", True),
    _change("/spec/externalIPs", ["1.2.3.4"]),
    _change("/spec/externalName", "evil.example"),
    _change("/metadata/annotations/nginx.ingress.kubernetes.io~1configuration-snippet"),
    _change("/metadata/annotations/nginx.ingress.kubernetes.io~1Server-Snippet"),
    _change("/metadata/ownerReferences", []),
    _change("/metadata/namespace", "kube-system"),
    _change("/metadata/finalizers", [], "replace"),
    _change("/rules/0/verbs", ["*"]),
    _change("/roleRef/name", "cluster-admin"),
    _change("/webhooks/0/clientConfig", {}),
    _change("/secrets/0", {}),
    _change("/stringData/password"),
    _change("", {}, "replace"),
]


@pytest.mark.parametrize("patch", PATCHES, ids=lambda one: one["patch"][0]["path"])
def test_a_patch_gives_nobody_more_rights(patch: dict[str, Any]) -> None:
    """A JSON patch cannot touch accounts, security contexts, secrets, nodes, traffic or owners."""
    with pytest.raises(ValidationError):
        ACTIONS["json_patch"].params.model_validate(patch)


@pytest.mark.parametrize(
    "patch",
    [
        _change("/data/mode", "brown"),
        _change(f"{POD}/containers/0/env/0/value", "brown", "replace"),
        _change(f"{POD}/containers/0/resources/limits/memory", "1Gi", "replace"),
        _change("/spec/maxReplicas", 5, "replace"),
        _change("/metadata/annotations/example.com~1mode", "brown"),
        _change(f"{POD}/volumes/-", {"name": "tmp", "emptyDir": {}}),
    ],
    ids=lambda one: one["patch"][0]["path"],
)
def test_an_ordinary_patch_passes(patch: dict[str, Any]) -> None:
    """A patch of a value, a size or a mark is accepted."""
    ACTIONS["json_patch"].params.model_validate(patch)


def test_no_kind_gives_out_rights() -> None:
    """healer cannot even name Secrets, accounts, roles, webhooks, CRDs or API services."""
    never = ("secret", "serviceaccount", "role", "webhook", "customresource", "apiservice", "token",
             "certificatesigning", "validating", "mutating", "podsecurity")  # fmt: skip
    for kind in Kind:
        plural = RESOURCES[kind].plural
        assert not any(word in plural for word in never), plural
        assert RESOURCES[kind].group != "rbac.authorization.k8s.io"
    assert Kind.NAMESPACE in REFUSED_KINDS
