"""The rendered manifests: complete, restricted, and as the settings expect them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from healer.actions.registry import ACTIONS
from healer.playbook_yaml import load_paths
from healer.playbook_yaml.loader import playbook_files
from healer.playbook_yaml.registry import shipped_registry
from healer.settings import load
from tests.deploy.rendered import DEPLOY, GROUPS, ROOT, base, compose, of_kind, pod_of, the

EVERYTHING = (*GROUPS, "act")


def settings_text() -> str:
    data = next(
        o["data"]
        for o in of_kind(base(), "ConfigMap")
        if o["metadata"]["name"].startswith("healer-settings-")
    )
    return str(data["healer.yaml"])


def test_one_object_a_file() -> None:
    """Each manifest under deploy holds one object, of the kind and name its file says."""
    for path in DEPLOY.rglob("*.yaml"):
        if path.name in {"kustomization.yaml", "healer.yaml", "cluster.yaml"}:
            continue
        if path.is_relative_to(DEPLOY / "base"):
            documents = list(yaml.safe_load_all(path.read_text()))
            assert len(documents) == 1, path
            words = documents[0]["kind"].lower()
            assert path.stem.replace("-", "").startswith(words), path


def test_everything_is_named_and_placed() -> None:
    """All of it is labelled as healer's, and what has a namespace is in `healer`."""
    for one in base():
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "healer", one["metadata"]
        assert labels["app.kubernetes.io/part-of"] == "healer", one["metadata"]
        if not one["kind"].startswith("Cluster") and one["kind"] != "Namespace":
            assert one["metadata"]["namespace"] == "healer", one["metadata"]


def test_namespace_enforces_restricted() -> None:
    """Pod Security *restricted* is enforced, warned of and audited."""
    labels = the(base(), "Namespace")["metadata"]["labels"]
    for mode in ("enforce", "warn", "audit"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_pod_is_restricted() -> None:
    """The pod is no root, writes to volumes only, has no capability, and the default seccomp."""
    pod = pod_of(base())
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["fsGroup"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert set(container["resources"]["requests"]) >= {"cpu", "memory"}
    kinds = {next(iter(v.keys() - {"name"})) for v in pod["volumes"]}
    assert kinds <= {"configMap", "secret", "persistentVolumeClaim", "emptyDir", "projected"}


def test_one_daemon_at_a_time_with_time_to_drain() -> None:
    """One replica, Recreate, a ReadWriteOncePod claim, and more grace than a drain takes."""
    from healer.app import DRAIN_SECONDS

    spec = the(base(), "Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= DRAIN_SECONDS + 10
    assert the(base(), "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOncePod"]


def test_probes_ask_the_health_listener() -> None:
    """Liveness asks /healthz and readiness /readyz on the port where health listens."""
    (container,) = pod_of(base())["containers"]
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    for probe, path in (
        ("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz"),
    ):  # fmt: skip
        assert container[probe]["httpGet"]["path"] == path
        assert container[probe]["httpGet"]["port"] == "health"
        assert container[probe]["timeoutSeconds"] > 1
    service = the(base(), "Service")["spec"]
    assert {p["targetPort"]: p["port"] for p in service["ports"]} == ports
    selected = the(base(), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= selected.items()


def test_settings_are_valid_and_agree_with_the_pod(tmp_path: Path) -> None:
    """The shipped settings load, listen on the pod's ports and name only files that are mounted."""
    file = tmp_path / "healer.yaml"
    file.write_text(settings_text())
    settings = load(file, {})
    (container,) = pod_of(base())["containers"]
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert settings.listen.webhook.port == ports["webhook"]
    assert settings.listen.health.port == ports["health"]
    assert not settings.listen.webhook.loopback
    assert not settings.listen.health.loopback
    assert settings.listen.api.loopback
    assert settings.kubernetes.own_namespace == "healer"
    mounts = {m["mountPath"] for m in container["volumeMounts"]}
    named = [
        settings.store.path, settings.pause_file, *settings.playbooks.paths,
        *(f for one in settings.sources.values() for f in one.token_files),
        *(f for one in settings.people.values() for f in one.token_files),
    ]  # fmt: skip
    for path in named:
        assert any(path.is_relative_to(mount) for mount in mounts), path
    writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
    for path in (settings.store.path, settings.pause_file):
        assert str(path.parent) in writable


def test_default_install_does_nothing(tmp_path: Path) -> None:
    """By default it is a dry run in mode observe, and `act` alone ends both."""
    file = tmp_path / "healer.yaml"
    file.write_text(settings_text())
    settings = load(file, {})
    assert settings.dry_run
    assert settings.autonomy.ceiling == "observe"
    (container,) = pod_of(compose(tmp_path / "over", ["act"]))["containers"]
    acting = load(file, {one["name"]: one["value"] for one in container["env"]})
    assert not acting.dry_run
    assert acting.autonomy.ceiling == "auto"


def test_shipped_playbooks_are_mounted() -> None:
    """The ConfigMap holds every shipped playbook but those for clusters without an alert for it."""
    data = the(base(), "ConfigMap", "healer-playbooks")["data"]
    shipped = {path.name for path in playbook_files([ROOT / "playbooks"])}
    left_out = shipped - data.keys()
    assert data.keys() <= shipped
    assert {name for name in left_out if "without-prometheus" not in name} == {
        "undo-rollout-past-deadline.yaml"
    }


def test_mounted_playbooks_load(tmp_path: Path) -> None:
    """What is in the ConfigMap loads as one set."""
    data = the(base(), "ConfigMap", "healer-playbooks")["data"]
    for name, text in data.items():
        (tmp_path / name).write_text(text)
    assert len(load_paths([tmp_path], shipped_registry()).playbooks) == len(data)


def secrets_in(value: Any, path: str = "") -> list[str]:
    """Places where a credential is given inline or by environment."""
    found: list[str] = []
    if isinstance(value, dict):
        if "secretKeyRef" in value or "secretRef" in value:
            found.append(path)
        for key, inner in value.items():
            found += secrets_in(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            found += secrets_in(inner, path)
    return found


def test_secrets_come_by_file_only(tmp_path: Path) -> None:
    """No Secret is shipped, and none is put into an environment."""
    objects = compose(tmp_path, EVERYTHING)
    assert of_kind(objects, "Secret") == []
    assert secrets_in(objects) == []
    assert secrets_in([{"env": [{"valueFrom": {"secretKeyRef": {}}}]}]) == [".env.valueFrom"]


def test_network_is_closed_but_for_a_list() -> None:
    """All pods of the namespace are cut off; healer alone has listed ports in each direction."""
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(base(), "NetworkPolicy")}
    assert policies["deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    spec = policies["healer"]
    labels = the(base(), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    for rule in spec["ingress"]:
        assert rule["from"]
        assert rule["ports"]
    assert all(rule["ports"] for rule in spec["egress"])
    anywhere = [p["port"] for rule in spec["egress"] if "to" not in rule for p in rule["ports"]]
    assert anywhere == [443, 6443]


@pytest.mark.parametrize("name", sorted({a.action_class for a in ACTIONS.values()}))
def test_each_class_of_actions_has_its_component(name: str) -> None:
    """A class of actions that needs rights is a component, and no other is."""
    needs = any(
        a.needs(a.params.model_construct()) for a in ACTIONS.values() if a.action_class == name
    )
    assert needs == (name in GROUPS)


def test_replicas_share_one_database_and_nothing_else(tmp_path: Path) -> None:
    """With `replicas` two pods roll one by one, keep apart, and hold no claim of their own."""
    objects = compose(tmp_path, ["replicas"])
    spec = the(objects, "Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert of_kind(objects, "PersistentVolumeClaim") == []
    pod = pod_of(objects)
    assert not any("persistentVolumeClaim" in volume for volume in pod["volumes"])
    labels = spec["template"]["metadata"]["labels"]
    for rule in pod["topologySpreadConstraints"]:
        assert rule["labelSelector"]["matchLabels"].items() <= labels.items()
    budget = the(objects, "PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert budget["maxUnavailable"] == 1


def test_replicas_settings_elect_by_the_lease_that_is_granted(tmp_path: Path) -> None:
    """The settings with `replicas` name a shared journal and the Lease that the Role is for."""
    objects = compose(tmp_path / "over", ["replicas"])
    file = tmp_path / "healer.yaml"
    file.write_text(settings_text())
    (container,) = pod_of(objects)["containers"]
    given = {one["name"]: one.get("value", "healer-7d9f8-x2v5k") for one in container["env"]}
    settings = load(file, given)
    assert settings.store.shared
    assert settings.election.enabled is None
    assert settings.worker.replica == "healer-7d9f8-x2v5k"
    mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
    assert mounts[str(Path(given["HEALER_STORE__URL_FILE"]).parent)] == "postgres"
    role = the(objects, "Role")
    assert role["metadata"]["namespace"] == settings.kubernetes.own_namespace
    (names,) = [rule["resourceNames"] for rule in role["rules"] if "resourceNames" in rule]
    assert names == [settings.election.lease_name]
    assert [rule["verbs"] for rule in role["rules"]] == [["create"], ["get", "update"]]
    assert the(objects, "RoleBinding")["roleRef"]["name"] == role["metadata"]["name"]
