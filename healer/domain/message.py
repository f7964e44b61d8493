"""What a person is told: one notice, whatever the channel it goes through."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class NoticeEvent(StrEnum):
    """Whether the notice opens trouble, or ends it."""

    TRIGGER = "trigger"
    RESOLVE = "resolve"


class Severity(StrEnum):
    """PagerDuty's four words, used everywhere."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. `key` joins a resolve to its trigger and removes duplicates."""

    event: NoticeEvent
    key: str  #: at most 255 characters
    severity: Severity
    title: str  #: one line, at most 200 characters
    text: str  #: what happened, what was done, what to do now
    at: float  #: Unix seconds
    episode_id: str = ""
    playbook: str = ""
    target: str = ""
    reason: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)  #: of the original alert
    starts_at: float = 0.0  #: of the original alert
    fingerprint: str = ""
    links: Mapping[str, str] = field(default_factory=dict)  #: name → URL
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def to_mapping(self) -> dict[str, Any]:
        """A JSON value that `from_mapping` turns back into this notice."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, body: Mapping[str, Any]) -> "Notice":
        """The notice in a message's body; unknown keys of a newer version are ignored."""
        known = {key: value for key, value in body.items() if key in cls.__dataclass_fields__}
        return cls(
            **{
                **known,
                "event": NoticeEvent(known["event"]),
                "severity": Severity(known["severity"]),
            }
        )
