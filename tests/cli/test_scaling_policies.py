"""`healer scaling validate`, `hpa` and `import`: policies in files, objects out, rules in."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from healer.cli import cli
from healer.scaling_yaml import load_policies
from tests.scalers.test_adapter_rules import CONFIG

POLICY = """\
apiVersion: healer.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: web}
spec:
  workload: {kind: Deployment, namespace: shop, name: web}
  demand: {query: 'sum(rate(http_requests_total{namespace="shop"}[2m]))'}
  capacity: 50
  utilisation: 95%
  replicas: {min: 2, max: 20}
"""
WORKLOAD = ("--workload", "shop/Deployment/web")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def typed(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["scaling", *map(str, words)])


def test_a_valid_policy_is_said_to_be_valid(policy: Path) -> None:
    """By name, and as JSON."""
    assert "1 scaling policies are valid: web" in typed("validate", policy).output
    value = json.loads(typed("validate", policy, "-o", "json").output)
    assert value == {"valid": True, "policies": ["web"], "faults": []}


def test_a_faulty_policy_is_refused_with_its_place(policy: Path) -> None:
    """Bounds out of order, and zero capacity: file, line and column, exit code 2."""
    policy.write_text(POLICY.replace("min: 2", "min: 21").replace("50", "0"))
    done = typed("validate", policy)
    assert done.exit_code == 2
    assert f"{policy}:7:" in done.output
    value = json.loads(typed("validate", policy, "-o", "json").output)
    assert not value["valid"]
    assert value["faults"][0]["line"] == 7
    policy.write_text(POLICY.replace("min: 2", "min: 21"))
    assert f"{policy}:9:" in typed("validate", policy).output


def test_the_hpa_is_printed(policy: Path) -> None:
    """AverageValue is capacity times utilisation, and the tolerance is told away."""
    (one,) = yaml.safe_load_all(typed("hpa", policy).stdout)
    target = one["spec"]["metrics"][0]["external"]["target"]
    assert target == {"type": "AverageValue", "averageValue": "47500m"}
    assert one["spec"]["behavior"]["scaleUp"]["tolerance"] == "0"


def test_where_the_tolerance_cannot_be_told_away_the_target_is_lowered(policy: Path) -> None:
    """95 % and a tenth would be more than a replica carries, so it is 1/1.1, and said so."""
    done = typed("hpa", policy, "--without-tolerance")
    (one,) = yaml.safe_load_all(done.stdout)
    assert one["spec"]["metrics"][0]["external"]["target"]["averageValue"] == "45454m"
    assert "tolerance" not in one["spec"]["behavior"]["scaleUp"]
    assert "was lowered to 91%" in done.stderr


def test_a_learned_capacity_must_be_given(policy: Path) -> None:
    """Without a number there is no target; with --capacity there is."""
    policy.write_text(POLICY.replace("capacity: 50", "capacity: learned"))
    done = typed("hpa", policy)
    assert done.exit_code == 2
    assert "give --capacity" in done.output
    assert typed("hpa", policy, "--capacity", "10").exit_code == 0


def test_a_rule_of_prometheus_adapter_becomes_a_policy(adapter: Path, tmp_path: Path) -> None:
    """What is printed is a policy in shadow mode that can be loaded; what is left out is told."""
    done = typed("import", "prometheus-adapter", adapter, *WORKLOAD,
                 "--metric", "http_requests_per_second")  # fmt: skip
    assert done.exit_code == 0, done.output
    made = tmp_path / "made.yaml"
    made.write_text(done.stdout)
    (one,) = load_policies([made])
    assert one.mode == "shadow"
    assert one.metric == "http_requests_per_second"
    assert one.query.startswith("sum(rate(http_requests_total{")
    assert "rules[2] is left out" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (WORKLOAD, "choose with --metric"),
        ((*WORKLOAD, "--metric", "nothing"), "0 rules fit"),
        (("--workload", "web"), "write namespace/kind/name"),
        ((*WORKLOAD, "--metric", "queue_depth", "--min", "30"), "is above max"),
    ],
)
def test_an_import_that_cannot_be_is_refused(
    adapter: Path, words: tuple[str, ...], said: str
) -> None:
    """Exit code 2, with the remedy."""
    done = typed("import", "prometheus-adapter", adapter, *words)
    assert done.exit_code == 2, done.output
    assert said in done.output


def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path) -> None:
    """No YAML, no rules, no file: each named."""
    path = tmp_path / "x.yaml"
    path.write_text("rules: [")
    assert "is no YAML" in typed("import", "prometheus-adapter", path, *WORKLOAD).output
    path.write_text("kind: ConfigMap")
    assert "without the ConfigMap" in typed("import", "prometheus-adapter", path, *WORKLOAD).output
    gone = tmp_path / "gone.yaml"
    assert "cannot be read" in typed("import", "prometheus-adapter", gone, *WORKLOAD).output
