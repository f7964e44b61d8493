"""An API server and its etcd, and nothing else: objects are whatever the town makes of them."""

from __future__ import annotations

from tests.bed.api import Api
from tests.bed.builds import kube_program
from tests.bed.cluster import Options
from tests.bed.kubeconfig import write_kubeconfig
from tests.bed.simulated import LOOPBACK, SimulatedCluster


class PlaneOnly(SimulatedCluster):
    """The control plane without controllers, scheduler or nodes, and with its audit log."""

    kind = "plane"

    def __init__(self) -> None:
        # Without controllers no namespace gets the account every pod must have.
        super().__init__(Options(api_server_flags=("--disable-admission-plugins=ServiceAccount",)))

    def prepare(self) -> None:
        """Only two programs."""
        for program in ("etcd", "kube-apiserver"):
            kube_program(program)

    def _boot(self) -> None:
        plane = self._plane
        plane.folder.mkdir(exist_ok=True)
        plane.prepare()
        address = f"https://{LOOPBACK}:{plane.ports.api}"
        write_kubeconfig(self.kubeconfig, address, plane.authority, "admin")
        plane.start_storage_and_api()
        plane.wait_ready(
            Api(self.kubeconfig, timeout=2.0), lambda: self.run.process("kube-apiserver")
        )
