"""A thousand scaling policies in one healer: accepted to served, requests, memory, forecasts.

    python -m bench.policies [--policies 1000] [--days 15]

A real API server with a Deployment for each, a real Prometheus with days of past and a live
exporter, and `healer serve` with the rights that deploy/ gives it.
"""

import argparse
import math
import random
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.loadtest.past import fill
from bench.machine import Usage
from bench.report import Bars, load, tell
from scalers.policy import Prediction, ScalingPolicy, Workload
from tests.apiserver.plane import account, component
from tests.bed.waiting import now, pause, today, until
from tests.scalers.daemon import (
    Daemon,
    Exporter,
    Prometheus,
    WorkloadPlane,
    deployment,
    policy_text,
)

STEP = 300
DAY = 86400
CYCLE_SECONDS = 15


def bars(policies: int) -> Bars:
    """The bars for so many policies."""
    return {
        "accepted_to_served_seconds": (10.0, True),
        "requests_per_cycle": (policies / 20, True),
        "refresh_all_seconds": (60.0, True),
        "peak_mebibytes": (250.0, True),
        "without_forecast": (0, True),
    }


def demand(number: int, at: float) -> float:
    """A day of its own phase and size for each."""
    size, phase = 20 + number % 50, number % 24 / 24
    return size * (2 - math.cos(2 * math.pi * (at / DAY - phase)))


def lines(policies: int, start: float, end: float) -> Iterator[str]:
    """The past in OpenMetrics."""
    dice = random.Random(1)
    yield "# TYPE load gauge\n"
    for number in range(policies):
        for at in range(int(start), int(end), STEP):
            value = demand(number, at) * dice.gauss(1, 0.03)
            yield f'load{{service="s{number}"}} {value:.4f} {at}\n'
    yield "# EOF\n"


def policy(number: int) -> ScalingPolicy:
    """One of them."""
    name = f"s{number}"
    return ScalingPolicy(
        name, Workload("shop", "Deployment", name), f'load{{service="{name}"}}', 10.0, 1, 50,
        f"{name}_demand", prediction=Prediction(),
    )  # fmt: skip


def requests(prometheus: Prometheus) -> float:
    """HTTP requests for queries that this Prometheus has answered so far."""
    with urllib.request.urlopen(f"{prometheus.url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("prometheus_http_requests_total{") and "/api/v1/query" in line
    )


def awaited(what: str, condition: Callable[[], Any], timeout: float) -> float:
    """Seconds until it is so."""
    began = now()
    until(condition, what, timeout=timeout, interval=0.2)
    return now() - began


def measure(folder: Path, count: int, days: int) -> dict[str, Any]:
    """Bring everything up, and watch."""
    figures: dict[str, Any] = {"policies": count, "days": days, "load_before": load()}
    with ExitStack() as stack:
        plane = WorkloadPlane()
        plane.prepare()
        plane.start()
        stack.callback(plane.stop)
        kubeconfig = account(plane, folder)
        print(f"making {count} Deployments …", flush=True)
        for first in range(0, count, 100):
            some = range(first, min(first + 100, count))
            plane.apply(*(deployment(f"s{number}") for number in some))
        exporter = Exporter()
        stack.callback(exporter.stop)
        for number in range(count):
            exporter.give(f"s{number}", f"{demand(number, today()):.4f}")
        end = today() // STEP * STEP
        print(f"making {days} days of past …", flush=True)
        fill(folder / "prometheus" / "data", lines(count, end - days * DAY, end))
        prometheus = Prometheus(folder / "prometheus", exporter.port, retention="30d")
        prometheus.start()
        stack.callback(prometheus.stop)
        policies = folder / "policies"
        policies.mkdir()
        daemon = Daemon(folder / "healer", kubeconfig, prometheus.url, policies)
        plane.apply(*component(folder / "deploy", daemon.port))
        daemon.start()
        stack.callback(daemon.stop)
        assert daemon.process is not None
        usage = Usage.of(daemon.process.pid)
        staged = folder / "staged"
        staged.mkdir()
        for number in range(count):
            (staged / f"s{number}.yaml").write_text(policy_text(policy(number)))
        for file in staged.iterdir():
            shutil.move(str(file), policies)
        figures["accepted_to_served_seconds"] = round(
            awaited("all to be served", lambda: served(daemon) == count, 300), 1
        )
        print("all are served; waiting for their forecasts …", flush=True)
        figures["first_forecasts_seconds"] = round(
            awaited("all forecasts", lambda: forecasts(daemon) == count, 1500), 1
        )
        # From the next point of the past on, until the last forecast has seen it.
        boundary = today() // STEP * STEP + STEP
        pause(max(0.0, boundary - today()))
        before = requests(prometheus)
        refreshed = awaited(
            "all to be refreshed", lambda: forecasts(daemon, boundary) == count, 600
        )
        figures["refresh_all_seconds"] = round(refreshed, 1)
        cycles = max(1, round(refreshed / CYCLE_SECONDS))
        figures["requests_per_cycle_with_past"] = (requests(prometheus) - before) / cycles
        before = requests(prometheus)
        pause(4 * CYCLE_SECONDS)
        figures["requests_per_cycle"] = (requests(prometheus) - before) / 4
        figures["peak_mebibytes"] = round(usage.since().peak_mebibytes)
        figures["without_forecast"] = count - forecasts(daemon)
    return figures


def served(daemon: Daemon) -> int:
    """How many policies have a value."""
    return sum(one["served"] is not None for one in daemon.told().values())


def forecasts(daemon: Daemon, since: float = 0.0) -> int:
    """How many have a forecast from `since` on."""
    return sum((one["forecast_at"] or 0) >= max(since, 1.0) for one in daemon.told().values())


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(prog="make bench-policies")
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--days", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="healer-policies-") as folder:
        figures = measure(Path(folder), options.policies, options.days)
    return tell(figures, bars(options.policies))


if __name__ == "__main__":
    sys.exit(main())
