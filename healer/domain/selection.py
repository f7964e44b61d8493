"""Which playbook is for an episode: the one with the highest priority that matches, or a reason."""

from collections.abc import Sequence
from dataclasses import dataclass

from healer.domain.alert import matches_all
from healer.domain.episode import Episode
from healer.domain.playbook import Playbook, TriggerKind

#: Sources of alerts that healer's own triggers make: the playbook's name follows the slash.
QUERY_SOURCE = "query/"
CONDITION_SOURCE = "condition/"


@dataclass(frozen=True, slots=True)
class Selected:
    """The playbook for an episode."""

    playbook: Playbook


@dataclass(frozen=True, slots=True)
class NotSelected:
    """Why no playbook is for it."""

    detail: str


def choose(playbooks: Sequence[Playbook], episode: Episode) -> Selected | NotSelected:
    """Select by trigger, then priority; two equals are refused rather than picked by accident."""
    fitting = [playbook for playbook in playbooks if is_for(playbook, episode)]
    if not fitting:
        return NotSelected(f"none of {len(playbooks)} playbooks matches {episode.name}")
    best = max(playbook.priority for playbook in fitting)
    first = sorted((p for p in fitting if p.priority == best), key=lambda p: p.name)
    if len(first) > 1:
        names = ", ".join(playbook.name for playbook in first)
        return NotSelected(f"{names} match with the same priority {best}; give one a higher one")
    return Selected(first[0])


def is_for(playbook: Playbook, episode: Episode) -> bool:
    """Whether the playbook's trigger made, or matches, this episode."""
    trigger = playbook.trigger
    match trigger.kind:
        case TriggerKind.QUERY:
            return episode.source == QUERY_SOURCE + playbook.name
        case TriggerKind.CONDITION:
            return episode.source == CONDITION_SOURCE + playbook.name
        case TriggerKind.ALERT:
            if episode.source.startswith((QUERY_SOURCE, CONDITION_SOURCE)):
                return False
            return matches_all(trigger.matchers, episode.labels)
