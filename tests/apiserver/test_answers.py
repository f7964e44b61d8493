"""What the HPA's clients read, over TLS with the front proxy's certificate."""

import re
from pathlib import Path
from typing import Any

import pytest

from scalers.ports import ObjectRef, Reason, Refused
from tests.apiserver.stand import external, of, pod, standing

EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop"
CUSTOM = "/apis/custom.metrics.k8s.io"
STALE = Refused(Reason.STALE, "the last sample is 400 s old, older than max_age 120 s")
WEB = ObjectRef("deployments", "apps", "Deployment", "apps/v1", "shop", "web")
NODE = ObjectRef("nodes", "", "Node", "v1", "", "node-1", {"zone": "a"})
OTHER_NODE = ObjectRef("nodes", "", "Node", "v1", "", "node-2", {"zone": "b"})
SHOP = ObjectRef("namespaces", "", "Namespace", "v1", "", "shop")
BANK = ObjectRef("namespaces", "", "Namespace", "v1", "", "bank")


def names(answer: tuple[int, Any]) -> list[str]:
    """Which objects a MetricValueList describes."""
    assert answer[0] == 200, answer
    return [item["describedObject"]["name"] for item in answer[1]["items"]]


async def test_an_external_metric_is_what_the_reference_server_writes(tmp_path: Path) -> None:
    """An external value comes in the shape, quantity and whole seconds of k8s.io/metrics."""
    async with standing(tmp_path, external("web-forecast", 10.5, scaler="web")) as stand:
        assert await stand.get(f"{EXTERNAL}/web-forecast") == (200, {
            "kind": "ExternalMetricValueList",
            "apiVersion": "external.metrics.k8s.io/v1beta1",
            "metadata": {},
            "items": [{
                "metricName": "web-forecast", "metricLabels": {"scaler": "web"},
                "timestamp": "2026-08-20T10:48:17Z", "value": "10500m",
            }],
        })  # fmt: skip


async def test_a_custom_metric_has_the_shape_of_either_version(tmp_path: Path) -> None:
    """v1beta2 nests the metric and says windowSeconds; v1beta1 says metricName and window."""
    described = {"kind": "Pod", "namespace": "shop", "name": "web-0", "apiVersion": "/v1"}
    async with standing(tmp_path, pod("web-0", "http_requests", 12)) as stand:
        path = "namespaces/shop/pods/web-0/http_requests"
        assert await stand.get(f"{CUSTOM}/v1beta2/{path}") == (200, {
            "kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2",
            "metadata": {},
            "items": [{
                "describedObject": described, "metric": {"name": "http_requests", "selector": None},
                "timestamp": "2026-08-20T10:48:17Z", "windowSeconds": 60, "value": "12",
            }],
        })  # fmt: skip
        _, older = await stand.get(f"{CUSTOM}/v1beta1/{path}")
        assert older["apiVersion"] == "custom.metrics.k8s.io/v1beta1"
        assert older["items"] == [{
            "describedObject": described, "metricName": "http_requests",
            "timestamp": "2026-08-20T10:48:17Z", "window": 60, "value": "12", "selector": None,
        }]  # fmt: skip


async def test_all_objects_are_asked_for_by_a_star(tmp_path: Path) -> None:
    """`*` and `%2A` give every object that labelSelector matches, set-based operators included."""
    pods = [
        pod("web-0", "rps", 1, app="web"),
        pod("api-0", "rps", 2, app="api"),
        pod("x", "rps", 3),
    ]
    async with standing(tmp_path, *pods) as stand:
        path = f"{CUSTOM}/v1beta2/namespaces/shop/pods"
        assert names(await stand.get(f"{path}/*/rps")) == ["web-0", "api-0", "x"]
        assert names(await stand.get(f"{path}/%2A/rps?labelSelector=app%3Dweb")) == ["web-0"]
        chosen = "app+in+%28web%2Capi%29%2Capp%21%3Dapi"
        assert names(await stand.get(f"{path}/%2a/rps?labelSelector={chosen}")) == ["web-0"]
        assert names(await stand.get(f"{path}/*/rps?labelSelector=!app")) == ["x"]
        assert names(await stand.get(f"{path}/*/rps?labelSelector=app%3Dnone")) == []


async def test_objects_in_groups_without_namespace_and_namespaces_are_served(
    tmp_path: Path,
) -> None:
    """Group-qualified, root-scoped and Namespace objects each have their own route."""
    async with standing(
        tmp_path, of(WEB, "demand", 3), of(NODE, "load", 1), of(OTHER_NODE, "load", 2),
        of(SHOP, "queue", 7), of(BANK, "queue", 9),
    ) as stand:  # fmt: skip
        _, web = await stand.get(f"{CUSTOM}/v1beta2/namespaces/shop/deployments.apps/web/demand")
        assert web["items"][0]["describedObject"] == {
            "kind": "Deployment", "namespace": "shop", "name": "web", "apiVersion": "apps/v1",
        }  # fmt: skip
        assert "windowSeconds" not in web["items"][0]
        _, node = await stand.get(f"{CUSTOM}/v1beta2/nodes/node-1/load")
        assert node["items"][0]["describedObject"] == {
            "kind": "Node", "name": "node-1", "apiVersion": "/v1",
        }  # fmt: skip
        every = await stand.get(f"{CUSTOM}/v1beta2/nodes/*/load?labelSelector=zone+notin+(a)")
        assert names(every) == ["node-2"]
        assert names(await stand.get(f"{CUSTOM}/v1beta1/namespaces/shop/metrics/queue")) == ["shop"]


async def test_series_of_one_object_are_told_apart_by_their_labels(tmp_path: Path) -> None:
    """metricLabelSelector picks the series; without it an object with two of them has no value."""
    series = [of(WEB, "demand", 3, quantile="0.5"), of(WEB, "demand", 5, quantile="0.9")]
    async with standing(tmp_path, *series) as stand:
        path = f"{CUSTOM}/v1beta2/namespaces/shop/deployments.apps/web/demand"
        code, picked = await stand.get(f"{path}?metricLabelSelector=quantile%3D0.9")
        assert (code, picked["items"][0]["value"]) == (200, "5")
        assert picked["items"][0]["metric"]["selector"] == {
            "matchExpressions": [{"key": "quantile", "operator": "In", "values": ["0.9"]}]
        }
        code, status = await stand.get(path)
        assert code == 404
        assert "SeveralSeries" in status["message"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (12.0, "12"), (0.0004, "0"), (1.2345, "1235m"), (-3.5, "-3500m"),
     (9e15, "9000000000000000"), (0.001, "1m")],
)  # fmt: skip
async def test_quantities_are_whole_or_thousandths(tmp_path: Path, value: float, text: str) -> None:
    """A quantity is a whole number or whole thousandths, never an exponent."""
    async with standing(tmp_path, external("m", value)) as stand:
        _, answer = await stand.get(f"{EXTERNAL}/m")
        assert answer["items"][0]["value"] == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e30, STALE], ids=str)
async def test_what_is_no_value_is_a_404_that_says_why(tmp_path: Path, value: Any) -> None:
    """A refused, infinite, NaN or unrepresentable value is a Status with its reason, never 0."""
    async with standing(tmp_path, external("m", value), of(WEB, "m", value)) as stand:
        for path in (
            f"{EXTERNAL}/m", f"{CUSTOM}/v1beta2/namespaces/shop/deployments.apps/web/m",
            f"{CUSTOM}/v1beta1/namespaces/shop/deployments.apps/*/m",
        ):  # fmt: skip
            code, status = await stand.get(path)
            assert (code, status["kind"], status["code"]) == (404, "Status", 404)
            assert (status["status"], status["reason"]) == ("Failure", "NotFound")
            reason = "Stale" if value is STALE else "NotFinite"
            assert f"has no value: {reason}: " in status["message"]


async def test_a_sum_with_a_missing_part_is_missing(tmp_path: Path) -> None:
    """One refused series refuses the external metric, unless the selector leaves it out."""
    async with standing(
        tmp_path, external("m", 4, cell="a"), external("m", STALE, cell="b")
    ) as stand:
        code, status = await stand.get(f"{EXTERNAL}/m")
        assert code == 404
        assert "400 s old" in status["message"]
        code, some = await stand.get(f"{EXTERNAL}/m?labelSelector=cell%3Da")
        assert (code, len(some["items"])) == (200, 1)


async def test_of_many_pods_those_without_a_value_are_left_out(tmp_path: Path) -> None:
    """The HPA counts missing pods itself, so they are left out as long as one has a value."""
    async with standing(tmp_path, pod("web-0", "rps", 4), pod("web-1", "rps", STALE)) as stand:
        path = f"{CUSTOM}/v1beta2/namespaces/shop/pods"
        assert names(await stand.get(f"{path}/*/rps")) == ["web-0"]
        code, status = await stand.get(f"{path}/web-1/rps")
        assert (code, "Stale" in status["message"]) == (404, True)


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        (f"{EXTERNAL}/unheard-of", 404, "NotFound"),
        (f"{CUSTOM}/v1beta2/namespaces/shop/pods/web-9/rps", 404, "NotFound"),
        (f"{CUSTOM}/v1beta2/namespaces/shop/pods/*/unheard-of", 404, "NotFound"),
        (f"{CUSTOM}/v1/namespaces/shop/pods/web-0/rps", 404, "NotFound"),
        (f"{CUSTOM}/v1beta2/namespaces/shop/rps", 404, "NotFound"),
        (f"{CUSTOM}/v1beta2/namespaces//pods/web-0/rps", 404, "NotFound"),
        (f"{CUSTOM}/v1beta2/namespaces//nodes/node-1/load", 404, "NotFound"),
        ("/apis/metrics.k8s.io/v1beta1", 404, "NotFound"),
        ("/openapi/v2/more", 404, "NotFound"),
        ("/", 404, "NotFound"),
        (f"{EXTERNAL}/m?labelSelector=a+b", 400, "BadRequest"),
        (f"{CUSTOM}/v1beta2/namespaces/shop/pods/*/rps?labelSelector=,", 400, "BadRequest"),
    ],
)
async def test_errors_are_statuses(tmp_path: Path, path: str, code: int, reason: str) -> None:
    """Whatever is not there or cannot be read is a metav1.Status of that code and reason."""
    metrics = external("m", 1), pod("web-0", "rps", 4), of(NODE, "load", 1)
    async with standing(tmp_path, *metrics) as stand:
        answered, status = await stand.get(path)
        assert (answered, status["code"], status["reason"]) == (code, code, reason)
        assert status["message"]


async def test_only_reading_is_served(tmp_path: Path) -> None:
    """Every method but GET is 405."""
    async with standing(tmp_path, external("m", 1)) as stand:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            code, status = await stand.get(f"{EXTERNAL}/m", method=method)
            assert (code, status["reason"]) == (405, "MethodNotAllowed")


async def test_a_new_value_is_answered_at_once(tmp_path: Path) -> None:
    """Answers are the same bytes until the reader has something else to say."""
    async with standing(tmp_path, external("m", 1)) as stand:
        first = await stand.get(f"{EXTERNAL}/m")
        assert first == await stand.get(f"{EXTERNAL}/m")
        stand.shelf.metrics[0] = external("m", 2)
        assert (await stand.get(f"{EXTERNAL}/m"))[1]["items"][0]["value"] == "2"
        stand.shelf.metrics[0] = external("m", STALE)
        assert (await stand.get(f"{EXTERNAL}/m"))[0] == 404
        stand.shelf.metrics.clear()
        _, status = await stand.get(f"{EXTERNAL}/m")
        assert "is not published for namespace shop (Unknown: " in status["message"]
        assert stand.api.answered == {("external", 200): 3, ("external", 404): 2}


def test_the_page_explains_every_reason() -> None:
    """docs/metrics-api.md has one line for each word with which a value is refused."""
    page = (Path(__file__).parents[2] / "docs" / "metrics-api.md").read_text()
    table = page.split("| reason |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [str(one) for one in Reason]
