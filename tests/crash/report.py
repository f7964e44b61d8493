"""What a trial has shown: a table for people, and one line for machines."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from tests.crash.trial import Trial

SHOWN = 20


def show(trial: Trial, wanted: int) -> int:
    """Print it; the exit code is 0 if every promise was kept and all kills were done."""
    points = trial.total("by_point")
    kinds = trial.total("kinds")
    figures = {
        "store": trial.store,
        "seed": trial.seed,
        "kills": trial.kills,
        "kills_at_points": sum(n for point, n in points.items() if ":" in point),
        "deliveries_acknowledged": sum(one.acknowledged for one in trial.outcomes),
        "alerts_accepted": sum(one.accepted for one in trial.outcomes),
        "alerts_lost": kinds["lost_alert"],
        "runs": sum(one.runs for one in trial.outcomes),
        "effects": sum(one.effects for one in trial.outcomes),
        "effects_per_at_most_once_step": max(
            (one.effects_per_step for one in trial.outcomes), default=0
        ),
        "unknown_outcomes": sum(one.unknown for one in trial.outcomes),
        "stuck": kinds["stuck"],
        "violations": sum(kinds.values()),
        "facts_checked": sum(one.facts for one in trial.outcomes),
        "longest_rest_seconds": round(
            max((one.calm_seconds for one in trial.outcomes), default=0.0), 1
        ),
        "seconds": round(trial.seconds),
    }
    console = Console(width=100)
    table = Table("what", "how many", title=f"chaos-crash on {trial.store}")
    table.columns[1].justify = "right"
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), str(value))
    for title, name in (
        ("killed", "by_point"), ("deliveries", "deliveries"), ("alerts", "troubles"),
        ("outcome of steps", "outcomes"), ("end of episodes", "results"),
        ("broken promises", "kinds"),
    ):  # fmt: skip
        table.add_section()
        for key, count in sorted(trial.total(name).items()):
            table.add_row(f"{title}: {key}", str(count))
    console.print(table)
    for outcome in trial.outcomes:
        for violation in outcome.violations[:SHOWN]:
            print(f"segment {outcome.number} (seed {outcome.seed}): {violation}")
    ok = not kinds and trial.kills >= wanted and figures["alerts_accepted"] > 0
    print(json.dumps({**figures, "ok": ok}))
    return 0 if ok else 1
