"""Named crash points: places where a test may end the process, given to the code, never global.

Production code is handed `NO_CRASH`, whose `reach` does nothing. Crash tests hand in `KillAt`, so
that "the process died exactly here" is a parameter of a run and not luck.
"""

import os
import signal
from typing import Protocol


class CrashPoints(Protocol):
    """Told whenever the program reaches a named point."""

    def reach(self, name: str) -> None:
        """The program is at `name` now."""
        ...


class _Never:
    def reach(self, name: str) -> None:
        """Nothing happens."""


NO_CRASH: CrashPoints = _Never()


class KillAt:
    """Ends this process with SIGKILL when `name` is reached for the `nth` time (from 1).

    With SIGSTOP it is frozen there instead, until somebody lets it go on.
    """

    def __init__(self, name: str, nth: int = 1, *, freeze: bool = False) -> None:
        self._name = name
        self._left = nth
        self._signal = signal.SIGSTOP if freeze else signal.SIGKILL

    def reach(self, name: str) -> None:
        """Count down, and end the process at zero."""
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._signal)


def from_environment(value: str | None) -> CrashPoints:
    """`after:intent` or `after:intent#3` (third time) as crash points; nothing set means none.

    `freeze:after:intent` freezes there.
    """
    if not value:
        return NO_CRASH
    name, _, nth = value.removeprefix("freeze:").partition("#")
    return KillAt(name, int(nth or "1"), freeze=value.startswith("freeze:"))
