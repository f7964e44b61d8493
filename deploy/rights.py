"""Writes the ClusterRoles of `deploy/`, from what the code needs: `python -m deploy.rights`.

The base may look, and post Events. Each component in `deploy/components/` adds the rights of one
class of actions. What a `json_patch` needs depends on its playbook, so of that action only the
shipped playbooks' kinds are granted; `healer rbac` prints what playbooks of your own need.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from healer.actions.registry import ACTIONS
from healer.cli.rights import ALWAYS, as_params, rules
from healer.clients.kube import RIGHTS
from healer.clients.kube.leases import CREATE, HOLD
from healer.domain.kinds import RESOURCES
from healer.domain.playbook import Playbook, TargetRule
from healer.domain.target import WORKLOADS, Kind
from healer.engine.sources.conditions import LABEL_OF
from healer.playbook_yaml import load_paths
from healer.playbook_yaml.registry import shipped_registry
from healer.ports import Permission
from healer.probes.registry import PROBES
from healer.settings.conduct import Election
from healer.settings.world import Kubernetes

DEPLOY = Path(__file__).resolve().parent
PLAYBOOKS = DEPLOY.parent / "playbooks"
#: Actions whose rights follow from the playbook alone.
_BY_PLAYBOOK = frozenset({"json_patch"})
_HEAD = "# Written by `python -m deploy.rights`; a test holds it to the code.\n"


def shipped() -> tuple[Playbook, ...]:
    """The playbooks that come with healer."""
    return load_paths([PLAYBOOKS], shipped_registry()).playbooks


def looking(playbooks: Iterable[Playbook]) -> set[Permission]:
    """What is read by senses, triggers and probes, and Events on targets; nothing else."""
    found = {*RIGHTS, *ALWAYS}
    for kind in LABEL_OF:
        found.update(_right(verb, kind) for verb in ("list", "watch"))
    for playbook in playbooks:
        for rule in (playbook.target, *(s.target for s in playbook.steps if s.target)):
            found.update(_right("get", kind) for kind in _kinds(rule))
        for step in playbook.steps:
            for asked in step.verify.probes if step.verify else ():
                probe = PROBES[asked.probe]
                for kind in _kinds(step.target or playbook.target):
                    found.update(probe.needs(as_params(probe.params, asked.params), kind))
    return found


def acting(playbooks: Iterable[Playbook]) -> Mapping[str, set[Permission]]:
    """What actions need, by their class: all kinds that they accept."""
    found: dict[str, set[Permission]] = {}
    for action in ACTIONS.values():
        if action.name not in _BY_PLAYBOOK:
            needs = action.needs(as_params(action.params, {}))
            found.setdefault(action.action_class, set()).update(needs)
    for playbook in playbooks:
        for step in playbook.steps:
            action = ACTIONS[step.action]
            params = as_params(action.params, step.params)
            for kind in _kinds(step.target or playbook.target):
                found.setdefault(action.action_class, set()).update(action.needs(params, kind))
    return {name: rights for name, rights in sorted(found.items()) if rights}


def lease_role(name: str, namespace: str) -> dict[str, Any]:
    """What the election needs: to make a Lease, and to read and renew the one of that name.

    RBAC cannot narrow `create` to a name.
    """
    hold = [{**rule, "resourceNames": [name]} for rule in rules(HOLD)]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "healer-lease", "namespace": namespace, "labels": _labels()},
        "rules": [*rules([CREATE]), *hold],
    }


def files() -> dict[Path, str]:
    """Every file that is generated, with its text."""
    playbooks = shipped()
    found = {DEPLOY / "base" / "cluster-role.yaml": _role("healer-look", looking(playbooks))}
    lease = lease_role(Election().lease_name, Kubernetes().own_namespace)
    found[DEPLOY / "components" / "replicas" / "role.yaml"] = _text(lease)
    for name, rights in acting(playbooks).items():
        folder = DEPLOY / "components" / name
        found[folder / "cluster-role.yaml"] = _role(f"healer-{name}", rights)
        found[folder / "cluster-role-binding.yaml"] = _binding(f"healer-{name}")
        found[folder / "kustomization.yaml"] = _text({
            "apiVersion": "kustomize.config.k8s.io/v1alpha1",
            "kind": "Component",
            "resources": ["cluster-role.yaml", "cluster-role-binding.yaml"],
        })  # fmt: skip
    return found


def _kinds(rule: TargetRule) -> tuple[Kind, ...]:
    if not rule.owner:
        return (rule.kind,)
    return rule.owner_kinds or tuple(sorted(WORKLOADS))


def _right(verb: str, kind: Kind) -> Permission:
    return Permission(verb, RESOURCES[kind].plural, RESOURCES[kind].group)


def _labels() -> dict[str, str]:
    return {"app.kubernetes.io/name": "healer", "app.kubernetes.io/part-of": "healer"}


def _role(name: str, rights: Iterable[Permission]) -> str:
    ordered = sorted(rights, key=lambda one: (one.group, one.resource, one.subresource, one.verb))
    return _text({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": _labels()},
        "rules": rules(ordered),
    })  # fmt: skip


def _binding(name: str) -> str:
    api = "rbac.authorization.k8s.io"
    return _text({
        "apiVersion": f"{api}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": _labels()},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "healer", "namespace": "healer"}],
    })  # fmt: skip


def _text(value: Mapping[str, Any]) -> str:
    return _HEAD + yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=110)


def main() -> None:
    """Write them."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
