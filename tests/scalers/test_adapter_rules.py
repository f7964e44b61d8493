"""Rules of prometheus-adapter become totals of one workload, or are told with the reason."""

from typing import Any

import pytest
import yaml

from scalers.adapter_rules import Demand, Skipped, demands
from scalers.policy import Workload

WEB = Workload("shop", "Deployment", "web.v1")
CONFIG = r"""
rules:
- seriesQuery: 'http_requests_total{namespace!="",pod!=""}'
  resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
  name: {matches: "^(.*)_total$", as: "${1}_per_second"}
  metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)'
- seriesQuery: 'kube_queue{}'
  resources: {template: "kube_<<.Resource>>"}
  name: {matches: "^kube_(.*)$"}
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'
- seriesQuery: '{__name__=~"^container_.*"}'
  metricsQuery: 'sum(<<.Series>>)'
- seriesQuery: 'cluster_wide'
  metricsQuery: 'sum(<<.Series>>)'
- seriesQuery: 'clever'
  resources: {overrides: {ns: {resource: namespaces}}}
  metricsQuery: 'sum(<<.Series>>{<<index .LabelValuesByName "ns">>})'
externalRules:
- seriesQuery: 'queue_depth'
  resources: {overrides: {ns: {resource: namespaces}}}
  metricsQuery: 'max(<<.Series>>{<<.LabelMatchers>>})'
resourceRules: {cpu: {}}
"""


def made(kind: str = "Deployment") -> list[Demand | Skipped]:
    """What comes of CONFIG."""
    return demands(yaml.safe_load(CONFIG), Workload("shop", kind, "web.v1"))


def test_a_pod_metric_becomes_the_total_of_the_workloads_pods() -> None:
    """Series, labels, grouping and name are filled in as the adapter does it."""
    assert made()[0] == Demand(
        "rules[0]", "http_requests_per_second",
        'sum(rate(http_requests_total{namespace="shop",pod=~"web\\\\.v1-[a-z0-9]+-[a-z0-9]{5}"}'
        "[2m])) by (namespace)",
    )  # fmt: skip


def test_pods_are_told_by_their_controllers_names() -> None:
    """A StatefulSet numbers its pods; of other kinds only the beginning is known."""
    (stateful, other) = (made(kind)[0] for kind in ("StatefulSet", "Rollout"))
    assert isinstance(stateful, Demand)
    assert isinstance(other, Demand)
    assert '"web\\\\.v1-[0-9]+"' in stateful.query
    assert '"web\\\\.v1-.+"' in other.query


def test_a_label_template_names_the_workload_itself() -> None:
    """Where a label holds the workload's name, it is matched and no pod's."""
    assert made()[1] == Demand(
        "rules[1]", "queue",
        'sum(kube_queue{kube_namespace="shop",kube_deployment="web.v1"}) by (kube_namespace)',
    )  # fmt: skip


def test_what_cannot_be_taken_over_says_why() -> None:
    """Several series, all namespaces, template functions, and CPU: each with its reason."""
    told = {one.place: one.because for one in made() if isinstance(one, Skipped)}
    assert "names no single series" in told["rules[2]"]
    assert "another team's load" in told["rules[3]"]
    assert "by hand" in told["rules[4]"]
    assert "no demand" in told["resourceRules"]
    assert len(told) == 4


def test_external_rules_are_taken_over() -> None:
    """They are matched by namespace."""
    assert made()[5] == Demand("externalRules[0]", "queue_depth", 'max(queue_depth{ns="shop"})')


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "config.yaml"),
        ({"kind": "ConfigMap"}, "without the ConfigMap"),
        ({"rules": {}, "externalRules": 4}, "externalRules: must be a list"),
        ({"rules": ["x"]}, r"rules\[0\]: must be a rule"),
    ],
)
def test_another_file_is_refused(config: Any, said: str) -> None:
    """What is no configuration of the adapter is refused with the remedy."""
    with pytest.raises(ValueError, match=said):
        demands(config, WEB)


def test_a_wrong_pattern_is_told() -> None:
    """A name that cannot be made is a rule that is left out, not a crash."""
    rule = {
        "seriesQuery": "a", "metricsQuery": "sum(a)", "name": {"matches": "("},
        "resources": {"overrides": {"ns": {"resource": "namespace"}}},
    }  # fmt: skip
    (one,) = demands({"rules": [rule]}, WEB)
    assert isinstance(one, Skipped)
    assert "name.matches" in one.because
