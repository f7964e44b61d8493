"""Ends a run when the process that owns it is gone: `python -m tests.bed.warden RUN`.

It reads a pipe whose other end only the owner holds. However the owner ends, the kernel
closes that end, and no time passes between that and the cleaning up.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.bed.enclosure import python_environment, python_module
from tests.bed.runs import Run


class Warden:
    """The guard of a run, from the owner's side."""

    def __init__(self, run: Run) -> None:
        with (run.logs / "warden.log").open("ab") as log:
            self._process = subprocess.Popen(
                python_module("tests.bed.warden", str(run.folder)),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=python_environment(),
                # Ctrl-C in the owner's terminal must not end the one who cleans up.
                start_new_session=True,
            )

    def dismiss(self) -> None:
        """Let it go; it finds nothing left to end."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=30)


def main() -> None:
    """Wait for the owner's end, then end the run."""
    sys.stdin.buffer.read()
    run = Run(Path(sys.argv[1]))
    if run.folder.is_dir():
        run.end()


if __name__ == "__main__":
    main()
