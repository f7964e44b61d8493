"""Kill switches that need no database, no API server and no deploy: a file, and a signal.

While the pause file exists, nothing is done; its first line is the reason. It stays where it is
over a restart, so healer stays stopped. A file that exists and cannot be read stops too.
"""

from pathlib import Path

from healer.domain.pause import Pause
from healer.kernel.clock import Clock

#: The longest reason that is read from the file.
MAX_REASON = 500


class PauseFile:
    """Looks at the pause file each time it is asked."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def pauses(self) -> tuple[Pause, ...]:
        """The pause that the file means, if it is there."""
        try:
            with self._path.open() as file:
                reason = file.readline(MAX_REASON).strip()
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            reason = f"the pause file cannot be read: {error}"
        return (Pause("file", reason or "pause file", str(self._path), self._clock.now()),)

    def set(self, reason: str) -> None:
        """Create the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(reason + "\n")
