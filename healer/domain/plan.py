"""The frozen plan of one episode: targets by uid, parameters resolved, identity of each step."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from healer.domain.playbook import Guards, Mode, OnUnknown, UndoRule, VerifyRule
from healer.domain.target import TargetRef
from healer.kernel.ids import canonical_json, digest


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One rung, ready to be done. `params` passed the action's schema after substitution."""

    index: int
    name: str
    action: str
    action_class: str  #: budget class: restart, scale, rollout, node, storage, traffic, notify …
    target: TargetRef  #: with uid
    params: Mapping[str, Any]
    cost: int  #: pods or nodes it disrupts, at least 1 for anything disruptive, 0 otherwise
    idempotent: bool  #: the identical request may be repeated without a second effect
    probeable: bool  #: the action can tell whether it was done
    verify: VerifyRule | None = None
    condition: str = ""
    undo: UndoRule = UndoRule.NEVER
    on_unknown: OnUnknown = OnUnknown.ESCALATE
    timeout_seconds: float = 30.0


@dataclass(frozen=True)  # without slots: its digest is kept beside the fields
class Plan:
    """What would be done for one episode, in order, and under which guards."""

    episode_id: str
    playbook: str
    playbook_sha256: str
    mode: Mode
    target: TargetRef  #: with uid; the playbook's own target
    lock: TargetRef  #: what is locked meanwhile: the owner, or the target
    namespace: str
    zone: str
    steps: tuple[PlannedStep, ...]
    guards: Guards
    made_at: float
    labels: Mapping[str, str] = field(default_factory=dict)  #: the alert's, for probes

    @cached_property
    def digest(self) -> str:
        """Identity of what would be done; an approval is bound to it."""
        return digest(
            self.episode_id,
            self.playbook_sha256,
            *(
                canonical_json(
                    [step.index, step.action, str(step.target), step.target.uid, dict(step.params)]
                )
                for step in self.steps
            ),
        )


def run_id(episode_id: str, ordinal: int) -> str:
    """The id of an episode's n-th run, the same on every replica."""
    return f"{episode_id}-{ordinal}"


def idempotency_key(run: str, step: int, attempt: int) -> str:
    """The identity of one effect: names Jobs and Events, annotates restarts, keys HTTP calls.

    Valid as a Kubernetes object name (at most 63 characters, lower case).
    """
    return f"{run}-s{step}" if attempt == 0 else f"{run}-s{step}a{attempt}"


_ATTEMPT = re.compile(r"(-s\d+)a\d+(?=-undo$|$)")


def step_key(key: str) -> str:
    """The identity of the step that `key` is an attempt at: the same for all of its attempts.

    For other systems that do once what they are asked under one key.
    """
    return _ATTEMPT.sub(r"\1", key)
