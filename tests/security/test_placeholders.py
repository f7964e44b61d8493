"""An alert's labels fill values; they never choose host, path, command, account or place."""

import pytest

from healer.playbook_yaml import PlaybookSetError, parse
from healer.playbook_yaml.registry import shipped_registry

HEAD = """\
apiVersion: healer.dev/v1alpha1
kind: Playbook
metadata: {name: it}
spec:
  summary: It.
  when: {alert: '{alertname="X"}'}
  target: {kind: KIND, namespace: '${labels.namespace}', name: '${labels.name}'}
  steps:
    - name: one
      action: ACTION
      with: WITH
"""
RUN = "service_account: fixer, template: {containers: [{name: a, image: b, %s}]}"
PATCH = "patch: [{op: add, path: '%s', value: '%s'}]"
HOSTILE = [
    ("http_call", "url: 'https://${labels.host}/x'"),
    ("http_call", "url: 'https://api.example.com/${labels.x}'"),
    ("http_call", "url: 'https://a.example/', lookup: {url: 'https://a.example/${labels.x}'}"),
    ("http_call", "url: 'https://a.example/', body: '{\"a\": \"${labels.x}\"}'"),
    ("http_call", "url: 'https://a.example/', headers: {X-A: '${labels.x}'}"),
    ("run_job", "service_account: '${labels.x}', template: {containers: [{name: a, image: b}]}"),
    ("run_job", "service_account: fixer, config_map: '${labels.x}'"),
    ("run_job", f"namespace: '${{labels.x}}', {RUN % 'args: [x]'}"),
    (
        "run_job",
        "service_account: fixer, template: {containers: [{name: a, image: '${labels.x}'}]}",
    ),
    ("run_job", RUN % "command: ['${labels.x}']"),
    ("run_job", RUN % "command: [sh, -c], args: ['kill ${labels.x}']"),
    ("run_job", RUN % "command: [bash], args: [-ec, 'kill ${labels.x}']"),
    ("run_job", RUN % "args: ['${labels.x}']"),
    ("json_patch", PATCH % ("/data/${labels.x}", "1")),
    ("json_patch", PATCH % ("/spec/template/spec/containers/0/image", "${labels.x}")),
    ("patch_config_map", "key: '${labels.x}', value: '1'"),
    ("notify", "message: hello, to: ['${labels.x}']"),
]
FINE = [
    ("http_call", "url: 'https://a.example/', json: {pod: '${labels.pod}'}"),
    (
        "run_job",
        RUN % "command: [sh, -c, 'x \"$POD\"'], env: [{name: POD, value: '${labels.pod}'}]",
    ),
    ("run_job", RUN % "args: ['--pod=${labels.pod}', --, '${labels.x}']"),
    ("json_patch", PATCH % ("/data/mode", "${labels.x}")),
    ("json_patch", PATCH % ("/metadata/annotations/example.com~1by", "${episode.id}")),
    ("notify", "message: 'hello ${labels.x}'"),
]


def _text(action: str, given: str) -> str:
    kind = "ConfigMap" if "map" in action else "Deployment"
    return HEAD.replace("KIND", kind).replace("ACTION", action).replace("WITH", f"{{{given}}}")


@pytest.mark.parametrize(("action", "given"), HOSTILE)
def test_an_alert_does_not_choose(action: str, given: str) -> None:
    """A placeholder where a label would become structure is refused, with its line and a remedy."""
    with pytest.raises(PlaybookSetError, match=r"label|an alert") as raised:
        parse(_text(action, given), shipped_registry(), "it.yaml")
    assert str(raised.value.errors[0]).startswith("it.yaml:11:")


@pytest.mark.parametrize(("action", "given"), FINE)
def test_an_alert_fills_values(action: str, given: str) -> None:
    """A placeholder in a value that stays a value is accepted."""
    parse(_text(action, given), shipped_registry(), "it.yaml")
