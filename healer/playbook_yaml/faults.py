"""All faults of a file, and of a set of files, at once: a person fixes them in one go."""

import difflib
from collections.abc import Iterable, Sequence

from healer.errors import ConfigError, PlaybookError


class PlaybookSetError(ConfigError):
    """Every fault of a set of playbooks, in order of file, line and column."""

    def __init__(self, errors: Iterable[PlaybookError]) -> None:
        unique = {(e.path, e.line, e.column, e.problem): e for e in errors}
        self.errors: tuple[PlaybookError, ...] = tuple(unique[key] for key in sorted(unique))
        super().__init__("\n".join(str(error) for error in self.errors))


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or else the list of what is known, or nothing when none is."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    if not close:
        folded = {name.replace("_", "").lower(): name for name in names}
        same = folded.get(given.replace("_", "").replace("-", "").lower())
        close = [same] if same else []
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {listed(names)}" if names else ""


def listed(names: Sequence[str], most: int = 30) -> str:
    """Names in one line, cut when there are very many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
