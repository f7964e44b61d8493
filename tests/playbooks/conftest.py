"""The registry of this build, and a playbook that is valid, to be broken one way at a time."""

import pytest

from healer.playbook_yaml import Registry
from healer.playbook_yaml.registry import shipped_registry

GOOD = """\
apiVersion: healer.dev/v1alpha1
kind: Playbook
metadata:
  name: replace-pod
spec:
  summary: Delete one pod that keeps crashing.
  mode: approve
  when:
    alert: '{alertname="KubePodCrashLooping", namespace!~"kube-.*"}'
  target:
    kind: Pod
    namespace: ${labels.namespace}
    name: ${labels.pod}
  guards:
    cooldown: 15m
    budgets: {owner: 3/1h}
    minHealthy: 50%
    unless:
      - {promql: 'backup_running == 1', because: a backup runs}
      - {cel: 'labels.namespace == "frozen"', because: it is frozen}
  steps:
    - name: replace the pod
      action: delete_pod
      with: {grace: 10s}
      verify:
        within: 5m
        probes:
          - alert_resolved: {}
    - name: restart all
      action: restart_rollout
      target:
        kind: Pod
        namespace: ${labels.namespace}
        name: ${labels.pod}
        owner: true
      if: pods.filter(p, !p.ready).size() > 1
      undo: if_not_recovered
      verify:
        probes:
          - workload_ready: {}
  escalate:
    severity: critical
"""


@pytest.fixture(scope="session")
def registry() -> Registry:
    return shipped_registry()


@pytest.fixture
def good() -> str:
    return GOOD
