"""The history checker: was anything lost, or done twice, or done without a right to?

It compares four witnesses that know nothing of each other: the journal, the API server (its audit
log, or any other server that counts effects), the sender of alerts, and what really fired.
"""

from healer.testing.history.checking import check
from healer.testing.history.records import (
    Effect,
    Firing,
    History,
    Report,
    Sent,
    Tolerance,
    Violation,
    ViolationKind,
)

__all__ = [
    "Effect",
    "Firing",
    "History",
    "Report",
    "Sent",
    "Tolerance",
    "Violation",
    "ViolationKind",
    "check",
]
