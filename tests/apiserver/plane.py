"""A real API server with the HPA controller, and our metrics API registered as `deploy/` does it.

The metrics API runs here, with the rights of healer's account in `deploy/components/metrics`; the
Service is an ExternalName, because nobody routes cluster addresses on loopback.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from healer.clients.kube.metrics_api import KubeMetricsApi
from healer.kernel.clock import SystemClock
from scalers.apiserver import Listening, MetricsApi
from scalers.apiserver.routes import VERSIONS
from tests.apiserver.stand import Shelf
from tests.bed.api import Api
from tests.bed.builds import kube_program
from tests.bed.certificates import Authority
from tests.bed.kubeconfig import write_yaml
from tests.bed.simulated import LOOPBACK
from tests.bed.waiting import until
from tests.crash.plane import PlaneOnly
from tests.deploy.rendered import Objects, compose

REGISTRATION = "/apis/apiregistration.k8s.io/v1/apiservices"


class ScalingPlane(PlaneOnly):
    """An API server, etcd, and of the controllers only the one that scales."""

    def __init__(self) -> None:
        super().__init__()
        self.options = replace(
            self.options,
            controller_manager_flags=("--controllers=horizontal-pod-autoscaler-controller",),
        )

    def prepare(self) -> None:
        """One program more."""
        super().prepare()
        kube_program("kube-controller-manager")

    @property
    def authority(self) -> Authority:
        """Signs users, and the front proxy."""
        return self._plane.authority

    def start_scaling(self) -> None:
        """Begin to scale; it reads discovery when it starts, so the metrics API comes first."""
        self._launch("kube-controller-manager", self._plane._controller_manager_argv())


class Loop:
    """An event loop of its own, for a server that outlives single tests."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Any) -> Any:
        """The result of a coroutine."""
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(timeout=60)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def begun(shelf: Shelf, kube: KubeMetricsApi) -> MetricsApi:
    """The metrics API on a free port, with a certificate of its own."""
    return await MetricsApi.start(
        Listening(host=LOOPBACK, port=0), shelf, SystemClock(),
        authentication=kube, reviewer=kube, api_services=kube,
    )  # fmt: skip


@dataclass
class Town:
    """The plane, the running metrics API, and what it serves."""

    plane: ScalingPlane
    api: Api
    metrics: MetricsApi
    shelf: Shelf
    kube: KubeMetricsApi
    loop: Loop
    objects: Objects  #: of the component, as applied

    def text(self, path: str) -> str:
        """`kubectl get --raw`."""
        return self.plane.kubectl("get", "--raw", path)

    def raw(self, path: str) -> Any:
        """The same, parsed."""
        return json.loads(self.text(path))

    def plane_kubectl(self) -> list[str]:
        """The command that speaks with this plane."""
        return [*kube_program("kubectl"), "--kubeconfig", str(self.plane.kubeconfig)]

    def log(self) -> str:
        """What the API server has logged."""
        return (self.plane.logs / "kube-apiserver.log").read_text(errors="replace")

    def directly(
        self,
        path: str,
        user: str,
        *,
        groups: Sequence[str] = (),
        certificate: str = "front-proxy",
        port: int = 0,
    ) -> tuple[int, Any]:
        """Past the API server, checking the certificate as it does: by an APIService's caBundle."""
        service = self.api.get(f"{REGISTRATION}/{Listening().api_services[0]}")
        bundle = base64.b64decode(service["spec"]["caBundle"]).decode()
        tls = ssl.create_default_context(cadata=bundle)
        if certificate:
            pki = self.plane.authority
            tls.load_cert_chain(pki.certificate(certificate), pki.key(certificate))
        port = port or self.metrics.port
        connection = http.client.HTTPSConnection(LOOPBACK, port, timeout=10)
        plain = socket.create_connection((LOOPBACK, port), timeout=10)
        connection.sock = tls.wrap_socket(plain, server_hostname=Listening().server_name)
        with contextlib.closing(connection):
            connection.putrequest("GET", path)
            connection.putheader("X-Remote-User", user)
            for group in groups:
                connection.putheader("X-Remote-Group", group)
            connection.endheaders()
            answer = connection.getresponse()
            text = answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else text

    @contextlib.contextmanager
    def another(self) -> Iterator[MetricsApi]:
        """A second replica beside the first."""
        made: MetricsApi = self.loop.run(begun(self.shelf, self.kube))
        try:
            yield made
        finally:
            self.loop.run(made.stop())

    def available(self) -> bool:
        """Whether the aggregator finds all of our versions well."""
        for name in Listening().api_services:
            status = self.api.get(f"{REGISTRATION}/{name}").get("status") or {}
            states = {c["type"]: c["status"] for c in status.get("conditions") or ()}
            if states.get("Available") != "True":
                return False
        return True

    def routed(self) -> bool:
        """Whether requests are passed on too: the proxy hears of availability a moment later."""
        for group, versions in VERSIONS.items():
            for version in versions:
                self.api.get(f"/apis/{group}/{version}")
        return True


def component(folder: Path, port: int) -> Objects:
    """The objects of `deploy/components/metrics`, with the way to a server on loopback."""
    wanted = {"APIService", "ClusterRole", "ClusterRoleBinding", "RoleBinding", "Service"}
    made = [
        one for one in compose(folder, ["metrics"])
        if one["kind"] in wanted and "metrics" in one["metadata"]["name"]
    ]  # fmt: skip
    for one in made:
        if one["kind"] == "Service":
            one["spec"] = {
                "type": "ExternalName", "externalName": "localhost",
                "ports": [{"name": "metrics-api", "port": port}],
            }  # fmt: skip
        if one["kind"] == "APIService":
            one["spec"]["service"]["port"] = port
    return made


def account(plane: ScalingPlane, folder: Path) -> Path:
    """A kubeconfig with a token of healer's own account."""
    plane.apply(
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
          for name in ("healer", "shop")),
        {"apiVersion": "v1", "kind": "ServiceAccount",
         "metadata": {"name": "healer", "namespace": "healer"}},
    )  # fmt: skip
    token = plane.kubectl("-n", "healer", "create", "token", "healer").strip()
    content = yaml.safe_load(plane.kubeconfig.read_text())
    content["users"][0]["user"] = {"token": token}
    path = folder / "healer.kubeconfig"
    write_yaml(path, content)
    return path


@contextlib.contextmanager
def town(folder: Path) -> Iterator[Town]:
    """All of it, up and found available by the aggregator."""
    plane = ScalingPlane()
    plane.prepare()
    loop = Loop()
    with contextlib.ExitStack() as stack:
        stack.callback(loop.close)
        plane.start()
        stack.callback(plane.stop)
        shelf = Shelf()
        kubeconfig = account(plane, folder)
        kube = loop.run(KubeMetricsApi.open(SystemClock(), kubeconfig=str(kubeconfig)))
        stack.callback(lambda: loop.run(kube.close()))
        metrics: MetricsApi = loop.run(begun(shelf, kube))
        stack.callback(lambda: loop.run(metrics.stop()))
        assert metrics.problems(), "it cannot be ready without rights and APIServices"
        objects = component(folder / "deploy", metrics.port)
        plane.apply(*objects)
        made = Town(plane, Api(plane.kubeconfig), metrics, shelf, kube, loop, objects)
        until(made.available, "the APIServices to be available", timeout=60)
        until(made.routed, "the API server to pass requests on", timeout=60)
        yield made
