"""The rights at the API server that a set of playbooks needs, and not one more."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from healer.domain.kinds import RESOURCES
from healer.domain.playbook import Playbook, TargetRule, TriggerKind
from healer.domain.target import CLUSTER_SCOPED, WORKLOADS, Kind
from healer.playbook_yaml.registry import Registry
from healer.ports import Permission

#: Whatever the playbooks do: Events on targets.
ALWAYS = (Permission("create", "events"),)
#: Resources that live outside namespaces.
_CLUSTER_WIDE = frozenset(RESOURCES[kind].plural for kind in CLUSTER_SCOPED) | {"storageclasses"}
_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")


def needed(playbooks: Iterable[Playbook], registry: Registry) -> tuple[Permission, ...]:
    """Every right, sorted: of looking, of each step's action and probes, of each watch."""
    from healer.clients.kube.observing import RIGHTS

    found = {*RIGHTS, *ALWAYS}
    for playbook in playbooks:
        trigger = playbook.trigger
        if trigger.kind is TriggerKind.CONDITION and trigger.condition_kind is not None:
            found.update(_right(verb, trigger.condition_kind) for verb in ("list", "watch"))
        found.update(_right("get", kind) for kind in _kinds(playbook.target))
        for step in playbook.steps:
            action = registry.actions[step.action]
            rule = step.target or playbook.target
            found.update(_right("get", kind) for kind in _kinds(rule))
            params = as_params(action.params, step.params)
            for kind in _kinds(rule):
                found.update(_asked(action, params, kind))
            for probe_rule in step.verify.probes if step.verify else ():
                probe = registry.probes[probe_rule.probe]
                probe_params = as_params(probe.params, probe_rule.params)
                for kind in _kinds(rule):
                    found.update(_asked(probe, probe_params, kind))
    return tuple(
        sorted(found, key=lambda one: (one.group, one.resource, one.subresource, one.verb))
    )


def _asked(verb: Any, params: Any, kind: Kind) -> tuple[Permission, ...]:
    found: tuple[Permission, ...] = verb.needs(params, kind)
    return found


def _kinds(rule: TargetRule) -> tuple[Kind, ...]:
    """What is acted on: the named kind, or the owners it may have."""
    if not rule.owner:
        return (rule.kind,)
    return rule.owner_kinds or tuple(sorted(WORKLOADS))


def _right(verb: str, kind: Kind) -> Permission:
    resource = RESOURCES[kind]
    return Permission(verb, resource.plural, resource.group)


def as_params(model: type[BaseModel], given: Mapping[str, Any]) -> BaseModel:
    """`given` as parameters; leaves that are filled in only at run time keep their placeholder."""
    try:
        return model.model_validate(dict(given))
    except ValidationError:
        return model.model_construct(**dict(given))


def manifests(
    rights: Sequence[Permission],
    namespaces: Sequence[str],
    account: str,
    account_namespace: str,
) -> list[dict[str, Any]]:
    """A ClusterRole with its binding; or Roles in `namespaces`, and a ClusterRole for the rest."""
    outside = [one for one in rights if one.resource in _CLUSTER_WIDE]
    inside = [one for one in rights if one.resource not in _CLUSTER_WIDE]
    subject = {"kind": "ServiceAccount", "name": account, "namespace": account_namespace}
    if not namespaces:
        return _pair("ClusterRole", account, "", rights, subject)
    found = _pair("ClusterRole", account, "", outside, subject) if outside else []
    for namespace in namespaces:
        found += _pair("Role", account, namespace, inside, subject)
    return found


def _pair(
    kind: str, name: str, namespace: str, rights: Sequence[Permission], subject: dict[str, str]
) -> list[dict[str, Any]]:
    api = "rbac.authorization.k8s.io"
    place = {"namespace": namespace} if namespace else {}
    labels = {"app.kubernetes.io/name": "healer"}
    meta = {"name": name, **place}
    role = {
        "apiVersion": f"{api}/v1",
        "kind": kind,
        "metadata": {**meta, "labels": dict(labels)},
        "rules": rules(rights),
    }
    binding = {
        "apiVersion": f"{api}/v1",
        "kind": f"{kind}Binding",
        "metadata": {**meta, "labels": dict(labels)},
        "roleRef": {"apiGroup": api, "kind": kind, "name": name},
        "subjects": [dict(subject)],
    }
    return [role, binding]


def rules(rights: Sequence[Permission]) -> list[dict[str, Any]]:
    """RBAC rules: one for each API group and set of verbs, exact, without any `*`."""
    verbs: dict[tuple[str, str], set[str]] = {}
    for one in rights:
        name = f"{one.resource}/{one.subresource}" if one.subresource else one.resource
        verbs.setdefault((one.group, name), set()).add(one.verb)
    joined: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (group, name), asked in sorted(verbs.items()):
        ordered = tuple(sorted(asked, key=_order))
        joined.setdefault((group, ordered), []).append(name)
    return [
        {"apiGroups": [group], "resources": names, "verbs": list(asked)}
        for (group, asked), names in joined.items()
    ]


def _order(verb: str) -> tuple[int, str]:
    return (_VERBS.index(verb) if verb in _VERBS else len(_VERBS), verb)
