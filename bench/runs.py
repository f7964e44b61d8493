"""Runs of three steps, journaled, their action a no-op: how many a second, and how long one takes.

    python -m bench.runs [--runs 3000] [--engines sqlite,postgres] [--no-dbos]

The same workload goes through DBOS Transact in the same run. The two do not write the same: for
each run healer makes 8 commits durable (claim, three intents, three outcomes, the end), each before
what follows it, with locks, budgets and 9 hash-chained facts; DBOS writes 6 rows (status, input,
output, one for each step after it was done) and no intent, so it does not know after a crash
whether a step was begun. The last line is one JSON object with figures, bars and `ok`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.report import load, tell
from tests.postgres.server import Server

#: What each side writes for one run.
RECORDS = {
    "healer_commits_per_run": 8,
    "dbos_rows_per_run": 6,
}
#: name → (bar, True when smaller is better)
BARS = {
    "sqlite_runs_per_second": (1000.0, False),
    "sqlite_run_p99_ms": (100.0, True),
    "postgres_runs_per_second": (500.0, False),
    "postgres_run_p99_ms": (100.0, True),
}


def one(command: list[str]) -> dict[str, Any]:
    """What a measurement in a process of its own says on its last line."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def databases(engine: str, folder: Path) -> Iterator[Any]:
    """A function that names an empty database as healer and as DBOS want it."""
    if engine == "sqlite":
        yield lambda name: (["--folder", str(folder)], f"sqlite:///{folder / name}.db")
        return
    with Server() as server:

        def empty(name: str) -> tuple[list[str], str]:
            url = server.new_database(name)
            return ["--url", url], url.replace("postgresql://", "postgresql+psycopg://", 1)

        yield empty


def measure(engine: str, folder: Path, runs: int, *, dbos: bool) -> dict[str, Any]:
    """Both sides on one kind of database."""
    figures: dict[str, Any] = {}
    with databases(engine, folder) as empty:
        for name, flight, count in ((engine, 50, runs), (f"{engine}_alone", 1, runs // 10)):
            given = ["--runs", str(count), "--flight", str(flight)]
            where, _ = empty(f"healer{flight}")
            found = one([sys.executable, "-m", "bench.run_workload", engine, *where, *given])
            figures |= {f"{name}_{key}": value for key, value in found.items()}
            if not dbos:
                continue
            _, url = empty(f"dbos{flight}")
            given = ["--runs", str(max(100, count // 6)), "--flight", str(flight)]
            script = str(Path(__file__).with_name("run_dbos.py"))
            theirs = one([sys.executable, script, url, *given])
            figures |= {f"{name}_dbos_{key}": value for key, value in theirs.items()}
            ratio = found["runs_per_second"] / theirs["runs_per_second"]
            figures[f"{name}_times_dbos"] = round(ratio, 2)
    return figures


def main() -> None:
    """Measure, print a table, then one JSON line; the exit code is 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description="three-step runs, beside DBOS Transact")
    parser.add_argument("--runs", type=int, default=3000)
    parser.add_argument("--engines", default="sqlite,postgres")
    parser.add_argument("--no-dbos", action="store_true")
    given = parser.parse_args()
    figures: dict[str, Any] = {"load_before": load(), **RECORDS}
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-")
        folder = Path(stack.enter_context(made))
        engines = given.engines.split(",")
        for engine in engines:
            figures |= measure(engine, folder, given.runs, dbos=not given.no_dbos)
    bars = {name: bar for name, bar in BARS.items() if name.partition("_")[0] in engines}
    raise SystemExit(tell(figures, bars))


if __name__ == "__main__":
    main()
