"""Discovery: what kubectl, the aggregator and client-go ask before they ask for values.

External metrics are one static entry and never the list of all: clients read it on every command,
and fail on an empty one (KEDA #4008, custom-metrics-apiserver #150).
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from scalers.apiserver.routes import CUSTOM, EXTERNAL, VERSIONS, DiscoveryAsk
from scalers.apiserver.statuses import Answer

#: More custom metrics than this are served and not listed: kubectl reads the list on every command
#: (kubernetes #98801).
LISTED = 500
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
#: (group, resource, namespaced, metric)
Names = Sequence[tuple[str, str, bool, str]]

_EXTERNAL_LIST: list[dict[str, Any]] = [
    {
        "name": "externalmetrics", "singularName": "", "namespaced": True,
        "kind": "ExternalMetricValueList", "verbs": ["get"],
    }
]  # fmt: skip
#: Values have no schema to look up, but a 404 here is an error line in the API server's log for
#: each version, again and again (seen on 1.36).
_SPECIFICATIONS: dict[str, dict[str, Any]] = {
    "/openapi/v2": {
        "swagger": "2.0", "info": {"title": "healer metrics", "version": "v1"}, "paths": {},
    },
    "/openapi/v3": {"paths": {}},
}  # fmt: skip
_CUSTOM_EMPTY: list[dict[str, Any]] = [
    {
        "name": "custommetrics", "singularName": "", "namespaced": True,
        "kind": "MetricValueList", "verbs": ["get"],
    }
]  # fmt: skip


class Discovery:
    """The answers, made once for each set of custom metrics."""

    def __init__(self) -> None:
        self._names: Names | None = None
        self._answers: dict[tuple[DiscoveryAsk, bool], Answer] = {}

    def answer(self, ask: DiscoveryAsk, accept: str, names: Names) -> Answer:
        """What is served at that place, in the form that the caller wants."""
        names = tuple(names)
        if names != self._names:
            self._names, self._answers = names, {}
        key = (ask, ask.path == "/apis" and wants_aggregated(accept))
        if key not in self._answers:
            self._answers[key] = _make(ask, names, aggregated=key[1])
        return self._answers[key]


def wants_aggregated(accept: str) -> bool:
    """Whether an Accept header names the aggregated form, version 2, before any plain one."""
    for offer in accept.split(","):
        kind, *parameters = (part.strip() for part in offer.split(";"))
        given = dict(part.partition("=")[::2] for part in parameters)
        if kind not in {"application/json", "*/*"}:
            continue
        if "as" not in given:
            return False
        if (given.get("g"), given.get("v"), given["as"]) == (
            "apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList",
        ):  # fmt: skip
            return True
    return False


def resources(group: str, names: Names) -> list[dict[str, Any]]:
    """The entries of an APIResourceList; never none, and no resource in two scopes."""
    if group == EXTERNAL:
        return _EXTERNAL_LIST
    scopes: dict[str, bool] = {}
    listed: dict[str, dict[str, Any]] = {}
    for api_group, plural, namespaced, metric in names:
        qualified = f"{plural}.{api_group}" if api_group else plural
        # One entry in a second scope would make the whole version unreadable to client-go.
        if scopes.setdefault(qualified, namespaced) != namespaced:
            continue
        listed[f"{qualified}/{metric}"] = {
            "name": f"{qualified}/{metric}", "singularName": "", "namespaced": namespaced,
            "kind": "MetricValueList", "verbs": ["get"],
        }  # fmt: skip
    return list(listed.values())[:LISTED] or _CUSTOM_EMPTY


def _make(ask: DiscoveryAsk, names: Names, *, aggregated: bool) -> Answer:
    if aggregated:
        items = [_aggregated(group, names) for group in VERSIONS]
        content = _typed("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
        body = msgspec.json.encode({**content, "metadata": {}, "items": items})
        return Answer(200, body, AGGREGATED)
    if ask.path in _SPECIFICATIONS:
        return _plain(_SPECIFICATIONS[ask.path])
    if not ask.group:
        groups = [_group(group) for group in VERSIONS]
        return _plain({**_typed("APIGroupList", "v1"), "groups": groups})
    if not ask.version:
        return _plain({**_typed("APIGroup", "v1"), **_group(ask.group)})
    listed = resources(ask.group, names)
    version = f"{ask.group}/{ask.version}"
    return _plain({**_typed("APIResourceList", "v1"), "groupVersion": version, "resources": listed})


def _group(group: str) -> dict[str, Any]:
    served = [{"groupVersion": f"{group}/{one}", "version": one} for one in VERSIONS[group]]
    return {"name": group, "versions": served, "preferredVersion": served[0]}


def _aggregated(group: str, names: Names) -> dict[str, Any]:
    listed = resources(group, names)
    versions = [
        {"version": one, "resources": _parents(listed), "freshness": "Current"}
        for one in VERSIONS[group]
    ]
    return {"metadata": {"name": group, "creationTimestamp": None}, "versions": versions}


def _parents(listed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """As `ConvertGroupVersionIntoToDiscovery` of k8s.io/apiserver makes them of the plain list."""
    found: dict[str, dict[str, Any]] = {}
    for one in listed:
        parent, _, child = one["name"].partition("/")
        kind = {"group": "", "version": "", "kind": "" if child else one["kind"]}
        entry = found.setdefault(
            parent,
            {
                "resource": parent, "responseKind": kind,
                "scope": "Namespaced" if one["namespaced"] else "Cluster",
                "singularResource": "", "verbs": [] if child else one["verbs"],
            },
        )  # fmt: skip
        if child:
            below = {"subresource": child, "responseKind": {**kind, "kind": one["kind"]}}
            entry.setdefault("subresources", []).append({**below, "verbs": one["verbs"]})
    return list(found.values())


def _typed(kind: str, version: str) -> dict[str, Any]:
    return {"kind": kind, "apiVersion": version}


def _plain(content: dict[str, Any]) -> Answer:
    return Answer(200, msgspec.json.encode(content))


__all__ = ["AGGREGATED", "CUSTOM", "EXTERNAL", "LISTED", "Discovery", "resources"]
