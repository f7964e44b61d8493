"""`healer scaling import kube-metrics-adapter`: annotated HPAs become policies, losses are told."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from healer.cli import cli
from healer.scaling_yaml import load_policies

HPA = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: events
  namespace: shop
  annotations:
    metric-config.external.prometheus-query.prometheus/prometheus-server: http://other
    metric-config.external.prometheus-query.prometheus/events: |
      scalar(sum(rate(events_total{app="events"}[1m])))
    metric-config.pods.requests.json-path/path: /metrics
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: events}
  minReplicas: 1
  maxReplicas: 10
  metrics:
  - type: External
    external:
      metric: {name: prometheus-query, selector: {matchLabels: {query-name: events}}}
      target: {type: AverageValue, averageValue: "10500m"}
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}
  behavior: {}
"""
NEWER = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: mails
  namespace: shop
  annotations:
    metric-config.external.mails-sent.prometheus/query: sum(rate(mails_total[2m]))
    metric-config.external.mails-sent.prometheus/interval: 30s
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: mails}
  maxReplicas: 4
  metrics:
  - type: External
    external:
      metric: {name: mails-sent, selector: {matchLabels: {type: prometheus}}}
      target: {type: Value, value: "7"}
"""
OBJECT = """\
apiVersion: autoscaling/v2beta1
kind: HorizontalPodAutoscaler
metadata:
  name: old
  annotations:
    metric-config.object.orders.prometheus/query: scalar(sum(orders{path=")"})) + sum(orders)
    metric-config.object.orders.prometheus/per-replica: "true"
spec:
  scaleTargetRef: {kind: Deployment, name: old}
  maxReplicas: 4
  metrics:
  - type: Object
    object:
      metricName: orders
      target: {apiVersion: v1, kind: Pod, name: dummy-pod}
      targetValue: 10
"""


def typed(path: Path, text: str, *words: str) -> Result:
    path.write_text(text)
    return CliRunner().invoke(cli, ["scaling", "import", "kube-metrics-adapter", str(path), *words])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hpa.yaml"


def made(file: Path, done: Result) -> Path:
    assert done.exit_code == 0, done.output
    folder = file.parent / "made"
    folder.mkdir()
    for number, part in enumerate(done.stdout.split("---\n")):
        (folder / f"{number}.yaml").write_text(part)
    return folder


def test_an_annotated_hpa_becomes_a_policy(file: Path) -> None:
    """Query, bounds and target come along; what does not is told with its line."""
    done = typed(file, HPA)
    (one,) = load_policies([made(file, done)])
    assert one.query == 'sum(rate(events_total{app="events"}[1m]))'
    assert (one.min_replicas, one.max_replicas) == (1, 10)
    assert (one.capacity, one.utilisation, one.mode) == (10.5, 1.0, "shadow")
    assert one.workload.name == "events"
    for line, said in ((7, "one Prometheus"), (10, "json-path"), (20, "no demand"), (22, "pace")):
        assert any(
            text.startswith(f"{file}:{line}:") and said in text for text in done.stderr.splitlines()
        ), (line, said, done.stderr)


def test_several_documents_and_both_spellings(file: Path) -> None:
    """A query under its metric's name comes along, each document on its own lines."""
    done = typed(file, HPA + "---\n" + NEWER)
    events, mails = load_policies([made(file, done)])
    assert (events.name, mails.name) == ("events", "mails")
    assert mails.query == "sum(rate(mails_total[2m]))"
    assert mails.capacity is None
    assert mails.metric == "mails-sent"
    assert f"{file}:31: metadata.annotations" in done.stderr
    assert "type Value says nothing of one replica" in done.stderr


def test_an_object_metric_for_each_replica(file: Path) -> None:
    """`per-replica` makes its value the target of one replica; a list of HPAs is read, too."""
    indented = "".join(f"  {line}\n" for line in OBJECT.splitlines())
    text = "apiVersion: v1\nkind: List\nitems:\n-" + indented[1:]
    done = typed(file, text, "--namespace", "shop")
    (one,) = load_policies([made(file, done)])
    assert one.capacity == 10
    assert one.query == 'scalar(sum(orders{path=")"})) + sum(orders)'
    assert one.workload.namespace == "shop"


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (OBJECT, (), "hpa.yaml:1: old: metadata.namespace is missing"),
        (HPA, ("--metric", "other"), "can be taken over: events"),
        (HPA.replace("10500m", "0"), (), "is not above zero"),
        (HPA.replace("10500m", "many"), (), "not a Kubernetes quantity"),
        (HPA.replace("maxReplicas: 10", "maxReplicas: ten"), (), "must be numbers"),
        ("kind: Deployment\n", (), "none of 0 HorizontalPodAutoscalers"),
        ("a: [\n", (), "hpa.yaml:"),
    ],
)
def test_what_cannot_be_taken_over_is_refused(
    file: Path, text: str, words: tuple[str, ...], said: str
) -> None:
    """Exit code 2, with place and remedy."""
    done = typed(file, text, *words)
    assert done.exit_code == 2, done.output
    assert said in done.output


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The path is named."""
    words = ["scaling", "import", "kube-metrics-adapter", str(tmp_path / "gone.yaml")]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert "cannot be read" in done.output
