"""etcd, API server, controller manager and scheduler, with the flags tests need.

Where they run is the caller's business: it gives a function that starts a process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bed.api import Api
from tests.bed.builds import has_controllers, kube_program
from tests.bed.certificates import Authority
from tests.bed.cluster import Options
from tests.bed.errors import BedError
from tests.bed.kubeconfig import write_kubeconfig, write_yaml
from tests.bed.processes import Process
from tests.bed.waiting import until

Starter = Callable[[str, Sequence[str]], Process]

SERVICE_RANGE = "10.96.0.0/16"
FIRST_SERVICE = "10.96.0.1"

# Every write of everybody, without bodies: enough to say who did what to which object.
# Nodes renew leases and report status all the time, and nobody asks about that.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "None", "userGroups": ["system:nodes"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True)
class Ports:
    """Where each part listens. In a private network the usual ones are free."""

    api: int = 6443
    etcd: int = 2379
    etcd_peer: int = 2380
    controller_manager: int = 10257
    scheduler: int = 10259


class ControlPlane:
    """The control plane of one cluster, its certificates and its kubeconfigs."""

    def __init__(
        self, folder: Path, options: Options, address: str, ports: Ports, start: Starter
    ) -> None:
        self.folder = folder
        self.options = options
        self.address = address
        self.ports = ports
        self._start = start
        self.inner_kubeconfig = folder / "admin.conf"
        self.audit_log = folder / "audit.log"

    @property
    def authority(self) -> Authority:
        """The cluster's certificate authority."""
        return Authority(self.folder / "pki")

    def prepare(self) -> None:
        """Make certificates, kubeconfigs and the audit policy."""
        authority = self.authority
        authority.issue(
            "apiserver",
            "kube-apiserver",
            names=("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"),
            addresses=tuple({"127.0.0.1", self.address, FIRST_SERVICE}),
        )
        authority.issue("admin", "admin", organisation="system:masters")
        authority.issue("front-proxy", "front-proxy-client")
        authority.bare_key("service-accounts")
        write_kubeconfig(
            self.inner_kubeconfig, f"https://{self.address}:{self.ports.api}", authority, "admin"
        )
        write_yaml(self.folder / "audit-policy.yaml", AUDIT_POLICY)
        self.audit_log.touch()

    def start_storage_and_api(self) -> None:
        """Start etcd and the API server; they find each other."""
        etcd, peer = self._etcd_url, f"http://127.0.0.1:{self.ports.etcd_peer}"
        self._start(
            "etcd",
            [
                *kube_program("etcd"),
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                # The cluster does not outlive the machine, so its disk need not be safe.
                "--unsafe-no-fsync",
            ],
        )
        self.start_api()

    def start_api(self) -> Process:
        """Start the API server alone."""
        return self._start("kube-apiserver", self._api_argv())

    def start_controllers(self) -> None:
        """Start the controller manager and the scheduler; the API server must be ready."""
        self._start("kube-controller-manager", self._controller_manager_argv())
        self._start(
            "kube-scheduler",
            [
                *kube_program("kube-scheduler"),
                f"--kubeconfig={self.inner_kubeconfig}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self.ports.scheduler}",
                "--leader-elect=false",
            ],
        )

    def wait_ready(self, api: Api, server: Callable[[], Process | None]) -> None:
        """Wait until the API server says so; one that ended is an error at once."""

        def ready() -> bool:
            process = server()
            if process is not None and not process.alive():
                raise RuntimeError(f"kube-apiserver ended; its log ends with:\n{process.tail()}")
            return api.text("/readyz") == "ok"

        try:
            until(ready, "the API server", timeout=90)
        except RuntimeError as error:
            raise BedError(str(error)) from error

    @property
    def _etcd_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.etcd}"

    def _api_argv(self) -> list[str]:
        authority, options = self.authority, self.options
        ca = authority.certificate("ca")
        toleration = options.toleration_seconds
        return [
            *kube_program("kube-apiserver"),
            f"--etcd-servers={self._etcd_url}",
            f"--secure-port={self.ports.api}",
            "--bind-address=0.0.0.0" if self.address != "127.0.0.1" else "--bind-address=127.0.0.1",
            f"--advertise-address={self.address}",
            f"--tls-cert-file={authority.certificate('apiserver')}",
            f"--tls-private-key-file={authority.key('apiserver')}",
            f"--client-ca-file={ca}",
            f"--service-account-key-file={authority.key('service-accounts')}",
            f"--service-account-signing-key-file={authority.key('service-accounts')}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            # The front proxy: what an aggregated API server trusts the user's name from.
            f"--requestheader-client-ca-file={ca}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={authority.certificate('front-proxy')}",
            f"--proxy-client-key-file={authority.key('front-proxy')}",
            "--allow-privileged=true",
            f"--default-not-ready-toleration-seconds={toleration}",
            f"--default-unreachable-toleration-seconds={toleration}",
            f"--kubelet-client-certificate={authority.certificate('admin')}",
            f"--kubelet-client-key={authority.key('admin')}",
            f"--kubelet-certificate-authority={ca}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--audit-policy-file={self.folder / 'audit-policy.yaml'}",
            f"--audit-log-path={self.audit_log}",
            # A request that was answered is in the log already, so a test need not wait.
            "--audit-log-mode=blocking",
            "--shutdown-delay-duration=0s",
            # Without controllers no namespace gets the account every pod must have.
            *([] if has_controllers() else ["--disable-admission-plugins=ServiceAccount"]),
            *self._gates(),
            *options.api_server_flags,
        ]

    def _controller_manager_argv(self) -> list[str]:
        authority, options = self.authority, self.options
        return [
            *kube_program("kube-controller-manager"),
            f"--kubeconfig={self.inner_kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports.controller_manager}",
            f"--service-account-private-key-file={authority.key('service-accounts')}",
            f"--root-ca-file={authority.certificate('ca')}",
            f"--cluster-signing-cert-file={authority.certificate('ca')}",
            f"--cluster-signing-key-file={authority.key('ca')}",
            f"--flex-volume-plugin-dir={self.folder / 'volume-plugins'}",
            "--use-service-account-credentials=true",
            # One client a controller, made one after another: with the usual limits that
            # alone takes five seconds.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            # A restart would wait for the lease of the one before.
            "--leader-elect=false",
            f"--node-monitor-grace-period={options.node_monitor_grace}",
            "--node-monitor-period=1s",
            f"--horizontal-pod-autoscaler-sync-period={options.hpa_sync}",
            "--horizontal-pod-autoscaler-downscale-stabilization="
            f"{options.hpa_downscale_stabilisation}",
            "--horizontal-pod-autoscaler-initial-readiness-delay="
            f"{options.hpa_initial_readiness_delay}",
            "--horizontal-pod-autoscaler-cpu-initialization-period="
            f"{options.hpa_cpu_initialisation}",
            *self._gates(),
            *options.controller_manager_flags,
        ]

    def _gates(self) -> list[str]:
        gates = self.options.feature_gates
        if not gates:
            return []
        return ["--feature-gates=" + ",".join(f"{k}={str(v).lower()}" for k, v in gates.items())]
