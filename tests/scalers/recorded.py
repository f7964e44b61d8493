"""Inputs and answers of the real HPA controller, and what `scalers.hpa` says to the same inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from scalers.hpa import DEFAULT_DOWN, DEFAULT_UP, Hpa, Policy, Reading, Rules, Select, Unit

#: As the controller of the test bed made it; written by `tests/scalers/test_real_hpa.py`.
FILE = Path(__file__).parent / "recordings" / "hpa.json"
TARGET = 10.0
#: `--horizontal-pod-autoscaler-downscale-stabilization` of the test bed.
BED_WINDOW = 10.0
#: The default way down, with a window in which twenty syncs have room.
NINE_SECONDS = Rules(DEFAULT_DOWN.policies, 9.0)


@dataclass(frozen=True)
class Scenario:
    """One autoscaler. Windows and periods are odd seconds, so no sync falls on their edge."""

    name: str
    up: Rules = DEFAULT_UP
    down: Rules = NINE_SECONDS
    written: bool = True
    metrics: int = 1
    minimum: int = 2
    maximum: int = 30

    def hpa(self) -> Hpa:
        """Ours."""
        return Hpa(self.minimum, self.maximum, self.up, self.down, self.written)

    def manifest(self) -> dict[str, object]:
        """The object for the API server."""
        spec: dict[str, object] = {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": self.name},
            "minReplicas": self.minimum, "maxReplicas": self.maximum,
            "metrics": [
                {"type": "External", "external": {
                    "metric": {"name": f"{self.name}-{index}"},
                    "target": {"type": "AverageValue", "averageValue": f"{TARGET:g}"}}}
                for index in range(self.metrics)
            ],
        }  # fmt: skip
        if self.written:
            spec["behavior"] = {"scaleUp": _rules(self.up), "scaleDown": _rules(self.down)}
        return {
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": self.name, "namespace": "shop"}, "spec": spec,
        }  # fmt: skip


def _rules(rules: Rules) -> dict[str, object]:
    return {
        "stabilizationWindowSeconds": int(rules.window_seconds),
        "selectPolicy": rules.select.value,
        "policies": [
            {"type": p.unit.value, "value": p.value, "periodSeconds": int(p.period_seconds)}
            for p in rules.policies
        ],
    }


def pace(unit: Unit, value: int, seconds: float, **named: object) -> Rules:
    """Rules with one policy."""
    return Rules((Policy(unit, value, seconds),), **named)  # type: ignore[arg-type]


SCENARIOS = (
    Scenario("defaults"),
    Scenario("unwritten", down=Rules(DEFAULT_DOWN.policies, BED_WINDOW), written=False, minimum=1),
    Scenario("windows", Rules(DEFAULT_UP.policies, 5.0), Rules(DEFAULT_DOWN.policies, 3.0)),
    Scenario("pods", pace(Unit.PODS, 3, 7.0), pace(Unit.PODS, 2, 7.0, window_seconds=0.0)),
    Scenario("percent", pace(Unit.PERCENT, 30, 5.0), pace(Unit.PERCENT, 25, 5.0)),
    Scenario(
        "slowest",
        Rules((Policy(Unit.PODS, 2, 5.0), Policy(Unit.PERCENT, 50, 3.0)), select=Select.MIN),
        Rules((Policy(Unit.PODS, 4, 5.0), Policy(Unit.PERCENT, 20, 3.0)), select=Select.MIN),
    ),
    Scenario("never-down", down=pace(Unit.PODS, 5, 15.0, select=Select.DISABLED)),
    Scenario("two-metrics", down=Rules(DEFAULT_DOWN.policies, 0.0), metrics=2),
)


@dataclass
class Sync:
    """What the controller saw at one sync: seconds, replicas it found, values (None: missing)."""

    at: float
    current: int
    values: list[float | None] = field(default_factory=list)


def disagreements(
    scenario: Scenario, syncs: list[Sync], *, late: Sequence[float] = (0.0,)
) -> list[str]:
    """Where our autoscaler, given what the controller saw, would have done something else.

    The controller reads its clock after the metrics that we saw it ask for: at the edge of a window
    it may be `late` (seconds; the first that agrees counts).
    """
    hpa, out = scenario.hpa(), []
    for index, (sync, after) in enumerate(pairwise(syncs)):
        readings = [Reading(value, TARGET) for value in sync.values]
        tried = []
        for seconds in late:
            one = deepcopy(hpa)
            tried.append((one.sync(sync.at + seconds, sync.current, readings), one))
        ours, hpa = next((t for t in tried if t[0] == after.current), tried[0])
        if ours != after.current:
            out.append(
                f"{scenario.name}, sync {index} at {sync.at - syncs[0].at:.2f} s: of "
                f"{sync.current} with {sync.values} the controller made {after.current}, we {ours}"
            )
    return out


def save(recording: Mapping[str, list[Sync]]) -> None:
    """Keep it for the fast ring; times from zero."""
    value = {
        name: [[round(s.at - syncs[0].at, 3), s.current, s.values] for s in syncs]
        for name, syncs in recording.items()
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(syncs)}" for name, syncs in value.items())
    FILE.write_text("{\n" + lines + "\n}\n")


def saved() -> dict[str, list[Sync]]:
    """What was kept."""
    value = json.loads(FILE.read_text())
    return {name: [Sync(*sync) for sync in syncs] for name, syncs in value.items()}
