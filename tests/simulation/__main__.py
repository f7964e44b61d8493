"""`python -m tests.simulation`: many histories, or one of them with its whole trace."""

from __future__ import annotations

import argparse
import json
import sys

from healer.testing.simulation import play
from tests.simulation.campaign import Summary, run
from tests.simulation.mutants import MUTANTS

#: Violations printed of a whole campaign.
SHOWN = 10


def main(arguments: list[str] | None = None) -> int:
    """Play and tell; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this one and print its trace")
    parser.add_argument("--histories", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after this time")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--mutant", default="", choices=("", *MUTANTS), help="plant this bug")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _one(options.seed, options.mutant)
    summary = run(
        options.first, options.histories, processes=options.processes, seconds=options.seconds,
        mutant=options.mutant, tell=_progress,
    )  # fmt: skip
    _tell(summary, options.mutant)
    return 0 if not summary.wrong and summary.histories else 1


def _one(seed: int, mutant: str) -> int:
    played = play(seed, mutation=MUTANTS[mutant] if mutant else None, trace=True)
    print("\n".join(played.trace))
    print(
        f"\nseed {seed}: {played.seconds / 3600:.2f} virtual hours, {played.events} events, "
        f"{played.episodes} episodes, {played.effects} effects, {played.facts} facts; "
        f"digest {played.digest[:16]}"
    )
    for problem in played.wrong:
        print(f"WRONG  {problem}")
    print(json.dumps({"seed": seed, "ok": not played.wrong, "digest": played.digest}))
    return 1 if played.wrong else 0


#: Wrong seeds that were shown at once: a long run is not waited for.
_SAID: set[int] = set()


def _progress(summary: Summary) -> None:
    for seed in sorted(summary.wrong.keys() - _SAID):
        _SAID.add(seed)
        print(f"WRONG  seed {seed}: {summary.wrong[seed][0]}", file=sys.stderr, flush=True)
    if sys.stderr.isatty() or summary.histories % 500 == 0:
        end = "\r" if sys.stderr.isatty() else "\n"
        text = f"{summary.histories} histories, {summary.per_minute:.0f}/min"
        print(f"{text}, {len(summary.wrong)} wrong", end=end, file=sys.stderr, flush=True)


def _tell(summary: Summary, mutant: str) -> None:
    print(f"{'fault':<28} {'histories with it':>18}")
    for name, count in sorted(summary.faults.items()):
        print(f"{name:<28} {count:>18}")
    print(
        f"\n{summary.histories} histories in {summary.seconds:.0f} s "
        f"({summary.per_minute:.0f} a minute), {summary.virtual_hours:.0f} virtual hours, "
        f"{summary.events} events, {summary.episodes} episodes, {summary.effects} effects, "
        f"{summary.facts} facts"
    )
    planted = f' --mutant "{mutant}"' if mutant else ""
    for seed, wrong in sorted(summary.wrong.items())[:SHOWN]:
        print(f"WRONG  seed {seed}: {wrong[0]}")
        print(f"       python -m tests.simulation --seed {seed}{planted}")
    if len(summary.wrong) > SHOWN:
        print(f"       … and {len(summary.wrong) - SHOWN} more seeds")
    print(
        json.dumps({
            "what": "simulation", "ok": not summary.wrong and summary.histories > 0,
            "histories": summary.histories, "seconds": round(summary.seconds, 1),
            "per_minute": round(summary.per_minute), "virtual_hours": round(summary.virtual_hours),
            "effects": summary.effects, "episodes": summary.episodes, "mutant": mutant,
            "wrong": sorted(summary.wrong)[:100],
        })
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
