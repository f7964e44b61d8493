"""The playbooks of the town: every way in which a step can be safe, and one that can only be once.

Each alert has a label `n`, unique to it, so that every effect can be told from every other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

NAMESPACE = "town"


@dataclass(frozen=True)
class Remedy:
    """One kind of trouble and what is done about it."""

    name: str  #: of the playbook, and of the alert
    steps: str
    share: int  #: how often it comes, relative to the others
    pod: bool = False  #: the target is a pod of the workload, not the workload
    again: bool = True  #: the same alert may fire again later
    budget: str = "100000/1h"  #: of the playbook

    def text(self) -> str:
        """The playbook's YAML."""
        target = (
            "{kind: Pod, namespace: '${labels.namespace}', name: '${labels.pod}'}"
            if self.pod
            else "{kind: StatefulSet, namespace: '${labels.namespace}', name: '${labels.app}'}"
        )
        return _FRAME.format(
            name=self.name, target=target, budget=self.budget, steps=indent(self.steps, "    ")
        )


#: Everything but what is under test is out of the way: cooldown, storms, breakers, other budgets.
_FRAME = """\
apiVersion: healer.dev/v1alpha1
kind: Playbook
metadata: {{name: {name}}}
spec:
  summary: Mend what is broken in the town.
  mode: auto
  when:
    alert: '{{alertname="{name}"}}'
  target: {target}
  guards:
    cooldown: 1s
    allowDuringRollout: true
    storm: {{maxInFlight: 1000}}
    breaker: {{failures: 100, for: 1s}}
    budgets:
      target: 100000/1h
      owner: 100000/1h
      playbook: {budget}
      action_class: 100000/1h
      namespace: 100000/1h
      zone: 100000/1h
      cluster: 100000/1h
  steps:
{steps}
"""

_VERIFY = """\
  verify:
    within: {within}
    every: 200ms
    stableFor: 100ms
    probes:
      - alert_resolved: {{}}
"""


def _step(action: str, parameters: str = "{}", within: str = "10s") -> str:
    step = f"- name: {action}\n  action: {action}\n  timeout: 2s\n  with: {parameters}\n"
    return step + _VERIFY.format(within=within)


def remedies(server: str) -> tuple[Remedy, ...]:
    """All of them; `server` is the address of the one that counts calls."""

    def call(kind: str, more: str = "", within: str = "10s") -> str:
        asked = f"url: '{server}/{kind}', json: {{n: '${{labels.n}}'}}"
        return _step("http_call", f"{{{asked}{more.format(asked=asked)}}}", within)

    return (
        Remedy("delete-pod", _step("delete_pod"), 4, pod=True, again=False),
        Remedy("restart", _step("restart_rollout"), 3),
        Remedy("scale", _step("scale", "{by: 1, max: 1000}"), 2),
        # At most once, and nobody can look: what a crash leaves open goes to a person.
        Remedy("once", call("once"), 4, budget="150/1m"),
        # At most once, and a lookup tells whether it happened.
        Remedy("looked-up", call("looked", ", lookup: {{{asked}}}"), 3, again=False),
        # May be sent again: the server does it once for one key.
        Remedy("keyed", call("keyed", ", idempotent: true"), 3),
        # A ladder: the first rung never helps.
        Remedy("ladder", call("vain", within="500ms") + _step("restart_rollout"), 2),
    )


def write(folder: Path, server: str) -> Path:
    """Write the playbooks into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for remedy in remedies(server):
        (folder / f"{remedy.name}.yaml").write_text(remedy.text())
    return folder


if __name__ == "__main__":
    import sys

    write(Path(sys.argv[1]), "http://127.0.0.1:9999")
