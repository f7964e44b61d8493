"""YAML text to plain values that remember where they stand: line and column of every node.

A subset of YAML 1.2 core, read from PyYAML's pure-Python event stream with our own stack, so
nesting cannot exhaust Python's. Refused: anchors, aliases, merge keys, tags, duplicate keys, keys
that are not text, several documents, numbers that another reader would read differently.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml import events

from healer.errors import PlaybookError

MAX_BYTES = 256 * 1024
#: Mappings and lists inside each other. A playbook needs about 8.
MAX_DEPTH = 32
#: Values in one file. The largest sensible playbook has some hundreds.
MAX_NODES = 10_000

Path = tuple[str | int, ...]
Mark = tuple[int, int]  #: line and column, both from 1

START: Mark = (1, 1)


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed file. `faults` are those of form; what is not in `broken` can still be checked."""

    path: str
    text: str
    value: Any
    keys: Mapping[Path, Mark]  #: where a key stands
    values: Mapping[Path, Mark]  #: where a value begins
    faults: tuple[PlaybookError, ...] = ()
    broken: frozenset[Path] = (
        frozenset()
    )  #: values that could not be read; further faults are noise

    def fault(self, where: Path, problem: str, *, key: bool = False) -> PlaybookError:
        """A fault at `where` (at its key when `key`), or at the nearest thing that exists."""
        line, column = self.mark(where, key=key)
        return PlaybookError(self.path, line, column, problem)

    def mark(self, where: Path, *, key: bool = False) -> Mark:
        """Line and column of a value or its key; of the nearest parent when there is none."""
        if key and where in self.keys:
            return self.keys[where]
        for end in range(len(where), -1, -1):
            if where[:end] in self.values:
                return self.values[where[:end]]
        return START

    def is_broken(self, where: Path) -> bool:
        """Whether `where` lies in something that could not be read."""
        return any(where[:end] in self.broken for end in range(len(where) + 1))


def decode(data: bytes, path: str) -> str:
    """The text of a file. Raises PlaybookError when it is too big or not UTF-8."""
    if len(data) > MAX_BYTES:
        raise PlaybookError(
            path, 1, 1, f"the file has {len(data)} bytes, at most {MAX_BYTES} are read; split it"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise PlaybookError(path, line, column, "not UTF-8; save the file as UTF-8") from error


def read(text: str, path: str) -> Document:
    """Parse one document. Raises PlaybookError when the form is so broken that nothing is left."""
    if len(text) > MAX_BYTES:
        raise PlaybookError(
            path, 1, 1, f"the text has {len(text)} characters, at most {MAX_BYTES} are read"
        )
    try:
        return _Reader(text, path).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else START
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise PlaybookError(path, line, column, f"not YAML: {what}") from error
    except yaml.reader.ReaderError as error:
        line, column = _line_column(text, error.position)
        raise PlaybookError(
            path, line, column, f"the character {error.character!r} is not allowed in YAML"
        ) from error
    except (ValueError, OverflowError, RecursionError) as error:
        # PyYAML lets these out for escapes beyond Unicode and absurd directives.
        raise PlaybookError(path, 1, 1, f"not YAML: {error}") from error


def _line_column(text: str, position: int) -> Mark:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is being filled."""

    container: dict[str, Any] | list[Any]
    path: Path
    key: str | None = None  #: of a mapping: read, and its value is awaited
    place: Path = field(default=())  #: where the awaited value will stand
    keep: bool = True  #: False after a duplicate key: its value is read and dropped


class _Reader:
    def __init__(self, text: str, path: str) -> None:
        self._text = text
        self._path = path
        self._keys: dict[Path, Mark] = {}
        self._values: dict[Path, Mark] = {}
        self._faults: list[PlaybookError] = []
        self._broken: set[Path] = set()
        self._stack: list[_Frame] = []
        self._root: Any = None
        self._nodes = 0

    def read(self) -> Document:
        documents = 0
        for event in self._events():
            if isinstance(event, events.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fault(event, "a second document; write one playbook a file")
                    break
            elif isinstance(event, events.NodeEvent):
                self._node(event)
            elif isinstance(event, events.CollectionEndEvent):
                self._stack.pop()
        if documents == 0:
            raise PlaybookError(
                self._path, 1, 1, "the file is empty; write a playbook or remove it"
            )
        return Document(
            self._path,
            self._text,
            self._root,
            self._keys,
            self._values,
            tuple(self._faults),
            frozenset(self._broken),
        )

    def _events(self) -> Iterator[events.Event]:
        parser = yaml.SafeLoader(self._text)
        try:
            while parser.check_event():
                yield parser.get_event()  # type: ignore[no-untyped-call]
        finally:
            parser.dispose()

    def _fault(self, event: events.Event, problem: str) -> None:
        self._faults.append(self._error(event, problem))

    def _error(self, event: events.Event, problem: str) -> PlaybookError:
        line, column = _mark(event)
        return PlaybookError(self._path, line, column, problem)

    def _node(self, event: events.NodeEvent) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._error(event, f"more than {MAX_NODES} values in one file; split it")
        if event.anchor is not None and not isinstance(event, events.AliasEvent):
            self._fault(event, f"the anchor &{event.anchor} is refused; write the value out")
        if getattr(event, "tag", None) is not None:
            self._fault(event, f"the tag {event.tag} is refused; write a plain value")  # type: ignore[attr-defined]
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.container, dict) and top.key is None:
            self._key(event, top)
            return
        place = self._place(event, top)
        if isinstance(event, events.ScalarEvent):
            self._attach(top, self._scalar(event, place))
        elif isinstance(event, events.AliasEvent):
            self._fault(event, f"the alias *{event.anchor} is refused; write the value out")
            self._broken.add(place)
            self._attach(top, None)
        else:
            if len(self._stack) >= MAX_DEPTH:
                raise self._error(event, f"nested deeper than {MAX_DEPTH}; make it flatter")
            container: dict[str, Any] | list[Any] = (
                {} if isinstance(event, events.MappingStartEvent) else []
            )
            self._attach(top, container)
            self._stack.append(_Frame(container, place))

    def _place(self, event: events.Event, top: _Frame | None) -> Path:
        if top is None:
            place: Path = ()
        elif isinstance(top.container, list):
            place = (*top.path, len(top.container))
        else:
            place = top.place
        self._values[place] = _mark(event)
        return place

    def _attach(self, top: _Frame | None, value: Any) -> None:
        if top is None:
            self._root = value
        elif isinstance(top.container, list):
            top.container.append(value)
        else:
            if top.keep and top.key is not None:
                top.container[top.key] = value
            top.key = None

    def _key(self, event: events.NodeEvent, top: _Frame) -> None:
        if not isinstance(event, events.ScalarEvent):
            raise self._error(event, "a key must be text, not a list, mapping or alias")
        key = event.value
        if _SURROGATE.search(key):
            raise self._error(event, "a lone surrogate is no character; remove the escape")
        top.key, top.keep = key, True
        top.place = (*top.path, key)
        plain = event.implicit[0]
        if plain and not isinstance(_plain(key), str):
            self._fault(event, f"the key {key!r} is not text; quote it")
        elif plain and key.lower() in _YAML_1_1_BOOLEANS:
            self._fault(event, f"the key {key} is a boolean to YAML 1.1 readers; quote it")
        elif plain and key == "<<":
            self._fault(event, "merge keys are refused; write the values out")
        if isinstance(top.container, dict) and key in top.container:
            line, _ = self._keys[top.place]
            self._fault(event, f"the key {key!r} stands already in line {line}; remove one")
            top.keep = False
            top.place = (*top.path, f"{key}\0{self._nodes}")
            self._broken.add(top.place)
        self._keys[top.place] = _mark(event)

    def _scalar(self, event: events.ScalarEvent, place: Path) -> Any:
        text: str = event.value
        if _SURROGATE.search(text):
            self._fault(event, "a lone surrogate is no character; remove the escape")
            self._broken.add(place)
            return ""
        if not event.implicit[0]:
            return text
        try:
            return _plain(text)
        except ValueError as error:
            self._fault(event, str(error))
            self._broken.add(place)
            return None


def _mark(event: events.Event) -> Mark:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else START


_YAML_1_1_BOOLEANS = frozenset({"yes", "no", "on", "off"})
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONSTANTS: Mapping[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_MAX_DIGITS = 18


def _plain(text: str) -> Any:
    """What an unquoted scalar means in YAML 1.2 core. Raises ValueError for doubtful numbers."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if not text[0].isascii() or text[0] not in "+-.0123456789":
        return text
    if _INT.fullmatch(text):
        digits = text.lstrip("+-")
        if len(digits) > _MAX_DIGITS:
            raise ValueError(f"a number of {len(digits)} digits; quote it if it is text")
        if len(digits) > 1 and digits[0] == "0":
            raise ValueError(f"{text} is octal to some readers; quote it if it is text")
        return int(text)
    if _BASED.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise ValueError(f"a number of {len(text)} digits; quote it if it is text")
        return int(text, 0)
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number; quote it if it is text")
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise ValueError(f"{text[:30]} is too big a number; quote it if it is text")
        return number
    return text
