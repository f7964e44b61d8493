"""Proof that chaos-crash can fail: a healer that breaks one promise is found out, for that promise.

    python -m tests.crash.proof [--kills 40]

The last line is one JSON object with `ok`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.crash.trial import Trial

#: The kind of violation that each mutant must be found by.
FOUND = {
    "answers_before_the_commit": "lost_alert",
    "repeats_what_is_unknown": "repeated_effect",
    "accepts_without_keeping": "lost_alert",
}


def main() -> int:
    """Try each; the exit code is 0 when each was found."""
    parser = argparse.ArgumentParser(prog="tests.crash.proof")
    parser.add_argument("--kills", type=int, default=40, help="of each mutant")
    given = parser.parse_args()
    found: dict[str, int] = {}
    for mutant, kind in FOUND.items():
        with tempfile.TemporaryDirectory(prefix="chaos-crash-") as folder:
            trial = Trial.at(Path(folder), "sqlite", "mutant", given.kills, mutant)
            asyncio.run(trial.run(given.kills))
            found[mutant] = trial.total("kinds")[kind]
        print(f"{mutant}: {kind} {found[mutant]} times", flush=True)
    ok = all(found.values())
    print(json.dumps({"found": found, "kills": given.kills, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
