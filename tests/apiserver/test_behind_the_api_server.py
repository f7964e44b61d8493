"""Every route through a real API server, by kubectl, the HPA's own Go clients, and a real HPA."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from scalers.ports import Reason, Refused
from tests.apiserver.plane import Town
from tests.apiserver.stand import external, of, pod
from tests.apiserver.test_answers import NODE, OTHER_NODE, SHOP, WEB
from tests.bed.builds import Artefact
from tests.bed.errors import BedError
from tests.bed.golang import Program, _build
from tests.bed.waiting import until
from tests.deploy.rendered import DEPLOY, ROOT

pytestmark = pytest.mark.cluster

STALE = Refused(Reason.STALE, "the last sample is 400 s old, older than max_age 120 s")
SERVICE = WEB.__class__("services", "", "Service", "v1", "shop", "web")
SHELF = (
    external("web-forecast", 10.5, scaler="web", cell="a"),
    external("web-forecast", 2, scaler="web", cell="b"),
    external("stale", STALE),
    pod("web-0", "http_requests", 12, app="web", tier="front"),
    pod("web-1", "http_requests", 14, app="web", tier="batch"),
    pod("api-0", "http_requests", 1, app="api"),
    of(WEB, "demand", 3, quantile="0.5"),
    of(WEB, "demand", 5.25, quantile="0.9"),
    of(SERVICE, "stale", STALE),
    of(SHOP, "queue", 7),
    of(NODE, "load", 1),
    of(OTHER_NODE, "load", 2),
)
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
CUSTOM = "/apis/custom.metrics.k8s.io"
#: Every route that answers 200, with how many items there are.
ROUTES = {
    f"{EXTERNAL}/namespaces/shop/web-forecast": 2,
    f"{EXTERNAL}/namespaces/shop/web-forecast?labelSelector=cell+notin+(a)": 1,
    **{
        f"{CUSTOM}/{version}{rest}": items
        for version in ("v1beta1", "v1beta2")
        for rest, items in {
            "/namespaces/shop/pods/web-0/http_requests": 1,
            "/namespaces/shop/pods/*/http_requests": 3,
            "/namespaces/shop/pods/%2A/http_requests?labelSelector=app%3Dweb": 2,
            "/namespaces/shop/deployments.apps/web/demand?metricLabelSelector=quantile%3D0.9": 1,
            "/namespaces/shop/metrics/queue": 1,
            "/nodes/node-1/load": 1,
            "/nodes/*/load?labelSelector=zone": 2,
        }.items()
    },
}


@pytest.fixture(scope="session")
def goclient() -> str:
    """The client on k8s.io/metrics."""
    module = ROOT / "tests" / "apiserver" / "goclient"
    recipe = "\n".join(path.read_text() for path in sorted(module.iterdir()))

    def make(folder: Any) -> None:
        (folder / "bin").mkdir()
        _build(module, Program("goclient"), folder / "bin" / "goclient")

    return str(Artefact("metrics-client", "1", recipe, make).path() / "bin" / "goclient")


@pytest.fixture
def shop(served: Town) -> Town:
    """With all of the shelf."""
    served.shelf.metrics[:] = SHELF
    return served


def items(kind: str, found: Any) -> int:
    """How many a list of that kind holds."""
    assert found["kind"] == kind, found
    return len(found["items"])


def test_kubectl_reads_every_route(shop: Town) -> None:
    """`kubectl get --raw` reads each kind of object by each route in every version."""
    for path, count in ROUTES.items():
        kind = "ExternalMetricValueList" if path.startswith(EXTERNAL) else "MetricValueList"
        assert items(kind, shop.raw(path)) == count, path
    names = {name.split()[0] for name in shop.plane.kubectl("api-resources").splitlines()}
    assert "externalmetrics" in names
    listed = shop.raw(f"{CUSTOM}/v1beta2")["resources"]
    assert {one["name"] for one in listed} >= {"pods/http_requests", "nodes/load"}


def test_errors_reach_people_with_their_reason(shop: Town) -> None:
    """Kubectl prints the reason of a refused value and of a metric that nobody publishes."""
    with pytest.raises(BedError, match=r"NotFound.*Stale: the last sample is 400 s old"):
        shop.text(f"{EXTERNAL}/namespaces/shop/stale")
    with pytest.raises(BedError, match=r"unheard-of is not published for namespace shop"):
        shop.text(f"{EXTERNAL}/namespaces/shop/unheard-of")


@pytest.mark.timeout(900)  # where nothing is built yet, the client is
def test_the_go_clients_read_every_route(shop: Town, goclient: str) -> None:
    """What the HPA controller is built on decodes each list, and sees 404 as not found."""
    done = subprocess.run(
        [goclient, "--kubeconfig", str(shop.plane.kubeconfig)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    missing = {"externalStale", "externalUnknown", "podUnknown", "serviceStale"}
    assert {name for name, one in said.items() if one.get("error")} == missing
    assert all(said[name]["notFound"] for name in missing), said
    assert "Stale: the last sample" in said["serviceStale"]["error"]
    value = {name: one.get("value") for name, one in said.items()}
    assert value["preferred"] == "custom.metrics.k8s.io/v1beta2"
    assert value["discovery"]["external.metrics.k8s.io/v1beta1"] == ["externalmetrics"]
    assert [one["value"] for one in value["external"]["items"]] == ["10500m", "2"]
    assert [one["value"] for one in value["externalSelected"]["items"]] == ["10500m"]
    assert value["externalNone"]["items"] == []
    assert value["external"]["items"][0]["timestamp"] == "2026-08-20T10:48:17Z"
    assert [i["describedObject"]["name"] for i in value["pods"]["items"]] == ["web-0", "api-0"]
    assert value["pod"]["windowSeconds"] == 60
    assert value["deployment"]["value"] == "5250m"
    assert value["deployment"]["metric"]["selector"]["matchExpressions"][0]["key"] == "quantile"
    assert value["namespace"]["describedObject"]["name"] == "shop"
    assert value["node"]["value"] == "1"
    assert len(value["nodes"]["items"]) == 2


def test_callers_are_named_and_asked_about(shop: Town) -> None:
    """The HPA's account may read by its built-in role; another account may not."""
    path = f"{EXTERNAL}/namespaces/shop/web-forecast"
    controller = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
    said = shop.plane.kubectl("get", "--raw", path, "--as", controller)
    assert items("ExternalMetricValueList", json.loads(said)) == 2
    with pytest.raises(BedError, match="Forbidden"):
        shop.plane.kubectl("get", "--raw", path, "--as", "somebody")


def test_reviews_are_asked_of_the_real_api_server(shop: Town) -> None:
    """Whom the front proxy names is believed, and may what RBAC says: here, past the API server."""
    path = f"{EXTERNAL}/namespaces/shop/web-forecast"
    controller = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
    assert shop.directly(path, controller)[0] == 200
    code, status = shop.directly(path, "somebody")
    assert (code, status["reason"]) == (403, "Forbidden")
    assert 'User "somebody" cannot list resource "web-forecast"' in status["message"]
    assert shop.directly(path, "somebody", groups=("system:masters",))[0] == 200
    assert shop.directly("/apis/external.metrics.k8s.io/v1beta1", "somebody")[0] == 200
    code, status = shop.directly(path, controller, certificate="admin")
    assert (code, status["reason"]) == (401, "Unauthorized")
    assert shop.directly(path, controller, certificate="")[0] == 401
    assert shop.directly("/readyz", "", certificate="")[0] == 200


def test_two_replicas_are_both_trusted(shop: Town) -> None:
    """A second replica adds its own authority beside the first, and the bundle checks both."""
    first = shop.metrics.port
    with shop.another() as second:
        assert second.problems() == []
        assert second.port != first
        for port in (first, second.port):
            assert shop.directly("/readyz", "", port=port)[0] == 200


def test_the_api_server_has_nothing_to_complain_about(shop: Town) -> None:
    """Once registered, reading all of discovery and OpenAPI leaves no error in its log."""
    before = len(shop.log())
    shop.plane.kubectl("api-resources")
    shop.plane.kubectl("get", "--raw", "/openapi/v2")
    shop.plane.kubectl("get", "--raw", "/openapi/v3")
    shop.raw(f"{EXTERNAL}/namespaces/shop/web-forecast")
    lines = [line for line in shop.log()[before:].splitlines() if line.startswith(("E", "W"))]
    assert [line for line in lines if "metrics.k8s.io" in line or "penapi" in line.lower()] == []
    # The last word on OpenAPI of each version was a good one.
    assert "resource not found" not in shop.log()


def autoscaler(metric: str) -> dict[str, Any]:
    """An HPA of Deployment web on one external metric that says the wanted replicas."""
    target = {"type": "AverageValue", "averageValue": "1"}
    return {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1, "maxReplicas": 20,
            "metrics": [{
                "type": "External",
                "external": {"metric": {"name": metric}, "target": target},
            }],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        },
    }  # fmt: skip


def test_a_real_hpa_scales_by_it_and_holds_when_it_is_refused(shop: Town) -> None:
    """The real controller takes the replicas from our value, and keeps them when there is none."""
    labels = {"app": "web"}
    container = {"name": "web", "image": "web"}
    shop.plane.apply({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }, autoscaler("wanted"))  # fmt: skip
    shop.shelf.metrics.append(external("wanted", 7))
    shop.plane.start_scaling()

    def replicas() -> int:
        return int(shop.plane.get("-n", "shop", "deployment", "web")["spec"]["replicas"])

    def active() -> dict[str, Any]:
        found = shop.plane.get("-n", "shop", "hpa", "web")["status"].get("conditions") or []
        return next((c for c in found if c["type"] == "ScalingActive"), {"status": ""})

    until(lambda: replicas() == 7, "seven replicas", timeout=60)
    shop.shelf.metrics[-1] = external("wanted", STALE)
    until(lambda: active()["status"] == "False", "the HPA to see that there is no value")
    assert active()["reason"] == "FailedGetExternalMetric"
    assert "Stale: the last sample is 400 s old" in active()["message"]
    assert replicas() == 7
    shop.shelf.metrics[-1] = external("wanted", 3)
    until(lambda: replicas() == 3, "three replicas once there is a value again", timeout=60)


def test_it_is_served_again_after_the_api_server_restarts(shop: Town) -> None:
    """A restarted API server finds it by itself."""
    shop.plane.restart_apiserver()
    path = f"{EXTERNAL}/namespaces/shop/web-forecast"
    until(lambda: shop.api.get(path)["items"], "the metric through the new API server", timeout=60)


def test_uninstalling_removes_the_apiservices_first_and_leaves_others_alone(shop: Town) -> None:
    """The script leaves nothing of the component but what another adapter has taken over."""
    taken = "v1beta1.external.metrics.k8s.io"
    service = {"name": "keda-metrics-apiserver", "namespace": "keda", "port": 443}
    shop.plane.kubectl(
        "patch",
        "apiservice",
        taken,
        "--type=merge",
        "-p",
        json.dumps({"spec": {"service": service}}),
    )
    assert shop.plane.get("-n", "kube-system", "rolebinding", "healer-metrics-authentication")
    script = DEPLOY / "components" / "metrics" / "uninstall.sh"
    bin_folder = shop.plane.run.folder / "path"
    bin_folder.mkdir()
    kubectl = bin_folder / "kubectl"
    program = " ".join([*shop.plane_kubectl()])
    kubectl.write_text(f'#!/bin/sh\necho "$@" >> {bin_folder}/said\nexec {program} "$@"\n')
    kubectl.chmod(0o755)
    done = subprocess.run(
        ["sh", str(script)], env={"PATH": f"{bin_folder}:/usr/bin:/bin", "HOME": str(bin_folder)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"apiservice {taken} belongs to keda/keda-metrics-apiserver and stays" in done.stdout
    deletions = [
        line for line in (bin_folder / "said").read_text().splitlines() if "delete" in line
    ]
    assert [line.split()[1] for line in deletions[:2]] == ["apiservice", "apiservice"]
    for one in shop.objects:
        place = ["-n", one["metadata"]["namespace"]] if "namespace" in one["metadata"] else []
        what = f"{one['kind']}/{one['metadata']['name']}".lower()
        left = shop.plane.kubectl(*place, "get", what, "--ignore-not-found")
        assert bool(left) == (taken in what), what
    shop.plane.apply(*shop.objects)  # for the tests after it
    until(lambda: shop.available() and shop.routed(), "the metrics API to be back", timeout=60)
