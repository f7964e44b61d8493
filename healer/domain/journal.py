"""Facts: the append-only record of everything that was heard, decided, done and seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from healer.domain.verdict import Reason
from healer.kernel.ids import canonical_json, digest


class FactKind(StrEnum):
    """What kind of thing happened."""

    ACCEPTED = "accepted"  #: an alert opened, merged into or resolved an episode
    DECIDED = "decided"  #: a playbook was chosen, or none
    PLANNED = "planned"
    VERDICT = "verdict"
    APPROVAL_ASKED = "approval_asked"
    APPROVAL_GIVEN = "approval_given"
    EVIDENCE = "evidence"  #: what was captured before the first action
    INTENT = "intent"
    OUTCOME = "outcome"
    VERIFIED = "verified"
    HELD = "held"  #: a person was told that it is held back
    ESCALATED = "escalated"
    CLOSED = "closed"
    PAUSED = "paused"
    RESUMED = "resumed"
    TOOK_OVER = "took_over"  #: a worker resumed what another one left
    BREAKER_RESET = "breaker_reset"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that happened."""

    kind: FactKind
    at: float
    episode_id: str = ""
    run_id: str = ""
    reason: Reason | None = None
    detail: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A fact in its place in the chain."""

    seq: int
    fact: Fact
    previous: str
    hash: str


GENESIS = "0" * 64


def seal(previous: str, seq: int, fact: Fact) -> str:
    """The hash that binds `fact` to its place and to everything before it."""
    return digest(
        previous,
        str(seq),
        fact.kind,
        f"{fact.at:.6f}",
        fact.episode_id,
        fact.run_id,
        fact.reason or "",
        fact.detail,
        canonical_json(dict(fact.data)),
    )
