"""A metrics API on loopback with what it needs in memory; clients come as the aggregator does."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from healer.kernel.clock import Clock, SystemClock
from scalers.apiserver import Listening, MetricsApi, Question, Unavailable, Who
from scalers.ports import Metric, ObjectRef
from tests.bed.certificates import Authority

AT = 1_787_222_897.9  # 2026-08-20T10:48:17.9Z
HPA = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"


class Shelf:
    """A MetricReader over a list."""

    def __init__(self, *metrics: Metric) -> None:
        self.metrics = list(metrics)

    def external(self, namespace: str, name: str) -> Sequence[Metric]:
        return [
            m for m in self.metrics
            if m.described is None and (m.namespace, m.name) == (namespace, name)
        ]  # fmt: skip

    def custom(self, group: str, resource: str, namespace: str, name: str) -> Sequence[Metric]:
        return [
            m for m in self.metrics
            if m.described is not None and m.name == name
            and (m.described.group, m.described.resource, m.described.namespace)
            == (group, resource, namespace)
        ]  # fmt: skip

    def custom_names(self) -> Sequence[tuple[str, str, bool, str]]:
        return sorted({
            (m.described.group, m.described.resource, bool(m.described.namespace), m.name)
            for m in self.metrics if m.described is not None
        })  # fmt: skip


def external(name: str, value: Any, namespace: str = "shop", **labels: str) -> Metric:
    """One series of an external metric."""
    return Metric(name, namespace, labels, value, AT)


def pod(name: str, metric: str, value: Any, **labels: str) -> Metric:
    """A custom metric of a pod in `shop`."""
    ref = ObjectRef("pods", "", "Pod", "v1", "shop", name, labels)
    return Metric(metric, "shop", {}, value, AT, 60, ref)


def of(ref: ObjectRef, metric: str, value: Any, **labels: str) -> Metric:
    """A custom metric of any object."""
    return Metric(metric, ref.namespace, labels, value, AT, None, ref)


@dataclass
class Cluster:
    """The ports, in memory; every one of them can be away."""

    data: dict[str, str] = field(default_factory=dict)
    away: bool = False
    #: What is allowed: (user, verb, resource or path); "*" is every resource.
    rights: set[tuple[str, str, str]] = field(default_factory=set)
    asked: list[tuple[Who, Question]] = field(default_factory=list)
    bundles: dict[str, bytes] = field(default_factory=dict)
    versions: int = 0

    def _there(self) -> None:
        if self.away:
            raise Unavailable("the API server is away")

    async def read(self) -> Mapping[str, str]:
        self._there()
        return dict(self.data)

    async def allowed(self, who: Who, question: Question) -> bool:
        self._there()
        self.asked.append((who, question))
        return (who.user, question.verb, question.path or question.resource) in self.rights

    async def bundle(self, name: str) -> tuple[bytes, str]:
        self._there()
        return self.bundles.get(name, b""), str(self.versions)

    async def trust(self, name: str, bundle: bytes, version: str) -> None:
        self._there()
        assert version == str(self.versions)
        self.versions += 1
        self.bundles[name] = bundle


@dataclass
class Stand:
    """The running server and the means to speak with it."""

    api: MetricsApi
    shelf: Shelf
    cluster: Cluster
    authority: Authority  #: of the front proxy
    serving: Authority
    session: aiohttp.ClientSession

    def tls(
        self, client: str = "front-proxy", authority: Authority | None = None
    ) -> ssl.SSLContext:
        """As the aggregator connects, or as somebody with another certificate, or with none."""
        context = ssl.create_default_context(cafile=str(self.serving.certificate("ca")))
        if client:
            by = authority or self.authority
            context.load_cert_chain(by.certificate(client), by.key(client))
        return context

    def connections(self) -> list[Any]:
        """Those that the server keeps."""
        assert self.api._server is not None
        return list(self.api._server.connections)

    async def get(
        self, path: str, *, user: str = HPA, groups: Sequence[str] = ("system:authenticated",),
        accept: str = "", tls: ssl.SSLContext | None = None, method: str = "GET",
    ) -> tuple[int, Any]:  # fmt: skip
        """Status and parsed body (text where it is no JSON)."""
        headers = [("X-Remote-User", user), *(("X-Remote-Group", group) for group in groups)]
        if accept:
            headers.append(("Accept", accept))
        from yarl import URL

        url = URL(f"https://127.0.0.1:{self.api.port}{path}", encoded=True)
        answer = await self.session.request(
            method, url, headers=headers if user else [],
            ssl=tls or self.tls(), server_hostname="healer-metrics.healer.svc",
        )  # fmt: skip
        text = await answer.text()
        return answer.status, json.loads(text) if "json" in answer.content_type else text


def certificates(folder: Path) -> tuple[Authority, Authority]:
    """An authority of front proxies with one, and one with a serving pair."""
    proxies, serving = Authority(folder / "proxies"), Authority(folder / "serving")
    proxies.issue("front-proxy", "front-proxy-client")
    proxies.issue("somebody", "somebody-else")
    serving.issue("server", "metrics", names=("healer-metrics.healer.svc",))
    return proxies, serving


def told(authority: Authority, *names: str) -> dict[str, str]:
    """The ConfigMap of a cluster whose front proxies that authority signs."""
    return {
        "client-ca-file": "another",
        "requestheader-client-ca-file": authority.certificate("ca").read_text(),
        "requestheader-allowed-names": json.dumps(names or ["front-proxy-client"]),
        "requestheader-username-headers": '["X-Remote-User"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    }


def everything() -> set[tuple[str, str, str]]:
    """What the HPA's own role may, and what everybody may."""
    paths = ("/openapi/v2", "/openapi/v3", "/apis",
             "/apis/external.metrics.k8s.io", "/apis/custom.metrics.k8s.io",
             "/apis/external.metrics.k8s.io/v1beta1", "/apis/custom.metrics.k8s.io/v1beta1",
             "/apis/custom.metrics.k8s.io/v1beta2")  # fmt: skip
    return {(HPA, "list", "*"), (HPA, "get", "*"), *((HPA, "get", path) for path in paths)}


@asynccontextmanager
async def standing(
    folder: Path, *metrics: Metric, clock: Clock | None = None, cluster: Cluster | None = None,
    self_made: bool = False, **more: Any,
) -> AsyncIterator[Stand]:  # fmt: skip
    """A server with these metrics, and a session to ask it with."""
    proxies, serving = certificates(folder)
    cluster = cluster or Cluster(told(proxies), rights=everything())
    shelf = Shelf(*metrics)
    listening = Listening(host="127.0.0.1", port=more.pop("port", 0), **more)
    if not self_made:
        pair = serving.certificate("server"), serving.key("server")
        listening = replace(listening, cert_file=pair[0], key_file=pair[1])
    api = await MetricsApi.start(
        listening, shelf, clock or SystemClock(),
        authentication=cluster, reviewer=cluster, api_services=cluster,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:
            yield Stand(api, shelf, cluster, proxies, serving, session)
    finally:
        await api.stop()
