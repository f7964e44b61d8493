"""Which kind of cluster to take on this machine, and why."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.bed.builds import kube
from tests.bed.cluster import Cluster, Options
from tests.bed.enclosure import require_real_nodes
from tests.bed.errors import BedError, UnavailableError
from tests.bed.kind import KindCluster, require_engine
from tests.bed.local import LocalCluster
from tests.bed.named import NamedCluster
from tests.bed.runs import DETACHED, Run
from tests.bed.runs import detached as detached_run
from tests.bed.simulated import SimulatedCluster

KINDS = ("auto", "local", "kind", "simulated", "named:CONTEXT")
VARIABLE = "HEALER_BED_CLUSTER"


@dataclass(frozen=True)
class Choice:
    """A cluster not started yet, and the reason it is this one."""

    cluster: Cluster
    reason: str


def choose(
    wanted: str = "auto", options: Options | None = None, *, detached: bool = False
) -> Choice:
    """Decide on a cluster.

    `auto` takes real nodes on this machine when it can have them, then kind when a
    container engine answers, then simulated nodes. The current context of a kubeconfig is
    never taken: a cluster of yours must be named, as `named:CONTEXT`.
    """
    options = options or Options()
    if wanted == "auto":
        wanted = os.environ.get(VARIABLE, "auto")
    if wanted.startswith("named:"):
        return Choice(NamedCluster(wanted.removeprefix("named:")), "you named it")
    if wanted == "local":
        require_real_nodes()
        return Choice(LocalCluster(options, detached=detached), "you asked for it")
    if wanted == "kind":
        require_engine()
        return Choice(KindCluster(options, detached=detached), "you asked for it")
    if wanted == "simulated":
        return Choice(SimulatedCluster(options, detached=detached), "you asked for it")
    if wanted != "auto":
        raise BedError(f"no kind of cluster called {wanted!r}; there are {', '.join(KINDS)}")
    return _best(options, detached=detached)


def _best(options: Options, *, detached: bool) -> Choice:
    against: list[str] = []
    try:
        require_real_nodes()
        _require_builds()
        return Choice(LocalCluster(options, detached=detached), "real nodes can run here")
    except UnavailableError as error:
        against.append(str(error))
    try:
        require_engine()
        return Choice(
            KindCluster(options, detached=detached), f"an engine answers; {'; '.join(against)}"
        )
    except UnavailableError as error:
        against.append(str(error))
    return Choice(SimulatedCluster(options, detached=detached), "; ".join(against))


def _require_builds() -> None:
    if not kube().built and shutil.which("go") is None:
        raise UnavailableError(
            "real nodes need Go once, to build the control plane: install Go 1.26 or later, "
            "or bring a filled cache and name it in HEALER_BED_CACHE"
        )


def running() -> Cluster | None:
    """The cluster that `up` left running, if it is there and whole."""
    run = detached_run()
    if run is None or run.abandoned:
        return None
    content = run.read("cluster")
    if content is None:
        raise BedError(
            f"the cluster {DETACHED!r} was never whole: end it with `python -m tests.bed down`"
        )
    return attach(run, str(content["kind"]))


def attach(run: Run, kind: str) -> Cluster:
    """The cluster of a run somebody else started."""
    if kind == LocalCluster.kind:
        return LocalCluster.attach(run)
    if kind == SimulatedCluster.kind:
        return SimulatedCluster.attach(run)
    if kind == KindCluster.kind:
        return KindCluster.attach(run)
    raise BedError(f"no cluster of kind {kind!r} can be left running; see {Path(run.folder)}")
