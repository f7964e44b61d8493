"""The local cluster with real nodes: kubelet, containerd and runc in private namespaces.

One enclosure, the hub, holds the control plane, kube-proxy and whatever is spawned; each
node has an enclosure of its own, so any node can lose its power without hurting the rest.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bed import around
from tests.bed.api import Api, ready
from tests.bed.builds import binary, kube_program
from tests.bed.cluster import Cluster, Options
from tests.bed.control_plane import ControlPlane, Ports
from tests.bed.debian import debian_artefact
from tests.bed.enclosure import (
    Enclosure,
    python_environment,
    python_module,
    require_real_nodes,
)
from tests.bed.errors import BedError
from tests.bed.images import app_archive, pause_archive
from tests.bed.kubeconfig import write_kubeconfig
from tests.bed.node_config import (
    HUB,
    SOCKET,
    node_address,
    tools_environment,
    write_containerd,
    write_kubelet,
    write_pod_network,
    write_proxy,
)
from tests.bed.processes import Process
from tests.bed.runs import Run
from tests.bed.waiting import until
from tests.bed.warden import Warden

HUB_NAME = "hub"


class LocalCluster(Cluster):
    """Real nodes on this machine."""

    kind = "local"
    real_nodes = True
    inner_address = HUB

    def __init__(self, options: Options | None = None, *, detached: bool = False) -> None:
        self.options = options or Options()
        self._detached = detached
        self._warden: Warden | None = None
        self._run: Run | None = None

    @classmethod
    def attach(cls, run: Run) -> LocalCluster:
        """The cluster of a run that another process started; `stop` ends it."""
        cluster = cls(Options.from_json(run.read("cluster")["options"]), detached=True)
        cluster._adopt(run)
        return cluster

    def _adopt(self, run: Run) -> None:
        self._run = run
        self._hub = Enclosure(run, HUB_NAME, HUB, kubelet=False)
        self._enclosures = {
            name: Enclosure(run, name, node_address(number), kubelet=True)
            for number, name in enumerate(self.nodes, start=1)
        }
        self._plane = ControlPlane(
            run.folder / HUB_NAME, self.options, HUB, Ports(), self._hub.start
        )
        self.kubeconfig = run.folder / "kubeconfig"
        self.inner_kubeconfig = self._plane.inner_kubeconfig
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
        for program in ("kube", "containerd", "pause"):
            binary(program)
        debian_artefact().path()
        pause_archive()
        app_archive()

    def start(self) -> None:
        require_real_nodes()
        self.prepare()
        run = Run.create(detached=self._detached)
        if not self._detached:
            self._warden = Warden(run)
        self._adopt(run)
        run.write("cluster", {"kind": self.kind, "options": self.options.as_json()})
        try:
            self._boot()
        except BaseException:
            self.stop()
            raise

    def _boot(self) -> None:
        archives = [pause_archive(), app_archive()]
        # What takes longest starts first: the API server needs seconds, and the nodes'
        # containerds come up in its shadow.
        self._hub.open()
        (self.run.folder / HUB_NAME).mkdir(exist_ok=True)
        self._plane.prepare()
        self._hub.wait()
        self._plane.start_storage_and_api()
        port = around.relay(self.run, self._hub, self._plane.ports.api, listen="outside")
        write_kubeconfig(
            self.kubeconfig, f"https://127.0.0.1:{port}", self._plane.authority, "admin"
        )
        for number, node in enumerate(self.nodes, start=1):
            self._open_node(number, node)
        for node in self.nodes:
            self._wait_containerd(node)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda node: self._import(node, archives), self.nodes))
        self._wait_api()
        self._plane.start_controllers()
        for number, node in enumerate(self.nodes, start=1):
            self._start_kubelet(number, node)
        self._start_proxy()
        self._start_names()
        for node in self.nodes:
            self._wait_node(node)
        # The first pod of a namespace needs its account.
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        until(lambda: self._api().get(account), "the default service account")
        self.run.check()

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
        return around.spawn(self.run, self._hub, name, argv, env, log)

    def expose(self, port: int, host: str = "127.0.0.1") -> tuple[str, int]:
        return "127.0.0.1", around.relay(self.run, self._hub, port, listen="outside", host=host)

    def admit(self, port: int) -> tuple[str, int]:
        return HUB, around.relay(self.run, self._hub, port, listen="inside")

    def import_image(self, archive: Path) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda node: self._import(node, [archive]), self._living()))

    def freeze_kubelet(self, node: str) -> None:
        self._kubelet(node).signal(signal.SIGSTOP)

    def thaw_kubelet(self, node: str) -> None:
        self._kubelet(node).signal(signal.SIGCONT)

    def kill_node(self, node: str) -> None:
        self._enclosure(node).close()

    def restore_node(self, node: str) -> None:
        enclosure = self._enclosure(node)
        if enclosure.alive:
            raise BedError(f"{node} runs: kill_node() comes before restore_node()")
        enclosure.close()  # also when its init ended by itself
        number = self.nodes.index(node) + 1
        beats = self._heartbeat(node)
        self._open_node(number, node)
        self._wait_containerd(node)
        self._start_kubelet(number, node)
        until(lambda: self._heartbeat(node) != beats, f"a sign of life of {node}")
        self._wait_node(node)

    def stop_apiserver(self) -> None:
        process = self.run.process(f"{HUB_NAME}.kube-apiserver")
        if process is not None:
            # A graceful end waits for every watch to close, which is not how outages begin.
            process.kill()

    def restart_apiserver(self) -> None:
        self.stop_apiserver()
        self._plane.start_api()
        self._wait_api()

    def _open_node(self, number: int, node: str) -> None:
        enclosure = self._enclosure(node)
        enclosure.open()
        enclosure.plug_into(self._hub)
        write_pod_network(enclosure.folder, number)
        enclosure.wait()
        config = write_containerd(enclosure.folder)
        argv = [str(binary("containerd")), "--config", str(config)]
        enclosure.start("containerd", argv, tools_environment())

    def _wait_containerd(self, node: str) -> None:
        enclosure = self._enclosure(node)
        # The socket lies on the node's own /run, which is seen through its init.
        socket = Path(f"/proc/{enclosure.init.pid}/root{SOCKET}")
        until(socket.exists, f"containerd of {node}", timeout=30, interval=0.05)

    def _import(self, node: str, archives: list[Path]) -> None:
        for archive in archives:
            ctr = [str(binary("ctr")), "--address", SOCKET, "-n", "k8s.io"]
            self._enclosure(node).call(*ctr, "images", "import", "--local", str(archive))

    def _start_kubelet(self, number: int, node: str) -> None:
        enclosure = self._enclosure(node)
        authority = self._plane.authority
        server = f"https://{HUB}:{self._plane.ports.api}"
        config, kubeconfig = write_kubelet(
            enclosure.folder, number, node, self.options, authority, server
        )
        argv = [
            *kube_program("kubelet"),
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={enclosure.folder / 'kubelet'}",
            f"--node-ip={node_address(number)}",
            f"--hostname-override={node}",
            f"--node-labels=topology.kubernetes.io/zone={self.options.zone(number)},"
            "topology.kubernetes.io/region=bed",
        ]
        enclosure.start("kubelet", argv, tools_environment())

    def _start_proxy(self) -> None:
        config = write_proxy(
            self.run.folder / HUB_NAME, self._plane.inner_kubeconfig, self.nodes[0]
        )
        argv = [*kube_program("kube-proxy"), f"--config={config}"]
        self._hub.start("kube-proxy", argv, tools_environment())

    def _start_names(self) -> None:
        kubeconfig = str(self._plane.inner_kubeconfig)
        module = python_module("tests.bed.dns", "--kubeconfig", kubeconfig, "--address", HUB)
        self._hub.start("dns", module, python_environment())

    def _api(self) -> Api:
        return Api(self.kubeconfig)

    def _wait_api(self) -> None:
        name = f"{HUB_NAME}.kube-apiserver"
        # A question asked too early is never answered, so ask again soon.
        api = Api(self.kubeconfig, timeout=1.0)
        self._plane.wait_ready(api, lambda: self.run.process(name))

    def _wait_node(self, node: str) -> None:
        def usable() -> bool:
            kubelet = self._kubelet(node)
            if not kubelet.alive():
                raise RuntimeError(f"the kubelet of {node} ended:\n{kubelet.tail()}")
            return ready(self._api().get(f"/api/v1/nodes/{node}"))

        try:
            until(usable, f"{node} to be Ready; see {self.logs}", timeout=60)
        except RuntimeError as error:
            raise BedError(str(error)) from error

    def _heartbeat(self, node: str) -> str:
        lease = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}"
        return str(self._api().get(lease)["spec"]["renewTime"])

    def _kubelet(self, node: str) -> Process:
        self._enclosure(node)
        process = self.run.process(f"{node}.kubelet")
        if process is None:
            raise BedError(f"{node} has no kubelet: restore_node() starts one")
        return process

    def _living(self) -> list[str]:
        return [name for name, enclosure in self._enclosures.items() if enclosure.alive]

    def _enclosure(self, node: str) -> Enclosure:
        self.run  # noqa: B018 - says so when the cluster is not started
        if node not in self._enclosures:
            raise BedError(f"no node {node!r}; there are {', '.join(self.nodes)}")
        return self._enclosures[node]
