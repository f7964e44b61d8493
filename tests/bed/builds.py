"""Every artefact of the test bed, its version, and how to reach its programs.

Nothing is built at import: asking for a path builds what is missing, so a cluster costs
only what it uses. `python -m tests.bed build` builds ahead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bed.cache import Artefact
from tests.bed.debian import debian_artefact
from tests.bed.errors import BedError, UnavailableError
from tests.bed.golang import Program, go_artefact, module_source

KUBERNETES = "1.36.3"
CONTAINERD = "2.4.2"
PROMETHEUS = "0.305.0"
ALERTMANAGER = "0.31.0"
KWOK = "0.8.0"
KUSTOMIZE = "5.8.1"
KIND = "0.32.0"
OWN = "1"


def kube() -> Artefact:
    """The control plane, kubelet, kube-proxy, etcd and kubectl in one binary `kube`."""
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES.split(".")
    stamp = (
        f"-X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor={major} "
        f"-X {version}.gitMinor={minor}"
    )
    return go_artefact("kube", KUBERNETES, Program("kube", ldflags=stamp))


def containerd() -> Artefact:
    """containerd, its shim for runc, and ctr."""
    package = "github.com/containerd/containerd/v2/cmd"
    # Snapshotters that need C libraries or kernel modules nobody uses here.
    tags = "no_btrfs no_zfs no_devmapper no_aufs"
    names = ("containerd", "containerd-shim-runc-v2", "ctr")
    programs = [Program(name, f"{package}/{name}", tags) for name in names]
    return go_artefact("containerd", CONTAINERD, *programs)


def prometheus() -> Artefact:
    """prometheus and promtool (0.305 is the library version of 3.5 LTS)."""
    package = "github.com/prometheus/prometheus/cmd"
    names = ("prometheus", "promtool")
    return go_artefact("prometheus", PROMETHEUS, *(Program(n, f"{package}/{n}") for n in names))


def alertmanager() -> Artefact:
    """alertmanager and amtool."""
    package = "github.com/prometheus/alertmanager/cmd"
    names = ("alertmanager", "amtool")
    programs = [Program(name, f"{package}/{name}") for name in names]
    return go_artefact("alertmanager", ALERTMANAGER, *programs)


def kwok() -> Artefact:
    """The KWOK controller that plays the kubelet of simulated nodes."""
    module = "sigs.k8s.io/kwok"
    program = go_artefact("kwok", KWOK, Program("kwok", f"{module}/cmd/kwok"))

    def make(folder: Path) -> None:
        program.make(folder)
        (folder / "stages").mkdir()
        # It refuses to start without stages, and its module ships them.
        for stage in ("node/fast", "node/heartbeat-with-lease", "pod/fast"):
            source = module_source("kwok", module) / "kustomize" / "stage" / stage
            for path in source.glob("*.yaml"):
                if path.name != "kustomization.yaml":
                    shutil.copyfile(path, folder / "stages" / path.name)

    return Artefact("kwok", KWOK, program.recipe + " and stages", make)


def kustomize() -> Artefact:
    """kustomize."""
    return go_artefact(
        "kustomize", KUSTOMIZE, Program("kustomize", "sigs.k8s.io/kustomize/kustomize/v5")
    )


def kind() -> Artefact:
    """kind."""
    return go_artefact("kind", KIND, Program("kind", "sigs.k8s.io/kind"))


def pause() -> Artefact:
    """The init process of a pod's sandbox."""
    return go_artefact("pause", OWN, Program("pause"))


def app() -> Artefact:
    """The service to break."""
    return go_artefact("app", OWN, Program("app"))


def limited() -> Artefact:
    """The service of which each instance carries a known load."""
    return go_artefact("limited", OWN, Program("limited"))


ARTEFACTS: dict[str, Callable[[], Artefact]] = {
    "kube": kube,
    "containerd": containerd,
    "debian": debian_artefact,
    "prometheus": prometheus,
    "alertmanager": alertmanager,
    "kwok": kwok,
    "kustomize": kustomize,
    "kind": kind,
    "pause": pause,
    "app": app,
    "limited": limited,
}

_BINARIES: dict[str, Callable[[], Artefact]] = {
    "kube": kube,
    "containerd": containerd,
    "containerd-shim-runc-v2": containerd,
    "ctr": containerd,
    "prometheus": prometheus,
    "promtool": prometheus,
    "alertmanager": alertmanager,
    "amtool": alertmanager,
    "kwok": kwok,
    "kustomize": kustomize,
    "kind": kind,
    "pause": pause,
    "app": app,
    "limited": limited,
}


def binary(name: str) -> Path:
    """The path of a program; it is built first when the cache does not hold it."""
    if name not in _BINARIES:
        raise BedError(f"no program called {name!r}; known are {', '.join(_BINARIES)}")
    return _BINARIES[name]().path() / "bin" / name


def kube_program(name: str) -> list[str]:
    """The argv prefix that runs a Kubernetes program such as kube-apiserver or kubectl.

    A machine that cannot build but has KUBEBUILDER_ASSETS uses the programs in there.
    """
    assets = _assets()
    if assets is None:
        return [str(binary("kube")), name]
    program = assets / name
    if not program.is_file():
        raise UnavailableError(
            f"KUBEBUILDER_ASSETS={assets} has no {name}, and without Go it cannot be built: "
            "install Go 1.26 or later"
        )
    return [str(program)]


def has_controllers() -> bool:
    """True when there is more than the API server to run: controllers, scheduler, KWOK."""
    assets = _assets()
    wanted = ("kube-controller-manager", "kube-scheduler", "kwok")
    return assets is None or all((assets / name).is_file() for name in wanted)


def kwok_program() -> Path:
    """KWOK, from the assets when those are what this machine has."""
    assets = _assets()
    return binary("kwok") if assets is None else assets / "kwok"


def _assets() -> Path | None:
    """The folder of ready-made programs, when it is what this machine must do with."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets or kube().built or shutil.which("go") is not None:
        return None
    return Path(assets)


def kwok_stages() -> str:
    """The stages KWOK plays: nodes and pods that are well at once, and nodes that stay so."""
    files = sorted((kwok().path() / "stages").glob("*.yaml"))
    return "\n---\n".join(path.read_text() for path in files)


def build(names: Sequence[str]) -> list[Path]:
    """Build the named artefacts (all of them when none is named) and return their folders."""
    unknown = [name for name in names if name not in ARTEFACTS]
    if unknown:
        raise BedError(f"cannot build {', '.join(unknown)}; known are {', '.join(ARTEFACTS)}")
    return [ARTEFACTS[name]().path() for name in names or ARTEFACTS]
