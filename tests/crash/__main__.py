"""`make chaos-crash`: kills healer thousands of times; was anything lost, or done twice?

    python -m tests.crash --kills 10000 --store sqlite [--seconds S] [--resume FOLDER]

Exits with 0 only if the history checker finds nothing. The last line is one JSON object with `ok`.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from tests.crash.report import show
from tests.crash.trial import Trial


def main() -> int:
    """Kill, check, show."""
    parser = argparse.ArgumentParser(prog="make chaos-crash")
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=None, help="stop after this time")
    parser.add_argument(
        "--resume", type=Path, help="folder to keep the state in, and to go on from"
    )
    parser.add_argument("--seed", default="", help="draw the same kills again")
    parser.add_argument("--segment", type=int, default=500, help="kills with one journal")
    parser.add_argument(
        "--mutant", default="", help="break healer on purpose: a name of mutants.py"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-crash-") as temporary:
        folder = given.resume or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        trial = Trial.at(
            folder, given.store, given.seed or secrets.token_hex(4), given.segment, given.mutant
        )
        asyncio.run(trial.run(given.kills, given.seconds))
        return show(trial, given.kills)


if __name__ == "__main__":
    sys.exit(main())
