"""Discovery, in the legacy and in the aggregated form."""

from pathlib import Path

import pytest

from scalers.apiserver.discovery import AGGREGATED, LISTED, resources, wants_aggregated
from scalers.apiserver.routes import CUSTOM, EXTERNAL
from tests.apiserver.stand import external, of, pod, standing
from tests.apiserver.test_answers import NODE, WEB

#: What kube-apiserver 1.36 and client-go send.
ACCEPTS = (
    f"{AGGREGATED},application/json",
    f"{AGGREGATED},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,"
    "application/json",
)


async def test_external_discovery_is_one_static_entry(tmp_path: Path) -> None:
    """The list of external metrics is never empty and never the list of all of them."""
    expected = {
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": "external.metrics.k8s.io/v1beta1",
        "resources": [{
            "name": "externalmetrics", "singularName": "", "namespaced": True,
            "kind": "ExternalMetricValueList", "verbs": ["get"],
        }],
    }  # fmt: skip
    path = "/apis/external.metrics.k8s.io/v1beta1"
    async with standing(tmp_path) as empty:
        assert await empty.get(path) == (200, expected)
    async with standing(tmp_path, *(external(f"m{n}", n) for n in range(9))) as full:
        assert await full.get(path) == (200, expected)


async def test_groups_and_their_preferred_versions(tmp_path: Path) -> None:
    """Each group says its versions, the preferred one first, alone and in the list of groups."""
    async with standing(tmp_path) as stand:
        code, group = await stand.get("/apis/external.metrics.k8s.io")
        version = {"groupVersion": "external.metrics.k8s.io/v1beta1", "version": "v1beta1"}
        assert (code, group) == (200, {
            "kind": "APIGroup", "apiVersion": "v1", "name": "external.metrics.k8s.io",
            "versions": [version], "preferredVersion": version,
        })  # fmt: skip
        _, custom = await stand.get("/apis/custom.metrics.k8s.io")
        assert [one["version"] for one in custom["versions"]] == ["v1beta2", "v1beta1"]
        assert custom["preferredVersion"]["version"] == "v1beta2"
        _, every = await stand.get("/apis")
        assert every["kind"] == "APIGroupList"
        assert [one["name"] for one in every["groups"]] == [EXTERNAL, CUSTOM]


async def test_custom_metrics_are_listed_as_subresources_of_what_they_describe(
    tmp_path: Path,
) -> None:
    """Each custom metric is listed once with its scope; without any the list is not empty."""
    async with standing(
        tmp_path, pod("a", "rps", 1), pod("b", "rps", 1), of(WEB, "demand", 1), of(NODE, "load", 1)
    ) as stand:
        path = "/apis/custom.metrics.k8s.io/v1beta1"
        _, listed = await stand.get(path)
        assert {(one["name"], one["namespaced"]) for one in listed["resources"]} == {
            ("pods/rps", True), ("deployments.apps/demand", True), ("nodes/load", False),
        }  # fmt: skip
        assert {tuple(one["verbs"]) for one in listed["resources"]} == {("get",)}
        stand.shelf.metrics.clear()
        _, empty = await stand.get(path)
        assert [one["name"] for one in empty["resources"]] == ["custommetrics"]


@pytest.mark.parametrize("accept", ACCEPTS)
async def test_the_aggregated_form_says_the_same(tmp_path: Path, accept: str) -> None:
    """Version 2 of apidiscovery lists the groups with parents and subresources, by its own type."""
    async with standing(tmp_path, pod("a", "rps", 1), of(NODE, "load", 1)) as stand:
        code, found = await stand.get("/apis", accept=accept)
        assert (code, found["kind"]) == (200, "APIGroupDiscoveryList")
        assert found["apiVersion"] == "apidiscovery.k8s.io/v2"
        items = {one["metadata"]["name"]: one["versions"] for one in found["items"]}
        assert [one["version"] for one in items[CUSTOM]] == ["v1beta2", "v1beta1"]
        assert {one["freshness"] for group in items.values() for one in group} == {"Current"}
        (plain,) = items[EXTERNAL][0]["resources"]
        assert (plain["resource"], plain["scope"]) == ("externalmetrics", "Namespaced")
        assert plain["responseKind"]["kind"] == "ExternalMetricValueList"
        parents = {one["resource"]: one for one in items[CUSTOM][0]["resources"]}
        assert parents["nodes"]["scope"] == "Cluster"
        (below,) = parents["pods"]["subresources"]
        assert (below["subresource"], below["verbs"]) == ("rps", ["get"])


async def test_the_specifications_are_there_and_empty(tmp_path: Path) -> None:
    """Both forms of OpenAPI are answered with nothing in them: a 404 fills the API server's log."""
    async with standing(tmp_path) as stand:
        code, older = await stand.get("/openapi/v2")
        assert (code, older["swagger"], older["paths"]) == (200, "2.0", {})
        assert await stand.get("/openapi/v3") == (200, {"paths": {}})


def test_what_counts_as_asking_for_the_aggregated_form() -> None:
    """Only version 2 named before any plain JSON is the aggregated form."""
    assert all(wants_aggregated(accept) for accept in ACCEPTS)
    assert not wants_aggregated("")
    assert not wants_aggregated("application/json")
    assert not wants_aggregated(f"application/json,{AGGREGATED}")
    assert not wants_aggregated(AGGREGATED.replace("v=v2", "v=v2beta1"))
    assert not wants_aggregated("application/vnd.kubernetes.protobuf;as=APIGroupDiscoveryList")


def test_no_resource_has_two_scopes_and_long_lists_end() -> None:
    """A second scope of a resource is left out, and so is what comes after the first 500."""
    names = [("", "pods", True, "a"), ("", "pods", False, "b"), ("", "nodes", False, "c")]
    listed = resources(CUSTOM, names)
    assert [one["name"] for one in listed] == ["pods/a", "nodes/c"]
    assert len(resources(CUSTOM, [("", "pods", True, f"m{n}") for n in range(2000)])) == LISTED
