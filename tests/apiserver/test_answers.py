"""What the HPA's clients read, over TLS with the front proxy's certificate."""

from pathlib import Path

import pytest

from scalers.ports import ObjectRef, Reason, Refused
from tests.apiserver.stand import external, of, pod, standing

EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2"
STALE = Refused(Reason.STALE, "the last sample is 400 s old, older than max_age 120 s")


async def test_an_external_metric_is_what_the_reference_server_writes(tmp_path: Path) -> None:
    """An external value is a list in the shape, quantity and whole-second time of k8s.io/metrics."""
    async with standing(tmp_path, external("web-forecast", 10.5, scaler="web")) as stand:
        assert await stand.get(f"{EXTERNAL}/web-forecast") == (200, {
            "kind": "ExternalMetricValueList",
            "apiVersion": "external.metrics.k8s.io/v1beta1",
            "metadata": {},
            "items": [{
                "metricName": "web-forecast", "metricLabels": {"scaler": "web"},
                "timestamp": "2026-08-20T10:48:17Z", "value": "10500m",
            }],
        })  # fmt: skip
