"""Policy files: what is good becomes a value, what is bad is refused with its place and remedy."""

import json
from pathlib import Path

import pytest
import yaml

from healer.playbook_yaml.faults import PlaybookSetError
from healer.scaling_yaml import QUANTILES, load_policies, parse_policies, schema_text
from scalers.forecast import service
from scalers.policy import Caps, Mode, Prediction, ScalingPolicy, Workload

GOOD = """\
apiVersion: healer.dev/v1alpha1
kind: ScalingPolicy
metadata:
  name: web
spec:
  workload: {kind: Deployment, namespace: shop, name: web}
  demand:
    query: sum(rate(http_requests_total{app="web"}[2m]))
    maxAge: 3m
  capacity: 100
  replicas: {min: 2, max: 50}
  prediction: {quantile: 0.95, horizon: 6m}
  caps: {quota: 30, costPerHour: 5, replicaCostPerHour: 0.25}
"""


def refused(*texts: str) -> str:
    with pytest.raises(PlaybookSetError) as caught:
        parse_policies([(f"{n}.yaml", text.encode()) for n, text in enumerate(texts)])
    return str(caught.value)


def test_a_policy_becomes_a_value(tmp_path: Path) -> None:
    """What is written is what is meant, and what is not written has the documented default."""
    (tmp_path / "web.yaml").write_text(GOOD)
    (policy,) = load_policies([tmp_path])
    assert policy == ScalingPolicy(
        name="web",
        workload=Workload("shop", "Deployment", "web"),
        query='sum(rate(http_requests_total{app="web"}[2m]))',
        capacity=100.0,
        min_replicas=2,
        max_replicas=50,
        metric="web_demand",
        mode=Mode.SHADOW,
        prediction=Prediction(0.95, 360.0),
        caps=Caps(quota_replicas=30, cost_per_hour=5, replica_cost_per_hour=0.25),
        max_age_seconds=180.0,
    )
    assert policy.caps.affordable() == 20


@pytest.mark.parametrize(
    ("old", "new", "place", "told"),
    [
        ("capacity: 100", "capacity: 0", "10:13", "greater than 0"),
        ("capacity: 100", "capacity: learnt", "10:13", "learnt"),
        ("min: 2", "min: 60", "11:19", "min 60 is above max 50"),
        ("min: 2", "min: 0", "11:19", "greater than or equal to 1"),
        ("quantile: 0.95", "quantile: 0.99", "12:26", "0.5, 0.8, 0.9, 0.95"),
        (", replicaCostPerHour: 0.25", "", "13:3", "go together"),
        ("quota: 30", "quota: 1", "13:17", "below replicas.min"),
        ("maxAge: 3m", "maxAge: soon", "9:13", "soon"),
        ("maxAge: 3m", "maxage: 3m", "9:5", "did you mean"),
        ("  capacity: 100\n", "", "5:1", "capacity"),
        ("[2m]))", "[2m])", "8:12", "pair up"),
        ("kind: ScalingPolicy", "kind: Playbook", "2:7", "Playbook"),
    ],
)
def test_a_bad_policy_is_refused_with_its_place(old: str, new: str, place: str, told: str) -> None:
    """File, line, column and what to do are in the error."""
    assert old in GOOD
    said = refused(GOOD.replace(old, new))
    assert f"0.yaml:{place}:" in said
    assert told in said


def test_two_scalers_on_one_workload_are_refused() -> None:
    """The second one is named with its place, and the first one's beside it."""
    said = refused(GOOD, GOOD.replace("name: web\nspec", "name: other\nspec"))
    assert "1.yaml:6" in said
    assert "Deployment shop/web is scaled by 0.yaml:4 too" in said
    assert "the name 'web' is taken by 0.yaml:4" in refused(GOOD, GOOD)


def test_the_schema_names_every_key_and_allows_no_other() -> None:
    """An editor that reads the schema offers the keys of the good file and marks any other."""
    schema = json.loads(schema_text())
    shapes = schema["$defs"]
    assert schema["additionalProperties"] is False
    assert all(shape.get("additionalProperties", False) is False for shape in shapes.values())
    spec = yaml.safe_load(GOOD)["spec"]
    assert spec.keys() <= shapes["SpecShape"]["properties"].keys()
    assert spec["caps"].keys() <= shapes["CapsShape"]["properties"].keys()
    assert shapes["PredictionShape"]["properties"]["quantile"]["enum"] == list(QUANTILES)


def test_the_quantiles_are_those_that_forecasts_carry() -> None:
    """A policy can ask for every quantile there is, and for no other."""
    assert QUANTILES == service.QUANTILES
