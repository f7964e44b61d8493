"""The kind cluster: nodes in containers of a Docker or Podman engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import yaml

from tests.bed.builds import binary
from tests.bed.cluster import Options
from tests.bed.enclosure import REPOSITORY
from tests.bed.errors import BedError, UnavailableError
from tests.bed.images import app_archive
from tests.bed.kubeconfig import write_yaml
from tests.bed.outside import OutsideCluster
from tests.bed.runs import Run
from tests.bed.warden import Warden

CONFIG = REPOSITORY / "deploy" / "kind" / "cluster.yaml"
ENGINES = ("docker", "podman")


def require_engine() -> str:
    """The engine that answers; raises UnavailableError when none does."""
    for engine in ENGINES:
        if shutil.which(engine) is None:
            continue
        result = subprocess.run([engine, "info"], capture_output=True, timeout=20, check=False)
        if result.returncode == 0:
            return engine
    raise UnavailableError("no Docker or Podman engine answers: start one to use kind")


class KindCluster(OutsideCluster):
    """A kind cluster, made from deploy/kind/cluster.yaml with the asked-for nodes."""

    kind = "kind"
    real_nodes = True

    def __init__(self, options: Options | None = None, *, detached: bool = False) -> None:
        self.options = options or Options()
        self._detached = detached
        self._warden: Warden | None = None

    @classmethod
    def attach(cls, run: Run) -> KindCluster:
        """The cluster of a run that another process started."""
        cluster = cls(Options.from_json(run.read("cluster")["options"]), detached=True)
        cluster._adopt(run)
        cluster._read_nodes()
        return cluster

    @property
    def name(self) -> str:
        """What kind and the engine call it."""
        return f"healer-bed-{self.run.name}"

    def _adopt(self, run: Run) -> None:
        self._run = run
        self.kubeconfig = self.inner_kubeconfig = run.folder / "kubeconfig"

    def prepare(self) -> None:
        binary("kind")
        app_archive()

    def start(self) -> None:
        engine = require_engine()
        kind = binary("kind")
        run = Run.create(detached=self._detached)
        if not self._detached:
            self._warden = Warden(run)
        self._adopt(run)
        run.write("cluster", {"kind": self.kind, "options": self.options.as_json()})
        try:
            config = write_yaml(run.folder / "kind.yaml", self._config())
            self._kind(kind, engine, "delete", "cluster", "--name", self.name)
            self._kind(
                kind,
                engine,
                *("create", "cluster", "--name", self.name, "--config", str(config)),
                *("--kubeconfig", str(self.kubeconfig), "--wait", "180s"),
            )
            self._read_nodes()
        except BaseException:
            self.stop()
            raise

    def _config(self) -> object:
        content = yaml.safe_load(CONFIG.read_text())
        workers = [node for node in content["nodes"] if node["role"] == "worker"]
        others = [node for node in content["nodes"] if node["role"] != "worker"]
        chosen = []
        for number in range(1, self.options.nodes + 1):
            labels = {"topology.kubernetes.io/zone": self.options.zone(number)}
            chosen.append({**workers[0], "labels": labels})
        return {**content, "nodes": [*others, *chosen]}

    def stop(self) -> None:
        if self._run is None:
            return
        self._kind(binary("kind"), require_engine(), "delete", "cluster", "--name", self.name)
        self._run.end()
        if self._warden is not None:
            self._warden.dismiss()
        self._run = self._warden = None

    def import_image(self, archive: Path) -> None:
        arguments = ("load", "image-archive", str(archive), "--name", self.name)
        self._kind(binary("kind"), require_engine(), *arguments)

    def kill_node(self, node: str) -> None:
        self._engine("kill", node)

    def restore_node(self, node: str) -> None:
        self._engine("start", node)

    def freeze_kubelet(self, node: str) -> None:
        self._engine("exec", node, "systemctl", "kill", "-s", "STOP", "kubelet")

    def thaw_kubelet(self, node: str) -> None:
        self._engine("exec", node, "systemctl", "kill", "-s", "CONT", "kubelet")

    def _engine(self, *arguments: str) -> None:
        self._call([require_engine(), *arguments], None)

    def _kind(self, kind: Path, engine: str, *arguments: str) -> None:
        self._call([str(kind), *arguments], {**os.environ, "KIND_EXPERIMENTAL_PROVIDER": engine})

    def _call(self, command: list[str], environment: dict[str, str] | None) -> None:
        result = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False
        )
        if result.returncode:
            raise BedError(f"`{' '.join(command)}` failed: {result.stderr.strip()[-1000:]}")
