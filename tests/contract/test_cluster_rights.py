"""What a service account without a right is told, by a real API server."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
import yaml

from healer.clients.kube import RIGHTS, KubeCluster
from healer.domain.target import Kind, TargetRef
from healer.errors import Unauthorized
from healer.kernel.clock import SystemClock
from healer.ports import PatchType, Permission
from healer.testing.objects import a_workload
from tests.bed.cluster import Cluster

pytestmark = pytest.mark.cluster


def account(cluster: Cluster, namespace: str, folder: Path) -> str:
    """A kubeconfig that speaks as a service account which may do what looking needs, no more."""
    rules = [
        {"apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb]}
        for right in RIGHTS
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace}
    subject = {"kind": "ServiceAccount", "name": "looker", "namespace": namespace}
    cluster.apply(
        {
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "looker", "namespace": namespace},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": namespace}, "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": namespace}, "roleRef": role, "subjects": [subject],
        },
    )  # fmt: skip
    token = cluster.kubectl("create", "token", "looker", "-n", namespace).strip()
    (folder / "token").write_text(token)
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["users"] = [{"name": "looker", "user": {"tokenFile": str(folder / "token")}}]
    context = next(c for c in content["contexts"] if c["name"] == content["current-context"])
    context["context"]["user"] = "looker"
    path = folder / "config"
    path.write_text(yaml.safe_dump(content))
    return str(path)


async def test_the_rights_of_looking_are_enough_and_no_more(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    """With exactly `RIGHTS` a pod can be observed and zones counted; a patch lacks its right."""
    clock = SystemClock()
    admin = await KubeCluster.open(
        clock, kubeconfig=str(cluster.kubeconfig), context=cluster.context
    )
    looker = await KubeCluster.open(clock, kubeconfig=account(cluster, namespace, tmp_path))
    try:
        made = await admin.create(a_workload(Kind.DEPLOYMENT, "web", namespace, replicas=1))
        async with asyncio.timeout(20), aclosing(admin.watch(Kind.POD, namespace)) as events:
            async for event in events:
                name = event.object.get("metadata", {}).get("name", "")
                if name.startswith("web-"):
                    break
        pod = TargetRef(Kind.POD, name, namespace)
        web = TargetRef(Kind.DEPLOYMENT, "web", namespace, made["metadata"]["uid"])
        assert (await looker.observe(pod)).owner == web
        assert sum(zone.total for zone in (await looker.zones()).values()) >= 1
        missing = await looker.missing_right(Permission("patch", "deployments", "apps"), namespace)
        assert missing.startswith(f"patch deployments.apps in namespace {namespace}")
        with pytest.raises(Unauthorized, match=r"right to patch deployments\.apps .*/web"):
            await looker.patch(web, {"spec": {"replicas": 2}}, PatchType.MERGE)
        with pytest.raises(Unauthorized, match="right to list configmaps"):
            await anext(looker.watch(Kind.CONFIG_MAP, namespace))
    finally:
        await admin.close()
        await looker.close()
        cluster.kubectl("delete", "clusterrole,clusterrolebinding", namespace)
