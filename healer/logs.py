"""Logs: one JSON object a line (text on a terminal), and one canonical line for each run.

Messages are static and everything else is a field, so that lines can be counted and searched.
Values that are known secrets never leave, wherever they stand.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TextIO

from healer.domain.episode import Episode
from healer.domain.journal import Fact
from healer.domain.run import Phase, Run
from healer.kernel.clock import rfc3339

REDACTED = "***"
#: Shorter values are not redacted: they would black out every line. Characters.
SHORTEST_SECRET = 6
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET_KEY = re.compile(r"(?i)^(authorization|cookie|.*(password|secret|token|api_?key))$")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_LEVELS = {"WARNING": "warn", "CRITICAL": "error"}


class Redactor:
    """Replaces known secrets, secret-looking fields and credentials in headers."""

    def __init__(self, secrets: Callable[[], Iterable[str]] = tuple) -> None:
        """`secrets` is asked for each line, so that rotated values count at once."""
        self._secrets = secrets

    def text(self, text: str) -> str:
        """`text` without any secret."""
        for secret in self._secrets():
            if len(secret) >= SHORTEST_SECRET and secret in text:
                text = text.replace(secret, REDACTED)
        return _BEARER.sub(rf"\1 {REDACTED}", text)

    def field(self, name: str, value: Any) -> Any:
        """A field's value as it may be shown: plain data, without any secret."""
        if _SECRET_KEY.fullmatch(name):
            return REDACTED
        match value:
            case bool() | int() | float() | None:
                return value
            case dict():
                return {str(key): self.field(str(key), inner) for key, inner in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.field("", inner) for inner in value]
            case _:
                return self.text(str(value))


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One JSON object: time, level, logger, message, then the fields."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": _LEVELS.get(record.levelname, record.levelname.lower()),
            "logger": record.name,
            "message": self._redactor.text(record.getMessage()),
        }
        for name, value in fields(record).items():
            line.setdefault(name, self._redactor.field(name, value))
        if record.exc_info:
            line["exception"] = self._redactor.text(self.formatException(record.exc_info))
        return _escaped(json.dumps(line, ensure_ascii=False, default=str))


class TextFormatter(logging.Formatter):
    """`10:48:17 warn  healer.web  message  key=value`, for people."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """The line, and below it the exception if there is one."""
        level = _LEVELS.get(record.levelname, record.levelname.lower())
        head = f"{rfc3339(record.created)[11:19]} {level:<5} {record.name}  "
        told = " ".join(
            f"{name}={_quoted(self._redactor.field(name, value))}"
            for name, value in fields(record).items()
        )
        message = self._redactor.text(record.getMessage())
        line = _escaped(head + message) + (f"  {told}" if told else "")
        if record.exc_info:
            told = self._redactor.text(self.formatException(record.exc_info))
            # Indented, so that no text in an exception can pass for a line of its own.
            line += "".join(f"\n  {_escaped(one)}" for one in told.split("\n"))
        return line


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if text and text.isprintable() and not re.search(r"[\s\"=]", text):
        return text
    return _escaped(json.dumps(text, ensure_ascii=False))


def _escaped(text: str) -> str:
    """`text` with everything that is not printable (control, bidirectional, separators) written
    out: nobody's label may end a line, hide text or steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == " " else json.dumps(c)[1:-1] for c in text)


def configure(
    level: str = "info",
    form: Literal["auto", "json", "text"] = "auto",
    *,
    stream: TextIO | None = None,
    secrets: Callable[[], Iterable[str]] = tuple,
) -> None:
    """Send every log line of this process to `stream` (standard error), in this form."""
    out = stream if stream is not None else sys.stderr
    redactor = Redactor(secrets)
    text = form == "text" or (form == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(TextFormatter(redactor) if text else JsonFormatter(redactor))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("asyncio", "kubernetes_asyncio", "aiohttp.access", "urllib3"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        logging.getLogger("healer").error(
            "a thread failed",
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        )


class RunLog:
    """Listens to the engine and writes one line for each run that ends."""

    def __init__(self) -> None:
        self._log = logging.getLogger("healer.runs")
        self._last = ""

    def heard(self, episode: Episode, run: Run | None, facts: Sequence[Fact]) -> None:
        """These facts are on disk now."""
        if run is None or run.phase is not Phase.DONE or run.id == self._last:
            return
        if run.finished_at not in {fact.at for fact in facts}:
            return  # its end was told before
        self._last = run.id
        self._log.info(
            "run finished",
            extra={
                "episode": episode.id,
                "run": run.id,
                "alert": episode.name,
                "playbook": run.plan.playbook,
                "target": str(run.plan.target),
                "result": str(run.result or ""),
                "reason": str(run.reason or ""),
                "seconds": round((run.finished_at or 0.0) - run.started_at, 3),
                "since_opened_seconds": round((run.finished_at or 0.0) - episode.opened_at, 3),
                "steps": [
                    f"{run.plan.steps[one.step].action}:{one.outcome or 'open'}"
                    + (":undo" if one.undo else "")
                    for one in run.steps
                ],
            },
        )
