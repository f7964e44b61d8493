"""Parameters: what is refused before anything is looked at."""

from typing import Any

import pytest
from pydantic import ValidationError

from healer.actions.registry import ACTIONS

POD = {"containers": [{"name": "a", "image": "b"}]}
URL = "http://fixer.example/do"
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("scale", {}, "either `replicas` or `by`"),
    ("scale", {"replicas": 1, "by": 1}, "either `replicas` or `by`"),
    ("scale", {"replicas": 0}, "outside 1 to 50"),
    ("scale", {"replicas": 51}, "outside 1 to 50"),
    ("scale", {"by": 0}, "change nothing"),
    ("scale", {"by": 1, "min": 5, "max": 4}, "above `max`"),
    ("scale", {"by": 1, "maximum": 4}, "Extra inputs"),
    ("raise_hpa_max", {"by": 1}, "Field required"),
    ("raise_hpa_max", {"limit": 5}, "either `by` or `percent`"),
    ("resize_resources", {}, "`cpu`, `memory` or both"),
    ("resize_resources", {"memory": {"factor": 2.0}}, "needs a `limit`"),
    ("resize_resources", {"memory": {"factor": 9.0, "limit": "1Gi"}}, "less than or equal to 4"),
    ("resize_resources", {"memory": {"to": "2Gi", "limit": "1Gi"}}, "above `limit`"),
    ("resize_resources", {"memory": {"to": "lots"}}, "not a Kubernetes quantity"),
    ("resize_resources", {"memory": {"to": "0"}}, "not more than nothing"),
    ("expand_pvc", {"to": "2Gi"}, "Field required"),
    ("expand_pvc", {"to": "2Gi", "limit": "1Gi"}, "above `limit`"),
    ("expand_pvc", {"limit": "1Gi"}, "either `to` or `percent`"),
    ("run_job", {"template": POD}, "Field required"),
    ("run_job", {"template": POD, "service_account": "default"}, "make one for it"),
    ("run_job", {"service_account": "x"}, "either `template` or `config_map`"),
    ("run_job", {"template": {}, "service_account": "x"}, "no `containers`"),
    ("run_job", {"template": {**POD, "hostPID": True}, "service_account": "x"}, "into the node"),
    (
        "run_job",
        {"template": {**POD, "volumes": [{"name": "v", "hostPath": {}}]}, "service_account": "x"},
        "hostPath",
    ),
    (
        "run_job",
        {
            "template": {"containers": [{"image": "x", "securityContext": {"privileged": True}}]},
            "service_account": "x",
        },
        "privileged",
    ),
    ("switch_service", {"key": "colour", "to": ""}, "String should match"),
    ("shift_weight", {}, "either `weights`"),
    ("shift_weight", {"weights": {"a": 0}}, "nothing would answer"),
    ("shift_weight", {"weights": {}}, "nothing would answer"),
    ("shift_weight", {"canary": 101}, "less than or equal to 100"),
    ("patch_config_map", {"key": "a/b", "value": ""}, "String should match"),
    ("json_patch", {"patch": []}, "at least 1 item"),
    ("json_patch", {"patch": [{"op": "test", "path": "/spec/a", "value": 1}]}, "changes nothing"),
    ("json_patch", {"patch": [{"op": "remove", "path": "/status/phase"}]}, "is outside"),
    ("json_patch", {"patch": [{"op": "remove", "path": "/metadata/finalizers"}]}, "is outside"),
    ("json_patch", {"patch": [{"op": "move", "path": "/spec/a"}]}, "Input should be"),
    (
        "json_patch",
        {"patch": [{"op": "add", "path": "/spec/template/spec/serviceAccountName", "value": "x"}]},
        "serviceAccountName",
    ),
    (
        "json_patch",
        {"patch": [{"op": "add", "path": "/spec/x", "value": [{"hostPath": {"path": "/"}}]}]},
        "hostPath",
    ),
    ("http_call", {"url": "file:///etc/passwd"}, "String should match"),
    ("http_call", {"url": "http://user:pass@host/"}, "String should match"),
    ("http_call", {"url": URL, "headers": {"Idempotency-Key": "x"}}, "set by healer"),
    ("http_call", {"url": URL, "headers": {"X": "a\r\nHost: b"}}, "String should match"),
    ("http_call", {"url": URL, "json": {}, "body": "x"}, "either `json` or `body`"),
    ("http_call", {"url": URL, "lookup": {"url": URL, "method": "POST"}}, "only reads"),
    ("silence", {"matchers": {}, "for": "5m"}, "at least 1 item"),
    ("silence", {"matchers": {"alertname": ""}, "for": "5m"}, "at least 1 character"),
    ("silence", {"matchers": {"alertname": "X"}, "for": "8d"}, "less than or equal"),
    ("notify", {"message": ""}, "at least 1 character"),
    ("wait", {"for": "0s"}, "greater than 0"),
    ("wait", {"for": "soon"}, "not a duration"),
    ("delete_pod", {"grace": "-1s"}, "not a duration"),
    ("drain", {"max_pods": 0}, "greater than or equal to 1"),
]


@pytest.mark.parametrize(("action", "given", "why"), REFUSED)
def test_refused(action: str, given: dict[str, Any], why: str) -> None:
    """Parameters that are empty, unbounded, contradictory or reach too far are refused."""
    with pytest.raises(ValidationError, match=why):
        ACTIONS[action].params.model_validate(given)


def test_labels_arrive_as_text() -> None:
    """A number that came out of a label, which is text, is a number."""
    scale = ACTIONS["scale"].params.model_validate({"replicas": "3", "max": "10"})
    assert scale.model_dump()["replicas"] == 3


def test_the_durations_are_prometheus() -> None:
    """Durations are read as Prometheus writes them and kept as seconds."""
    given = ACTIONS["delete_pod"].params.model_validate({"grace": "1m30s"})
    assert given.model_dump(mode="json") == {"grace": 90.0, "force": False}
