"""The local cluster with simulated nodes: a real control plane, and KWOK for kubelets.

Needs no root. Pods become Running and Ready without a container behind them, so what
depends on a container (probes, crashes, logs, pod addresses) is not to be had here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bed import around
from tests.bed.api import Api, ready
from tests.bed.builds import has_controllers, kube_program, kwok_program, kwok_stages
from tests.bed.cache import say
from tests.bed.cluster import Cluster, Options
from tests.bed.control_plane import ControlPlane, Ports
from tests.bed.errors import BedError
from tests.bed.kubeconfig import write_kubeconfig
from tests.bed.ports import free_port
from tests.bed.processes import Process, launch
from tests.bed.runs import Run
from tests.bed.waiting import until
from tests.bed.warden import Warden

LOOPBACK = "127.0.0.1"
CAPACITY = {"cpu": "32", "memory": "256Gi", "pods": "110"}


class SimulatedCluster(Cluster):
    """A control plane on loopback, with nodes nobody runs."""

    kind = "simulated"
    real_nodes = False
    inner_address = LOOPBACK

    def __init__(self, options: Options | None = None, *, detached: bool = False) -> None:
        self.options = options or Options()
        self._detached = detached
        self._warden: Warden | None = None
        self._run: Run | None = None

    @classmethod
    def attach(cls, run: Run) -> SimulatedCluster:
        """The cluster of a run that another process started; `stop` ends it."""
        content = run.read("cluster")
        cluster = cls(Options.from_json(content["options"]), detached=True)
        cluster._adopt(run, Ports(**content["ports"]))
        return cluster

    def _adopt(self, run: Run, ports: Ports) -> None:
        self._run = run
        folder = run.folder / "control-plane"
        self._plane = ControlPlane(folder, self.options, LOOPBACK, ports, self._launch)
        self.kubeconfig = self.inner_kubeconfig = run.folder / "kubeconfig"
        self.audit_log = self._plane.audit_log

    @property
    def run(self) -> Run:
        """The run this cluster lives in."""
        if self._run is None:
            raise BedError("this cluster is not started: call start() first")
        return self._run

    @property
    def nodes(self) -> list[str]:
        return self.options.node_names()

    @property
    def logs(self) -> Path:
        return self.run.logs

    def prepare(self) -> None:
        for program in ("etcd", "kube-apiserver", "kubectl"):
            kube_program(program)
        if has_controllers():
            kwok_program()

    def start(self) -> None:
        self.prepare()
        run = Run.create(detached=self._detached)
        if not self._detached:
            self._warden = Warden(run)
        ports = Ports(*(free_port() for _ in range(5)))
        self._adopt(run, ports)
        content = {"kind": self.kind, "options": self.options.as_json(), "ports": vars(ports)}
        run.write("cluster", content)
        try:
            self._boot()
        except BaseException:
            self.stop()
            raise

    def _boot(self) -> None:
        plane = self._plane
        plane.folder.mkdir(exist_ok=True)
        plane.prepare()
        write_kubeconfig(
            self.kubeconfig, f"https://{LOOPBACK}:{plane.ports.api}", plane.authority, "admin"
        )
        plane.start_storage_and_api()
        api = Api(self.kubeconfig, timeout=2.0)
        plane.wait_ready(api, lambda: self.run.process("kube-apiserver"))
        if not has_controllers():
            say("bed: KUBEBUILDER_ASSETS has an API server only: nothing schedules or scales here")
            for number, node in enumerate(self.nodes, start=1):
                api.create("/api/v1/nodes", self._node(number, node, ready=True))
            return
        plane.start_controllers()
        stages = self.run.folder / "stages.yaml"
        stages.write_text(kwok_stages())
        argv = [
            str(kwok_program()),
            f"--kubeconfig={self.kubeconfig}",
            "--manage-all-nodes=true",
            f"--config={stages}",
            f"--node-lease-duration-seconds={self.options.node_lease_seconds}",
        ]
        self._launch("kwok", argv)
        for number, node in enumerate(self.nodes, start=1):
            api.create("/api/v1/nodes", self._node(number, node))
        self._wait_nodes(api)
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        until(lambda: api.get(account), "the default service account")
        self.run.check()

    def _wait_nodes(self, api: Api) -> None:
        def all_ready() -> bool:
            return sum(map(ready, api.get("/api/v1/nodes")["items"])) >= self.options.nodes

        until(all_ready, f"simulated nodes to be Ready; see {self.logs}", timeout=60)

    def _node(self, number: int, name: str, *, ready: bool = False) -> dict[str, Any]:
        labels = {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "topology.kubernetes.io/zone": self.options.zone(number),
            "topology.kubernetes.io/region": "bed",
            "type": "kwok",
        }
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "status": {
                "allocatable": CAPACITY,
                "capacity": CAPACITY,
                "conditions": [{"type": "Ready", "status": "True"}] if ready else [],
            },
        }

    def stop(self) -> None:
        if self._run is None:
            return
        self._run.end()
        if self._warden is not None:
            self._warden.dismiss()
        self._run = self._warden = None

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> Process:
        return around.spawn(self.run, None, name, argv, env, log)

    def expose(self, port: int, host: str = "127.0.0.1") -> tuple[str, int]:
        self._only_own(host)
        return LOOPBACK, port

    def admit(self, port: int) -> tuple[str, int]:
        return LOOPBACK, port

    def stop_apiserver(self) -> None:
        process = self.run.process("kube-apiserver")
        if process is not None:
            process.kill()

    def restart_apiserver(self) -> None:
        self.stop_apiserver()
        self._plane.start_api()
        api = Api(self.kubeconfig, timeout=1.0)
        self._plane.wait_ready(api, lambda: self.run.process("kube-apiserver"))

    def _launch(self, name: str, argv: Sequence[str]) -> Process:
        return launch(
            name, argv, log=self.run.logs / f"{name}.log", env=os.environ, records=self.run.records
        )
