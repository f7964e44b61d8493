"""What playbooks may name: the actions and probes of this build."""

from collections.abc import Mapping
from dataclasses import dataclass

from healer.actions.contract import Action
from healer.probes.contract import Probe


@dataclass(frozen=True, slots=True)
class Registry:
    """Every action and probe by its name; a playbook that names another one is refused."""

    actions: Mapping[str, Action]
    probes: Mapping[str, Probe]


def shipped_registry() -> Registry:
    """Everything this build can do and look at."""
    from healer.actions.registry import ACTIONS
    from healer.probes.registry import PROBES

    return Registry(ACTIONS, PROBES)
