"""`make chaos-experiments`: all experiments on the test bed, as staging would run them.

Brings up the cluster and healer, then starts `python -m chaos run` as its own program and passes
its output and exit code on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bed.builds import binary
from tests.bed.choose import choose, running
from tests.bed.cluster import Cluster, Options
from tests.bed.errors import BedError
from tests.bed.images import app_archive
from tests.chaos.ground import Ground
from tests.demo.stack import ROOT


def experiments(ground: Ground, arguments: list[str]) -> int:
    """Run `python -m chaos run` against the ground."""
    command = [
        sys.executable, "-m", "chaos", "run", "--context", ground.context,
        "--site", str(ground.site), *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise


def real(cluster: Cluster) -> Cluster:
    """The cluster, if pods truly run there; BedError if not."""
    if not cluster.real_nodes:
        raise BedError(f"experiments need pods that run; a {cluster.kind} cluster has none")
    return cluster


def main() -> int:
    """Set up, run, clear away."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--cluster", default="auto", help="kind of cluster; see tests/bed")
    options, rest = parser.parse_known_args()
    try:
        found = running()
        cluster = real(found or choose(options.cluster, Options(nodes=3)).cluster)
        if found is None:
            cluster.prepare()
            for program in ("prometheus", "alertmanager"):
                binary(program)
            cluster.start()
            if cluster.kind == "kind":
                cluster.import_image(app_archive())
        try:
            with tempfile.TemporaryDirectory(prefix="healer-chaos-") as folder:
                ground = Ground(cluster, Path(folder))
                try:
                    ground.start()
                    return experiments(ground, rest)
                finally:
                    ground.stop()
        finally:
            if found is None:
                cluster.stop()
    except BedError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
