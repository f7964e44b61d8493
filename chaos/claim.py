"""What an experiment claims: the `healer` extension of its YAML file."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from chaos.errors import ChaosError
from chaos.site import HookName

EXTENSION = "healer"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Within(_Part):
    """Limits in seconds after the fault (`heal`: after the release, where there is one)."""

    deviate: float
    detect: float
    heal: float
    stable: float


class Hold(_Part):
    """What must be seen while healer has to keep still."""

    reasons: tuple[str, ...]
    seconds: float = 5.0
    """It must keep still at least this long."""
    pages: int | None = None
    """So many people are woken in all; None: not judged."""
    at_once: int | None = None
    """So many actions under way at once, at most, after the release."""


class Claim(_Part):
    """The claim of one experiment."""

    order: int
    fault: str
    """What is broken, in one sentence."""
    demands: str
    """What must be seen, in one sentence."""
    expects: Literal["act", "nothing", "hold"]
    credit: Literal["healer", "kubernetes"]
    alert: str = ""
    """The alert's name; empty: none is demanded."""
    label: Literal["pod", "deployment", "node"] = "pod"
    """The label of the alert that names the target."""
    actions: tuple[str, ...] = ()
    """Any of these counts as the matching action."""
    within: Within
    budget: int
    """So many disruptive actions in all, at most."""
    replicas: int = 6
    one_zone: bool = False
    """All pods of the victim stand in one zone."""
    hold: Hold | None = None
    needs: tuple[HookName, ...] = ()
    """Hooks without which it cannot run."""
    needs_webhook: bool = False
    alone: bool = False
    """Its control run breaks more than its own victim, so no other runs beside it."""
    mid_action: bool = False
    """healer must have died between an intent and its outcome."""


def claim_of(name: str, content: dict[str, Any], changes: dict[str, Any]) -> Claim:
    """The claim in an experiment, with the site's changes merged over it, key by key."""
    found = next((e for e in content.get("extensions", []) if e.get("name") == EXTENSION), None)
    if found is None:
        raise ChaosError(f"experiment {name}: it has no extension called {EXTENSION!r}")
    told = {key: value for key, value in found.items() if key != "name"}
    for key, value in changes.items():
        same = isinstance(value, dict) and isinstance(told.get(key), dict)
        told[key] = {**told[key], **value} if same else value
    try:
        return Claim.model_validate(told)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
        )
        raise ChaosError(f"claim of experiment {name}: {faults}") from error
