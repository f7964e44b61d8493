"""From an episode and one look at its target to a frozen plan, or the reason why there is none.

Labels are text from outside. They are substituted once, after YAML parsing, into string leaves
only, and the result must pass the action's schema: a label can fill a value, never choose an
action, a host or "everything".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from healer.actions.contract import Action
from healer.domain.episode import Episode
from healer.domain.plan import Plan, PlannedStep
from healer.domain.playbook import Playbook, ProbeRule, StepRule, TargetRule, VerifyRule
from healer.domain.target import CLUSTER_SCOPED, WORKLOADS, Kind, Observation, TargetRef
from healer.domain.verdict import Reason
from healer.kernel.clock import rfc3339

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Unplannable:
    """Why there is no plan."""

    reason: Reason
    detail: str


class _Missing(Exception):
    """A placeholder has no value, or an empty one."""


def resolve_target(rule: TargetRule, episode: Episode) -> TargetRef | Unplannable:
    """The one object that the rule names for this episode; empty or odd names are refused."""
    values = _variables(episode, None)
    try:
        name = _fill(rule.name, values)
        namespace = "" if rule.kind in CLUSTER_SCOPED else _fill(rule.namespace, values)
    except _Missing as error:
        return Unplannable(Reason.TARGET_UNRESOLVED, str(error))
    if not _NAME.fullmatch(name):
        return Unplannable(Reason.TARGET_UNRESOLVED, f"{name[:80]!r} is no name of a {rule.kind}")
    if rule.kind not in CLUSTER_SCOPED and not _NAMESPACE.fullmatch(namespace):
        return Unplannable(Reason.TARGET_UNRESOLVED, f"{namespace[:80]!r} is no namespace")
    return TargetRef(rule.kind, name, namespace)


def owner_of(rule: TargetRule, seen: Observation) -> TargetRef | Unplannable:
    """The controller to act on, when the rule asks for the owner of what was seen."""
    kinds = frozenset(rule.owner_kinds) or WORKLOADS | {Kind.JOB}
    owner = seen.ref if seen.ref.kind in kinds and seen.owner is None else seen.owner
    if owner is None:
        return Unplannable(Reason.TARGET_UNRESOLVED, f"{seen.ref} has no controller to act on")
    if owner.kind not in kinds:
        wanted = ", ".join(sorted(kinds))
        return Unplannable(
            Reason.TARGET_UNRESOLVED, f"{seen.ref} belongs to {owner}, the playbook wants {wanted}"
        )
    return owner


def make_plan(
    playbook: Playbook,
    episode: Episode,
    seen: Observation,
    now: float,
    actions: Mapping[str, Action],
    others: Mapping[int, Observation] | None = None,
) -> Plan | Unplannable:
    """The frozen plan: every step with its target by uid and parameters that passed the schema.

    `others` holds what was seen of the targets of steps that name their own, by step index.
    """
    steps: list[PlannedStep] = []
    for index, rule in enumerate(playbook.steps):
        step_seen = (others or {}).get(index, seen)
        planned = _plan_step(index, rule, step_seen, episode, actions)
        if isinstance(planned, Unplannable):
            return planned
        steps.append(planned)
    return Plan(
        episode_id=episode.id,
        playbook=playbook.name,
        playbook_sha256=playbook.sha256,
        mode=playbook.mode,
        target=seen.ref,
        lock=seen.lock_ref,
        namespace=seen.ref.name if seen.ref.kind is Kind.NAMESPACE else seen.ref.namespace,
        zone=seen.zone,
        steps=tuple(steps),
        guards=playbook.guards,
        made_at=now,
        labels=dict(episode.labels),
    )


def _plan_step(
    index: int, rule: StepRule, seen: Observation, episode: Episode, actions: Mapping[str, Action]
) -> PlannedStep | Unplannable:
    where = f"step {index + 1} ({rule.name})"
    action = actions.get(rule.action)
    if action is None:
        return Unplannable(Reason.PARAMETER_INVALID, f"{where}: no action {rule.action!r}")
    if action.kinds and seen.ref.kind not in action.kinds:
        wanted = ", ".join(sorted(action.kinds))
        return Unplannable(
            Reason.TARGET_UNRESOLVED, f"{where}: {rule.action} acts on {wanted}, not on {seen.ref}"
        )
    try:
        values = _variables(episode, seen)
        params = action.params.model_validate(_fill_all(rule.params, values))
        verify = _fill_probes(rule.verify, values)
    except _Missing as error:
        return Unplannable(Reason.PARAMETER_INVALID, f"{where}: {error}")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return Unplannable(Reason.PARAMETER_INVALID, f"{where}: with.{place}: {first['msg']}")
    return PlannedStep(
        index=index,
        name=rule.name,
        action=rule.action,
        action_class=action.action_class,
        target=seen.ref,
        params=params.model_dump(mode="json"),
        cost=action.cost(params, seen),
        idempotent=action.idempotent,
        probeable=action.probeable,
        verify=verify,
        condition=rule.condition,
        undo=rule.undo,
        on_unknown=rule.on_unknown,
        timeout_seconds=rule.timeout_seconds,
    )


def filled(texts: Mapping[str, str], episode: Episode, seen: Observation | None) -> dict[str, str]:
    """The texts with their placeholders filled. Raises ValueError when one has no value."""
    try:
        return {key: _fill(text, _variables(episode, seen)) for key, text in texts.items()}
    except _Missing as error:
        raise ValueError(str(error)) from error


def worded(text: str, episode: Episode, plan: Plan | None) -> str:
    """A text for people with its placeholders filled; what has no value is shown as `?`."""
    values = _variables(episode, None)
    if plan is not None:
        ref, lock = plan.target, plan.lock
        values["target"] = {
            "kind": str(ref.kind), "name": ref.name, "namespace": ref.namespace, "uid": ref.uid,
            "zone": plan.zone,
        }  # fmt: skip
        values["owner"] = {"kind": str(lock.kind), "name": lock.name}

    def lookup(match: re.Match[str]) -> str:
        root, _, key = match[1].strip().partition(".")
        return str(values.get(root, {}).get(key) or "?")

    return _PLACEHOLDER.sub(lookup, text)


def _variables(episode: Episode, seen: Observation | None) -> dict[str, Any]:
    values: dict[str, Any] = {
        "labels": episode.labels,
        "annotations": episode.annotations,
        "episode": {"id": episode.id, "startsAt": rfc3339(episode.starts_at)},
    }
    if seen is not None:
        ref = seen.ref
        values["target"] = {
            "kind": str(ref.kind), "name": ref.name, "namespace": ref.namespace, "uid": ref.uid,
            "node": seen.node, "zone": seen.zone,
        }  # fmt: skip
        owner = seen.owner or ref
        values["owner"] = {"kind": str(owner.kind), "name": owner.name}
    return values


def _fill_probes(rule: VerifyRule | None, values: Mapping[str, Any]) -> VerifyRule | None:
    if rule is None:
        return None
    probes = (ProbeRule(probe.probe, _fill_all(probe.params, values)) for probe in rule.probes)
    return replace(rule, probes=tuple(probes))


def _fill_all(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return _fill(value, values)
    if isinstance(value, Mapping):
        return {key: _fill_all(item, values) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fill_all(item, values) for item in value]
    return value


def _fill(text: str, values: Mapping[str, Any]) -> str:
    def lookup(match: re.Match[str]) -> str:
        path = match[1].strip()
        root, _, key = path.partition(".")
        found = values.get(root, {}).get(key)
        if not found:
            raise _Missing(f"${{{path}}} has no value here, and empty never means all")
        return str(found)

    return _PLACEHOLDER.sub(lookup, text)


@dataclass(frozen=True, slots=True)
class ConditionVariables:
    """What CEL conditions may look at, built once for each look."""

    episode: Episode
    seen: Observation
    now: float
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_mapping(self) -> dict[str, Any]:
        """`labels`, `annotations`, `target`, `owner`, `pods`, `episode`, `now` for CEL."""
        seen = self.seen
        values = _variables(self.episode, seen)
        values["labels"] = dict(self.episode.labels)
        values["annotations"] = dict(self.episode.annotations)
        values["target"] |= {
            "labels": dict(seen.labels),
            "annotations": dict(seen.annotations),
            "replicas": seen.replicas or 0,
            "ready": seen.ready,
            "updated": seen.updated,
            "generation": seen.generation,
            "rolloutInProgress": seen.rollout_in_progress,
            "paused": seen.paused,
        }
        values["pods"] = [
            {
                "name": pod.ref.name, "ready": pod.ready, "reason": pod.reason,
                "restarts": pod.restarts, "node": pod.node, "zone": pod.zone,
                "ageSeconds": max(0.0, self.now - pod.created_at),
            }
            for pod in seen.pods
        ]  # fmt: skip
        values["episode"] |= {"ageSeconds": max(0.0, self.now - self.episode.opened_at)}
        values["now"] = self.now
        return values | dict(self.extra)
