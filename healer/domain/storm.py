"""Storm pacing: the more of a failure domain is bad at once, the slower healer goes, down to zero.

A fixed percentage breaker latches and stampedes when reset (karpenter RFC #3192), so this is a
continuous slow-down per domain, with a ramp of 1, 2, 4 … after a hold. Runs under way count as bad:
a pod that was just deleted is not healthy (OpenShift machine-api-operator #898).
"""

from dataclasses import dataclass

from healer.domain.playbook import Guards
from healer.domain.target import DomainHealth


@dataclass(frozen=True, slots=True)
class Flow:
    """How far a zone's ramp has come since it was last held."""

    held_at: float | None = None  #: when it was last held back; None: never
    recovered: int = 0  #: runs that recovered in it since then


def is_storm(domain: DomainHealth, guards: Guards) -> bool:
    """Whether so much of the domain is bad that the cause cannot be one pod.

    Both the ratio and an absolute number are needed: two of three pods are not a storm. Values as
    in kube-controller-manager's zone state (55 %, at least 3).
    """
    return domain.bad >= guards.storm_minimum and domain.bad_ratio >= guards.storm_ratio


def allowance(domain: DomainHealth, in_flight: int, guards: Guards, flow: Flow) -> int:
    """How many runs may be under way at once in the domain.

    Falls linearly from `max_in_flight` in a calm domain to 1 just below the storm ratio (0 at it),
    in-flight runs counted as bad; after a hold it starts at 1 and doubles with each recovery.
    """
    if is_storm(domain, guards):
        return 0
    bad = min(domain.total, domain.bad + in_flight)
    ratio = bad / domain.total if domain.total else 0.0
    share = 1.0
    if bad >= guards.storm_minimum:
        share = max(0.0, 1.0 - ratio / guards.storm_ratio)
    allowed = max(1, int(guards.max_in_flight * share))
    if flow.held_at is not None:
        allowed = min(allowed, 2 ** min(flow.recovered, 16))
    return allowed


@dataclass(frozen=True, slots=True)
class Room:
    """How many runs may be under way in one zone or workload, and how many were when counted."""

    key: str
    capacity: int
    in_flight: int


def capacity(domain: DomainHealth, guards: Guards, flow: Flow) -> int:
    """How many runs can be under way at once when they begin one after the other."""
    count = 0
    while count < allowance(domain, count, guards, flow):
        count += 1
    return count
