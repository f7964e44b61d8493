"""`python -m tests.bed build|up|down|status|kubectl`: the test bed by hand."""

from __future__ import annotations

import argparse
import subprocess
import sys

from tests.bed.builds import ARTEFACTS, build, kube_program
from tests.bed.cache import cache_folder, say
from tests.bed.choose import KINDS, choose, running
from tests.bed.cluster import Options
from tests.bed.errors import BedError
from tests.bed.runs import detached, sweep
from tests.bed.waiting import now


def up(arguments: argparse.Namespace) -> None:
    """Start a cluster and leave it running."""
    found = running()
    if found is not None:
        if arguments.cluster not in {"auto", found.kind}:
            raise BedError(
                f"a {found.kind} cluster is up already: end it with `python -m tests.bed down`"
            )
        say("bed: a cluster is up already")
        print(found.describe())
        return
    choice = choose(arguments.cluster, Options(nodes=arguments.nodes), detached=True)
    say(f"bed: taking a {choice.cluster.kind} cluster: {choice.reason}")
    began = now()
    choice.cluster.start()
    say(f"bed: {arguments.nodes} nodes Ready after {now() - began:.1f} s")
    print(f"export KUBECONFIG={choice.cluster.kubeconfig}")
    print(f"# inside: KUBECONFIG={choice.cluster.inner_kubeconfig}")
    print(f"# spawned processes listen at {choice.cluster.inner_address}")
    print(f"# logs: {choice.cluster.logs}")
    print(f"# audit log: {choice.cluster.audit_log}")


def down(_: argparse.Namespace) -> None:
    """End the cluster that `up` left, and whatever dead runs left."""
    sweep()
    began = now()
    run = detached()
    if run is None:
        print("no cluster is up")
        return
    content = run.read("cluster")
    cluster = running() if content else None
    if cluster is not None:
        cluster.stop()
    else:
        run.end()
    print(f"gone after {now() - began:.1f} s")


def status(_: argparse.Namespace) -> None:
    """Say what runs."""
    cluster = running()
    print(f"cache: {cache_folder()}")
    for name, artefact in ARTEFACTS.items():
        known = artefact()
        print(f"  {name:<14} {known.version:<10} {'built' if known.built else 'not built'}")
    if cluster is None:
        print("no cluster is up")
        return
    print(cluster.describe())
    run = detached()
    for process in (run.processes() if run else {}).values():
        print(f"  {process.name:<34} {process.pid:>8} {'runs' if process.alive() else 'ENDED'}")


def ahead(arguments: argparse.Namespace) -> None:
    """Build into the cache."""
    for path in build(arguments.what):
        print(path)


def kubectl(arguments: argparse.Namespace) -> None:
    """Run kubectl against the cluster that is up."""
    cluster = running()
    if cluster is None:
        raise BedError("no cluster is up: `python -m tests.bed up` starts one")
    rest = [word for word in arguments.rest if word != "--"]
    command = [*kube_program("kubectl"), "--kubeconfig", str(cluster.kubeconfig), *rest]
    sys.exit(subprocess.run(command, check=False).returncode)


def main() -> None:
    """Do what the arguments say; a BedError is one line, not a traceback."""
    parser = argparse.ArgumentParser(prog="python -m tests.bed", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    it = commands.add_parser("up", help="start a cluster and leave it running")
    it.add_argument("--cluster", default="auto", help=" | ".join(KINDS))
    it.add_argument("--nodes", type=int, default=3)
    it.set_defaults(do=up)
    commands.add_parser("down", help="end it, leaving nothing").set_defaults(do=down)
    commands.add_parser("status", help="what is built and what runs").set_defaults(do=status)
    it = commands.add_parser("build", help="build into the cache ahead of time")
    it.add_argument("what", nargs="*", help=f"of {', '.join(ARTEFACTS)}; default: all")
    it.set_defaults(do=ahead)
    it = commands.add_parser("kubectl", help="kubectl against the running cluster")
    it.add_argument("rest", nargs=argparse.REMAINDER)
    it.set_defaults(do=kubectl)
    arguments = parser.parse_args()
    try:
        arguments.do(arguments)
    except BedError as error:
        say(f"bed: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
