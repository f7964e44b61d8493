"""What every action promises to the engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.kernel.clock import Clock, SystemClock
from healer.ports import Alerts, Cluster, Http, Permission


class Params(BaseModel):
    """Base of every action's and probe's parameters: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, str_strip_whitespace=True, use_attribute_docstrings=True
    )


@dataclass(frozen=True, slots=True)
class ActionContext:
    """The world an action may touch, and the identity of the effect."""

    cluster: Cluster
    alerts: Alerts | None
    http: Http | None
    key: str  #: idempotency key: `<run>-s<step>`, valid as an object name
    run_id: str
    at: float  #: journaled time of the intent: use this, never a clock, in anything that is written
    timeout_seconds: float
    dry_run: bool = False
    clock: Clock = field(default_factory=SystemClock)  #: only to wait by; what is written uses `at`


class Presence(StrEnum):
    """Answer to "is it already done?"."""

    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    UNKNOWN = "unknown"
    REPEATABLE = "repeatable"  #: nobody can tell, and the identical request does no harm


class Action(Protocol):
    """One verb. Instances hold no state."""

    #: Name in playbooks, snake_case, a verb first.
    name: ClassVar[str]
    #: One sentence for the docs and the schema.
    summary: ClassVar[str]
    #: Schema of `with:`, a subclass of `Params`.
    params: ClassVar[type[Params]]
    #: Target kinds it accepts; empty means any.
    kinds: ClassVar[frozenset[Kind]]
    #: Budget class: restart, evict, scale, rollout, node, storage, job, traffic, patch, http,
    #: silence, notify, wait.
    action_class: ClassVar[str]
    #: The identical request may be repeated without a second effect.
    idempotent: ClassVar[bool]
    #: `probe` can tell whether it was done.
    probeable: ClassVar[bool]

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Exactly the rights that `prepare`, `apply`, `probe` and `undo` use, reads included.

        For a target of `kind`; None asks for every kind it accepts together.
        """
        ...

    def cost(self, params: Any, seen: Observation) -> int:
        """How many pods or nodes it disrupts: 0 for none."""
        ...

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """The precondition to journal with the intent: enough to apply, look up and undo later.

        Raises Refused when it makes no sense here; changes nothing.
        """
        ...

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Do it, with uid or resourceVersion as a precondition at the API server.

        Raises an error whose `may_have_happened` says whether it may have taken effect.
        """
        ...

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether the effect with this key is in place. Never changes anything."""
        ...

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Put back what `before` recorded; None when there is nothing to undo."""
        ...
