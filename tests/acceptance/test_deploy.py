"""What `deploy/` makes of a real cluster: accepted, restricted, exact, and it heals as a pod."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from healer.ports import Permission
from tests.acceptance.test_healing import all_ready, deletes, sicken
from tests.bed.alertmanager import Alertmanager
from tests.bed.builds import kube_program
from tests.bed.cluster import Cluster
from tests.bed.errors import BedError
from tests.bed.python_images import python_image
from tests.bed.waiting import until
from tests.deploy.rendered import DEPLOY, GROUPS, ROOT, build, compose, of_kind, overlay
from tests.deploy.test_rights import FORBIDDEN_RESOURCES, READS, granted

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]

ACCOUNT = "system:serviceaccount:healer:healer"
IMAGE = "localhost/healer:test"
PLAYBOOK = ROOT / "tests" / "demo" / "playbooks" / "replace-crash-looping-pod.yaml"
Install = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def install(cluster: Cluster, tmp_path: Path) -> Iterator[Install]:
    """Apply an overlay of the base by server-side apply, any warning an error; removed after."""
    if cluster.kind == "named":
        pytest.skip("a named cluster may have a healer of its own in the namespace `healer`")
    made: list[tuple[str, str]] = []

    def apply(components: Iterable[str] = (), **more: Any) -> list[dict[str, Any]]:
        objects = build(overlay(tmp_path / "overlay", components, **more))
        made.extend((o["kind"], o["metadata"]["name"]) for o in objects)
        cluster.kubectl(
            "apply", "--server-side", "--warnings-as-errors", "-f", "-",
            stdin=yaml.safe_dump_all(objects),
        )  # fmt: skip
        return objects

    yield apply
    for kind, name in made:
        if kind in {"ClusterRole", "ClusterRoleBinding", "Namespace"}:
            cluster.kubectl("delete", kind, name, "--ignore-not-found", "--wait=true")


@pytest.mark.parametrize("more", [[], ["replicas"]])
def test_the_api_server_accepts_everything_without_a_warning(
    cluster: Cluster, install: Install, more: list[str]
) -> None:
    """Every object of the base and all rights is stored, and none draws a warning."""
    objects = install([*GROUPS, "act", *more])
    for one in objects:
        meta = one["metadata"]
        place = ["-n", meta["namespace"]] if "namespace" in meta else []
        assert cluster.get(one["kind"], meta["name"], *place)["kind"] == one["kind"]
    again = install([*GROUPS, "act", *more])
    assert again == objects


def test_the_namespace_refuses_what_is_not_restricted(cluster: Cluster, install: Install) -> None:
    """A pod that may become root is refused in healer's namespace."""
    install()
    with pytest.raises(BedError, match="violates PodSecurity"):
        cluster.kubectl("run", "loose", "-n", "healer", "--image=localhost/app:1")


def reviewed(cluster: Cluster, rights: Iterable[Permission]) -> dict[Permission, bool]:
    """What the API server says of each right of healer's account, in every namespace."""
    asked = list(rights)
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": ACCOUNT,
                "groups": ["system:serviceaccounts", "system:authenticated"],
                "resourceAttributes": {
                    "verb": one.verb, "group": one.group, "resource": one.resource,
                    "subresource": one.subresource,
                },
            },
        }
        for one in asked
    ]  # fmt: skip
    text = cluster.kubectl(
        "create", "-o", "json", "-f", "-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews}),
    )  # fmt: skip
    decoder, answers, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        value, at = decoder.raw_decode(text, at)
        answers += value["items"] if value["kind"] == "List" else [value]
        at += len(text[at:]) - len(text[at:].lstrip())
    assert len(answers) == len(asked)
    return {one: a["status"]["allowed"] for one, a in zip(asked, answers, strict=True)}


def dangerous() -> set[Permission]:
    """Rights that nobody who heals needs."""
    verbs = ("get", "create", "update", "patch", "delete")
    found = set()
    for name in FORBIDDEN_RESOURCES - {"*"}:
        resource, _, sub = name.partition("/")
        for group in ("", "rbac.authorization.k8s.io", "certificates.k8s.io",
                      "admissionregistration.k8s.io"):  # fmt: skip
            found |= {Permission(verb, resource, group, sub) for verb in verbs}
    found |= {
        Permission(verb, resource, "rbac.authorization.k8s.io")
        for verb in ("escalate", "bind") for resource in ("roles", "clusterroles")
    }  # fmt: skip
    return found | {
        Permission("impersonate", "users"),
        Permission("delete", "namespaces"),
        Permission("delete", "nodes"),
        Permission("delete", "deployments", "apps"),
        Permission("delete", "persistentvolumeclaims"),
        Permission("deletecollection", "pods"),
        Permission("create", "pods"),
    }


def test_the_account_can_what_the_manifests_say_and_nothing_dangerous(
    cluster: Cluster, install: Install
) -> None:
    """The API server allows each granted right and refuses Secrets, exec, escalation and more."""
    objects = install([*GROUPS, "act"])
    answers = reviewed(cluster, granted(objects))
    assert [one for one, allowed in answers.items() if not allowed] == []
    assert [one for one, allowed in reviewed(cluster, dangerous()).items() if allowed] == []


def test_the_default_install_cannot_change_anything(
    cluster: Cluster, install: Install, tmp_path: Path
) -> None:
    """With the base alone, all that components could write is refused."""
    writes = {one for one in granted(compose(tmp_path / "all", GROUPS)) if one.verb not in READS}
    writes -= granted(install())
    assert len(writes) > 10
    assert [one for one, allowed in reviewed(cluster, writes).items() if allowed] == []


@pytest.fixture(scope="session")
def image(real_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """healer's image on every node."""
    archive = python_image(
        ROOT, ROOT / "requirements" / "runtime.txt", IMAGE,
        tmp_path_factory.mktemp("image") / "healer.tar", arguments=["-m", "healer"],
    )  # fmt: skip
    real_cluster.import_image(archive)
    return IMAGE


def for_the_bed(settings: Path, image: str) -> dict[str, Any]:
    """What the bed needs otherwise: its image, no storage class, own addresses, one playbook."""
    journal = [
        {"op": "replace", "path": "/spec/template/spec/volumes/4",
         "value": {"name": "journal", "emptyDir": {}}},
    ]  # fmt: skip
    name, tag = image.split(":")
    gone = {
        "$patch": "delete", "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "healer-journal", "namespace": "healer"},
    }  # fmt: skip
    return {
        "namespace": "healer",
        "images": [{"name": "healer", "newName": name, "newTag": tag}],
        "patches": [
            {"target": {"kind": "Deployment", "name": "healer"}, "patch": yaml.safe_dump(journal)},
            {"patch": yaml.safe_dump(gone)},
        ],
        "configMapGenerator": [
            {"name": "healer-settings", "behavior": "replace", "files": [settings.name]},
            {"name": "healer-playbooks", "behavior": "replace", "files": [PLAYBOOK.name]},
        ],
    }


def test_healer_heals_as_a_pod_with_its_own_account(
    real_cluster: Cluster,
    namespace: str,
    install: Install,
    image: str,
    alertmanager: Callable[..., Alertmanager],
    tmp_path: Path,
) -> None:
    """Installed from `deploy/` and told by Alertmanager, its account deletes one pod once."""
    folder = tmp_path / "overlay"
    folder.mkdir()
    hook = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yaml").read_text())
    alerts = alertmanager({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]})
    settings = yaml.safe_load((DEPLOY / "base" / "healer.yaml").read_text())
    del settings["prometheus"]  # none is here
    settings["alertmanager"] |= {"urls": [alerts.inner_url], "poll_seconds": 5}
    (folder / "healer.yaml").write_text(yaml.safe_dump(settings))
    (folder / PLAYBOOK.name).write_text(PLAYBOOK.read_text())
    type_first_block(real_cluster, tmp_path)
    objects = install(["restart", "act"], **for_the_bed(folder / "healer.yaml", image))
    assert of_kind(objects, "PersistentVolumeClaim") == []
    real_cluster.kubectl(
        "rollout", "status", "deployment/healer", "-n", "healer", "--timeout=60s", timeout=70
    )
    token = real_cluster.get("secret", "healer-webhook", "-n", "healer")["data"]["token"]
    token_file = tmp_path / "token"
    token_file.write_bytes(base64.b64decode(token))
    (receiver,) = (r for r in hook["receivers"] if r["name"] == "healer")
    service = real_cluster.get("service", "healer", "-n", "healer")["spec"]["clusterIP"]
    (config,) = receiver["webhook_configs"]
    config["url"] = config["url"].replace("healer.healer.svc", service)
    config["http_config"]["authorization"]["credentials_file"] = str(token_file)
    alerts.reload(hook)

    victim = sicken(real_cluster, namespace)
    name = victim["metadata"]["name"]
    fire(alerts, namespace, name)
    until(lambda: deletes(real_cluster, namespace, name), "healer to delete the pod", timeout=60)
    until(lambda: all_ready(real_cluster, namespace, 6), "six pods to be Ready", timeout=60)
    until(lambda: "healed" in runs(real_cluster), "the run to be healed", timeout=90)
    (deletion,) = deletes(real_cluster, namespace, name)
    assert deletion["user"]["username"] == ACCOUNT
    ours = [e for e in audited(real_cluster) if e["user"]["username"] == ACCOUNT]
    writes = {(e["verb"], e["objectRef"]["resource"]) for e in ours if e["verb"] not in READS}
    assert writes <= {
        ("delete", "pods"), ("create", "events"), ("create", "selfsubjectaccessreviews"),
    }  # fmt: skip
    assert [e for e in ours if e["responseStatus"]["code"] == 403] == []
    (pod,) = real_cluster.get("pods", "-n", "healer")["items"]
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def type_first_block(cluster: Cluster, folder: Path) -> None:
    """Type what docs/install.md says of the namespace and its secrets."""
    block = re.findall(r"```shell\n(.*?)```", (ROOT / "docs" / "install.md").read_text(), re.DOTALL)
    program = shlex.join([*kube_program("kubectl"), "--kubeconfig", str(cluster.kubeconfig)])
    (folder / "kubectl").write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    (folder / "kubectl").chmod(0o755)
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block[0]], check=True, cwd=ROOT, timeout=60,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )  # fmt: skip


def fire(alerts: Alertmanager, namespace: str, pod: str) -> None:
    """Hand Alertmanager an alert as Prometheus does."""
    labels = {
        "alertname": "PodCrashLooping", "namespace": namespace, "pod": pod,
        "severity": "warning", "remediation": "healer",
    }  # fmt: skip
    request = urllib.request.Request(
        f"{alerts.url}/api/v2/alerts",
        method="POST",
        data=json.dumps([{"labels": labels}]).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=5).close()


def audited(cluster: Cluster) -> list[dict[str, Any]]:
    """Every finished request in the API server's audit log."""
    assert cluster.audit_log is not None
    found = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    return [event for event in found if event["stage"] == "ResponseComplete"]


def runs(cluster: Cluster) -> str:
    """What healer's metrics say of runs that ended, by way of the API server."""
    path = "/api/v1/namespaces/healer/services/healer:health/proxy/metrics"
    lines = cluster.kubectl("get", "--raw", path).splitlines()
    return "\n".join(line for line in lines if line.startswith("healer_runs_total{"))
