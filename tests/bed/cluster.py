"""What every kind of test cluster offers, and the knobs the local ones take."""

from __future__ import annotations

import json
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self

from tests.bed.builds import kube_program
from tests.bed.errors import BedError, UnsupportedError
from tests.bed.processes import Process

ZONES = ("zone-a", "zone-b", "zone-c")


@dataclass(frozen=True)
class Options:
    """How a local cluster behaves. The defaults make it quick, not production-like."""

    nodes: int = 3
    zones: tuple[str, ...] = ZONES
    # Autoscaling loop.
    hpa_sync: str = "2s"
    hpa_downscale_stabilisation: str = "10s"
    hpa_initial_readiness_delay: str = "3s"
    hpa_cpu_initialisation: str = "10s"
    # Losing a node.
    node_monitor_grace: str = "10s"
    node_lease_seconds: int = 8
    toleration_seconds: int = 5
    # Restarting a container.
    restart_back_off_cap: str = "3s"
    # Each node sees the whole machine; this much memory stays out of its allocatable, and
    # "" shares the machine's memory out evenly.
    reserved_memory: str = ""
    reserved_cpu: str = "0"
    max_pods: int = 110
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    api_server_flags: tuple[str, ...] = ()
    controller_manager_flags: tuple[str, ...] = ()

    def zone(self, number: int) -> str:
        """The zone of the node with that number (from 1): zones take turns."""
        return self.zones[(number - 1) % len(self.zones)]

    def node_names(self) -> list[str]:
        """node-1, node-2, ..."""
        return [f"node-{number}" for number in range(1, self.nodes + 1)]

    def as_json(self) -> dict[str, Any]:
        """A form to keep in a run's folder."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Options:
        """Read back what `as_json` wrote."""
        lists = ("zones", "api_server_flags", "controller_manager_flags")
        return cls(**{**content, **{name: tuple(content[name]) for name in lists}})


class Cluster(ABC):
    """A Kubernetes cluster to break. `kind` says which sort; every path in it exists.

    A call a kind can never do raises UnsupportedError and names a kind that can.
    """

    kind: str
    #: True when containers truly run, so that they can crash, hang and leak.
    real_nodes: bool
    #: A kubeconfig for processes on this machine.
    kubeconfig: Path
    #: A kubeconfig for processes started by `spawn`.
    inner_kubeconfig: Path
    #: Where the API server writes its audit log (JSON lines), None when it is not ours.
    audit_log: Path | None = None
    #: The address at which pods and other spawned processes reach a spawned process.
    inner_address: str = "127.0.0.1"
    #: The context of `kubeconfig` to use; "" for the file's current one.
    context: str = ""

    @property
    @abstractmethod
    def nodes(self) -> list[str]:
        """The names of the nodes it was made with."""

    @property
    @abstractmethod
    def logs(self) -> Path:
        """The folder for logs of processes around this cluster."""

    @abstractmethod
    def prepare(self) -> None:
        """Build what `start` needs, so that starting takes seconds."""

    @abstractmethod
    def start(self) -> None:
        """Bring it up; returns when every node is Ready."""

    @abstractmethod
    def stop(self) -> None:
        """End it and leave nothing; a cluster the bed did not start is only let go."""

    @abstractmethod
    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> Process:
        """Start a process where pod addresses can be reached; it ends with the cluster.

        `env` replaces the environment; None keeps ours. The name must be unused.
        """

    @abstractmethod
    def expose(self, port: int, host: str = "127.0.0.1") -> tuple[str, int]:
        """A loopback (host, port) of this machine that leads to `port` of a spawned process.

        With `host`, to that address as a spawned process sees it: a pod's, or a Service's.
        """

    @abstractmethod
    def admit(self, port: int) -> tuple[str, int]:
        """The (host, port) at which spawned processes and pods reach our own loopback `port`."""

    def import_image(self, archive: Path) -> None:
        """Put an OCI archive on every node."""
        self._cannot("import_image", archive)

    def freeze_kubelet(self, node: str) -> None:
        """Stop a kubelet in its tracks: containers run on, the node falls silent."""
        self._cannot("freeze_kubelet", node)

    def thaw_kubelet(self, node: str) -> None:
        """Let a frozen kubelet go on."""
        self._cannot("thaw_kubelet", node)

    def kill_node(self, node: str) -> None:
        """Cut a node's power."""
        self._cannot("kill_node", node)

    def restore_node(self, node: str) -> None:
        """Power a killed node on again; returns when it is Ready."""
        self._cannot("restore_node", node)

    def restart_apiserver(self) -> None:
        """End the API server and start it again; returns when it is ready."""
        self._cannot("restart_apiserver")

    def stop_apiserver(self) -> None:
        """End the API server, as an outage does; `restart_apiserver` ends the outage."""
        self._cannot("stop_apiserver")

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run kubectl against this cluster and return what it printed."""
        command = [*kube_program("kubectl"), "--kubeconfig", str(self.kubeconfig)]
        if self.context:
            command += ["--context", self.context]
        result = subprocess.run(
            [*command, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if result.returncode:
            raise BedError(f"kubectl {' '.join(arguments)}: {result.stderr.strip()}")
        return result.stdout

    def get(self, *arguments: str) -> Any:
        """`kubectl get ... -o json`, parsed."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """`kubectl apply` of objects given as plain values."""
        content = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(content))

    def describe(self) -> str:
        """One line for people: the kind, its nodes, how to reach it."""
        return f"{self.kind} cluster, nodes {', '.join(self.nodes)}, kubeconfig {self.kubeconfig}"

    def _only_own(self, host: str) -> None:
        if host not in {"127.0.0.1", "localhost"}:
            self._cannot(f"reach {host} from this machine")

    def _cannot(self, call: str, *_: object) -> NoReturn:
        raise UnsupportedError(
            f"a {self.kind} cluster cannot {call}: it needs --cluster=local (real nodes, root)"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
