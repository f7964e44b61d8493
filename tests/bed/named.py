"""A cluster the caller names: never the current context, and only one labelled for tests."""

from __future__ import annotations

from tests.bed.builds import kube_program
from tests.bed.errors import BedError, UnavailableError
from tests.bed.outside import OutsideCluster
from tests.bed.runs import Run
from tests.bed.warden import Warden

LABEL = "healer.dev/test-bed"
ALLOWED = "allowed"


class NamedCluster(OutsideCluster):
    """Somebody's cluster, used only when its owner said that it may be broken.

    The owner says so by a label on the namespace kube-system, which only a cluster
    administrator can set:

        kubectl label namespace kube-system healer.dev/test-bed=allowed
    """

    kind = "named"
    real_nodes = True

    def __init__(self, context: str) -> None:
        if not context:
            raise BedError("name the context: --cluster=named:CONTEXT")
        self.context = context
        self.kubeconfig = self.inner_kubeconfig = self._users_kubeconfig()
        self._warden: Warden | None = None

    def prepare(self) -> None:
        kube_program("kubectl")

    def start(self) -> None:
        if not self.kubeconfig.exists():
            raise UnavailableError(f"no kubeconfig at {self.kubeconfig}: set KUBECONFIG")
        labels = self.get("namespace", "kube-system")["metadata"].get("labels", {})
        if labels.get(LABEL) != ALLOWED:
            raise BedError(
                f"the cluster of context {self.context!r} is not labelled for tests, so nothing "
                "will be done to it. If it may be broken, its administrator says so by "
                f"`kubectl --context {self.context} label namespace kube-system {LABEL}={ALLOWED}`"
            )
        self._run = Run.create(detached=False)
        self._warden = Warden(self._run)
        self._read_nodes()

    def stop(self) -> None:
        if self._run is not None:
            self._run.end()
        if self._warden is not None:
            self._warden.dismiss()
        self._run = self._warden = None
