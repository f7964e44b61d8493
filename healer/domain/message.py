"""What a person, or another system, is told: one notice, the same through every channel."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class NoticeEvent(StrEnum):
    """Whether somebody is needed, or no longer."""

    TRIGGER = "trigger"
    RESOLVE = "resolve"


class Severity(StrEnum):
    """How bad it is, in PagerDuty's words (Events API v2)."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. `body` of `healer.ports.Message` is `to_mapping()` of this.

    All texts may hold what others wrote (labels, annotations): each channel escapes them.
    """

    event: NoticeEvent
    severity: Severity
    title: str  #: one line that says what is wrong and where
    text: str  #: what was tried and what is left to do, in sentences
    at: float  #: Unix seconds
    episode_id: str = ""
    playbook: str = ""
    target: str = ""  #: `Kind/namespace/name`
    reason: str = ""  #: a value of `healer.domain.verdict.Reason`
    labels: Mapping[str, str] = field(default_factory=dict)  #: of the original alert
    links: Mapping[str, str] = field(default_factory=dict)  #: what it is → URL
    evidence: Mapping[str, str] = field(default_factory=dict)  #: what it is → what was seen
    key: str = ""  #: joins a resolve to its trigger; the deduplication key of every channel

    def to_mapping(self) -> dict[str, Any]:
        """This notice as JSON values; `from_mapping` gives it back."""
        return {
            "event": str(self.event),
            "severity": str(self.severity),
            "title": self.title,
            "text": self.text,
            "at": self.at,
            "episode_id": self.episode_id,
            "playbook": self.playbook,
            "target": self.target,
            "reason": self.reason,
            "labels": dict(self.labels),
            "links": dict(self.links),
            "evidence": dict(self.evidence),
            "key": self.key,
        }

    @classmethod
    def from_mapping(cls, body: Mapping[str, Any]) -> "Notice":
        """The notice in `body`; keys of a later version are ignored.

        Raises ValueError naming the key that is missing or wrong.
        """
        try:
            at = float(body["at"])
            event, severity = NoticeEvent(body["event"]), Severity(body["severity"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a notice: {type(error).__name__} {error}") from error
        return cls(
            event,
            severity,
            _text(body, "title", required=True),
            _text(body, "text", required=True),
            at,
            _text(body, "episode_id"),
            _text(body, "playbook"),
            _text(body, "target"),
            _text(body, "reason"),
            _texts(body, "labels"),
            _texts(body, "links"),
            _texts(body, "evidence"),
            _text(body, "key"),
        )


def _text(body: Mapping[str, Any], key: str, *, required: bool = False) -> str:
    value = body.get(key, None if required else "")
    if not isinstance(value, str):
        raise ValueError(f"not a notice: {key} must be a text, got {type(value).__name__}")
    return value


def _texts(body: Mapping[str, Any], key: str) -> dict[str, str]:
    value = body.get(key, {})
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError(f"not a notice: {key} must be a mapping of texts")
    return dict(value)
