"""Every error that leaves a room of healer, and what its caller may do about it.

    HealerError
    ├── ConfigError            the user must change a file or setting; names place and remedy
    │   └── PlaybookError      one fault in one playbook file, with line and column
    ├── TemporaryError         trying again later can help
    │   ├── Unreachable        no connection, or it broke
    │   ├── TimedOut           no answer in time
    │   ├── Throttled          told to slow down
    │   ├── ServerFailed       the other side failed (5xx), or answered what nobody can read
    │   └── StoreUnavailable   the journal cannot commit now
    ├── PermanentError         trying the same again cannot help
    │   ├── Refused            the other side understood and said no
    │   ├── Conflict           the object changed since we looked
    │   ├── NotFound           the object is gone, or never was
    │   └── Unauthorized       our credential or our rights do not suffice
    ├── Blind                  the data needed to decide is missing, stale or not a number
    └── Fenced                 another worker owns this episode now: stop, write nothing more

`may_have_happened` says whether a call that failed may still have had its effect; only then is the
outcome of a step unknown.
"""

from pathlib import Path


class HealerError(Exception):
    """Something that healer itself can name went wrong."""

    #: A call that failed this way may still have taken effect on the other side.
    may_have_happened = False


class ConfigError(HealerError):
    """A file or setting is wrong; the text names the place and the remedy."""


class PlaybookError(ConfigError):
    """One fault in one playbook file; `str()` is `file:line:column: what is wrong; remedy`."""

    def __init__(self, path: Path | str, line: int, column: int, problem: str) -> None:
        self.path = str(path)
        self.line = line
        self.column = column
        self.problem = problem
        super().__init__(f"{self.path}:{line}:{column}: {problem}")


class TemporaryError(HealerError):
    """Trying again later can help; `retry_after` (seconds) when the other side told us when."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unreachable(TemporaryError):
    """No connection, or it broke before the answer came."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        #: False when the connection was never made, so nothing can have happened.
        self.may_have_happened = sent


class TimedOut(TemporaryError):
    """No answer in time."""

    may_have_happened = True


class Throttled(TemporaryError):
    """The other side told us to slow down (429) and did nothing."""


class ServerFailed(TemporaryError):
    """The other side failed while it answered (5xx), or its answer cannot be read."""

    def __init__(
        self, message: str, *, may_have_happened: bool, retry_after: float | None = None
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        #: False when the failure came before any effect was possible.
        self.may_have_happened = may_have_happened


class StoreUnavailable(TemporaryError):
    """The journal cannot commit now: disk full, locked, draining or gone."""


class PermanentError(HealerError):
    """Trying the same again cannot help."""


class Refused(PermanentError):
    """The other side understood the request and said no."""


class Conflict(PermanentError):
    """The object changed since it was observed (409), so nothing was done."""


class NotFound(PermanentError):
    """The object is gone, or never was."""


class Unauthorized(PermanentError):
    """The credential or the rights behind it do not suffice; the text names the missing right."""


class Blind(HealerError):
    """Data needed to decide is missing, stale, NaN or unreachable: do nothing destructive."""


class Fenced(HealerError):
    """Another worker owns this episode now: whoever gets this stops and writes nothing more."""
