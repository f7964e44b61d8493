"""The workload of `bench.runs` on DBOS Transact: a workflow of three steps that change nothing.

A workflow is started when another has ended, so that `flight` are under way at any time.

    python bench/run_dbos.py sqlite:////tmp/x.db --runs 500 --flight 50
"""

import argparse
import asyncio
import json
import logging
import time

from dbos import DBOS

STEPS = 3


@DBOS.step()
async def nothing(target: str, number: int) -> str:
    """Change nothing."""
    return f"changed nothing of {target} in step {number}"


@DBOS.workflow()
async def remedy(target: str) -> str:
    """Three steps, one after the other."""
    said = ""
    for number in range(STEPS):
        said = await nothing(target, number)
    return said


async def drive(runs: int, flight: int) -> dict[str, float]:
    """All runs with `flight` at a time; what a caller saw of it."""
    numbers = iter(range(runs))
    spent: list[float] = []

    async def one() -> None:
        for number in numbers:
            began = time.perf_counter()
            await remedy(f"Deployment/team-{number % 40}/web-{number:07d}")
            spent.append(time.perf_counter() - began)

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(flight)))
    took, used = time.perf_counter() - began, time.process_time() - used
    steady = sorted(spent[min(runs // 10, 4 * flight) :])
    found = {f"run_p{p}_ms": round(1000 * steady[len(steady) * p // 100], 1) for p in (50, 90, 99)}
    done = await DBOS.list_workflows_async(status="SUCCESS", limit=runs + 1000)
    if len(done) < runs:
        raise SystemExit(f"only {len(done)} of {runs} workflows succeeded")
    return {
        "runs_per_second": round(runs / took, 1),
        **found,
        "cpu_ms_per_run": round(1000 * used / runs, 3),
    }


async def measured(runs: int, flight: int) -> dict[str, float]:
    """Warm, then measure."""
    await asyncio.gather(*(remedy(f"warm-{n}") for n in range(min(20, runs))))
    return await drive(runs, flight)


def main() -> None:
    """One measurement, as one JSON line."""
    parser = argparse.ArgumentParser(description="three-step workflows through DBOS Transact")
    parser.add_argument("url")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--flight", type=int, default=50)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    DBOS(
        config={
            "name": "bench",
            "system_database_url": given.url,
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    print(json.dumps(asyncio.run(measured(given.runs, given.flight))), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main()
