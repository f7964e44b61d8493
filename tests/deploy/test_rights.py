"""The rights that `deploy/` grants: written from the code, exact, and harmless by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.rights import files, shipped
from healer.cli.rights import needed
from healer.playbook_yaml.registry import shipped_registry
from healer.ports import Permission
from tests.deploy.rendered import DEPLOY, GROUPS, base, compose, of_kind, the

READS = {"get", "list", "watch"}
#: Verbs and resources with which a holder makes itself more than it is.
FORBIDDEN_VERBS = {"*", "escalate", "bind", "impersonate", "deletecollection", "approve", "sign"}
FORBIDDEN_RESOURCES = {
    "*", "secrets", "pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "nodes/proxy",
    "services/proxy", "serviceaccounts", "serviceaccounts/token", "roles", "rolebindings",
    "clusterroles", "clusterrolebindings", "certificatesigningrequests", "tokenreviews",
    "pods/ephemeralcontainers", "mutatingwebhookconfigurations", "validatingwebhookconfigurations",
}  # fmt: skip


def granted(objects: list[dict[str, Any]]) -> set[Permission]:
    """Every right that some role grants."""
    found = set()
    for role in (*of_kind(objects, "ClusterRole"), *of_kind(objects, "Role")):
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for name in rule["resources"]:
                    resource, _, sub = name.partition("/")
                    found |= {Permission(verb, resource, group, sub) for verb in rule["verbs"]}
    return found


def test_files_are_what_the_code_needs() -> None:
    """Each generated file is what `python -m deploy.rights` writes now, and there is no other."""
    expected = files()
    for path, text in expected.items():
        assert path.read_text() == text, f"{path} is stale: run `python -m deploy.rights`"
    roles = set(DEPLOY.rglob("cluster-role.yaml"))
    assert roles == {path for path in expected if path.name == "cluster-role.yaml"}


def test_default_install_is_read_only() -> None:
    """The base reads, and creates Events; it can change nothing else."""
    writes = {one for one in granted(base()) if one.verb not in READS}
    assert writes == {Permission("create", "events")}


def test_all_components_together_cover_the_shipped_playbooks(tmp_path: Path) -> None:
    """With every component each right that `healer rbac playbooks` prints is granted."""
    all_of_it = granted(compose(tmp_path, GROUPS))
    assert set(needed(shipped(), shipped_registry())) <= all_of_it


def test_no_dangerous_right_is_granted(tmp_path: Path) -> None:
    """No wildcard, no Secrets, no way into containers, no way to more rights."""
    for right in granted(compose(tmp_path, GROUPS)):
        assert right.verb not in FORBIDDEN_VERBS, right
        name = f"{right.resource}/{right.subresource}" if right.subresource else right.resource
        assert name not in FORBIDDEN_RESOURCES, right
        assert right.group != "*", right


@pytest.mark.parametrize("name", GROUPS)
def test_a_component_grants_to_healer_only(tmp_path: Path, name: str) -> None:
    """A component adds one ClusterRole and its binding to healer's own account, nothing else."""
    before = {(o["kind"], o["metadata"]["name"]) for o in base()}
    after = compose(tmp_path, [name])
    added = {(o["kind"], o["metadata"]["name"]) for o in after} - before
    assert added == {("ClusterRole", f"healer-{name}"), ("ClusterRoleBinding", f"healer-{name}")}
    binding = the(after, "ClusterRoleBinding", f"healer-{name}")
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "healer", "namespace": "healer"}
    ]
    assert binding["roleRef"]["name"] == f"healer-{name}"
