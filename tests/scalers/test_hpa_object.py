"""The HPA that follows a policy asks for enough, by AverageValue, in spite of the tolerance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalers.hpa import Hpa, Reading, Rules
from scalers.hpa_object import manifest, quantity
from scalers.policy import ScalingPolicy, Workload


def a_policy(utilisation: float = 0.7) -> ScalingPolicy:
    """A policy of a Deployment."""
    return ScalingPolicy(
        "shop", Workload("shop", "Deployment", "web"), "sum(rate(x[2m]))", 50.0, 2, 40,
        "shop-demand", utilisation=utilisation,
    )  # fmt: skip


def test_it_names_workload_bounds_and_metric() -> None:
    """Everything the policy says about the workload stands in the object."""
    spec = manifest(a_policy(), 50.0)["spec"]
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "web"
    }  # fmt: skip
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 40)
    (metric,) = spec["metrics"]
    assert metric["external"] == {
        "metric": {"name": "shop-demand"},
        "target": {"type": "AverageValue", "averageValue": "35"},
    }
    assert spec["behavior"]["scaleUp"]["tolerance"] == "0"


@given(st.floats(0.1, 1.0), st.floats(1.0, 2000.0), st.booleans())
def test_no_replica_is_overloaded_unnoticed(
    utilisation: float, demand: float, tolerance_field: bool
) -> None:
    """Where the HPA comes to rest, demand is within what its replicas carry, tolerance or not."""
    spec = manifest(a_policy(utilisation), 50.0, tolerance_field=tolerance_field)["spec"]
    up = spec["behavior"]["scaleUp"]
    tolerance = float(up.get("tolerance", 0.1))
    text = spec["metrics"][0]["external"]["target"]["averageValue"]
    target = int(text[:-1]) / 1000 if text.endswith("m") else float(text)
    hpa = Hpa(2, 1000, up=Rules(Hpa(1, 2).up.policies, tolerance=tolerance))
    replicas = 2
    for look in range(20):
        replicas = hpa.sync(15.0 * look, replicas, [Reading(demand, target)])
    assert demand <= replicas * 50.0 * 1.0001


def test_a_quantity_is_in_thousandths() -> None:
    """Whole numbers stay whole, nothing becomes zero."""
    assert [quantity(value) for value in (35.0, 3.8765, 0.0001)] == ["35", "3876m", "1m"]


def test_zero_capacity_is_refused() -> None:
    """No target can be made of it."""
    with pytest.raises(ValueError, match="policy shop: capacity 0"):
        manifest(a_policy(), 0.0)
