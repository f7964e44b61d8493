"""`python -m chaos run --context NAME`: break what may be broken, and look who heals it."""

import argparse
import json
import signal
import sys
from pathlib import Path

from chaos.campaign import Runner
from chaos.catalogue import load
from chaos.clock import now
from chaos.errors import ChaosError, Refused
from chaos.report import summary, table, write
from chaos.site import read_site


def run(options: argparse.Namespace) -> int:
    """Run experiments; 0: all that ran passed, 1: not so, 2: refused or not possible at all."""
    began = now()

    def say(text: str) -> None:
        print(f"{now() - began:6.1f} s  {text}", flush=True)  # noqa: T201 - the command's output

    site = read_site(options.site, context=options.context)
    if options.kubeconfig is not None:
        site = site.model_copy(update={"kubeconfig": options.kubeconfig})
    folder = options.report.resolve()
    runner = Runner(
        site, folder / "runs", say, seconds=options.seconds, with_control=not options.no_control
    )
    campaign = runner.run(load(site, options.only))
    write(campaign, folder)
    print(table(campaign))  # noqa: T201
    print(f"report: {folder / 'index.html'}")  # noqa: T201
    print(json.dumps(summary(campaign)))  # noqa: T201
    return 0 if campaign.ok else 1


def show(_: argparse.Namespace) -> int:
    """List the experiments."""
    for one in load():
        needs = f" (needs {', '.join(one.claim.needs)})" if one.claim.needs else ""
        print(f"{one.name:<24} {one.claim.fault}{needs}")  # noqa: T201
    return 0


def _ended(number: int, frame: object) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; an error is one line."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    it = commands.add_parser("run", help="run experiments and write the report")
    it.add_argument("--context", default="", help="the kubeconfig's context; there is no default")
    it.add_argument(
        "--kubeconfig", type=Path, help="default: what the site file or KUBECONFIG says"
    )
    it.add_argument("--site", type=Path, default=Path("chaos-site.yaml"), help="the site file")
    it.add_argument("--only", action="append", metavar="NAME", help="this one; may be repeated")
    it.add_argument("--seconds", type=float, help="begin nothing that would end later than this")
    it.add_argument(
        "--report", type=Path, default=Path("reports/chaos"), help="where it is written"
    )
    it.add_argument("--no-control", action="store_true", help="credit nobody, in half the time")
    it.set_defaults(do=run)
    commands.add_parser("list", help="the experiments").set_defaults(do=show)
    options = parser.parse_args(arguments)
    # As Ctrl-C: victims are removed and healer is no longer paused before this program ends.
    signal.signal(signal.SIGTERM, _ended)
    try:
        return int(options.do(options))
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("chaos: interrupted; victims were removed and the pause ended", file=sys.stderr)  # noqa: T201
        return 130
    except (ChaosError, OSError) as error:
        print(f"chaos: {error}", file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main())
