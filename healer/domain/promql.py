"""How far a PromQL expression looks back, and whether a text can be put into another expression.

This reads just enough of PromQL for those two questions: words, numbers, strings, comments,
brackets and binary operators. Prometheus itself decides whether an expression is right.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from healer.kernel.durations import parse_duration

#: Longest expression that is read; Prometheus' own rules are far below.
MAX_LENGTH = 65536
#: Deepest nesting that is followed.
MAX_DEPTH = 100

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
    |(?P<duration>(?:\d+(?:ms|[smhdwy]))+(?![\w.]))
    |(?P<number>0[xX][0-9a-fA-F]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<word>:?[A-Za-z_][A-Za-z0-9_:]*)
    |(?P<operator>=~|!~|==|!=|>=|<=|[-+*/%^<>=@,:])
    |(?P<open>[(\[{])
    |(?P<close>[)\]}])""",
    re.VERBOSE,
)
_PAIR = {"(": ")", "[": "]", "{": "}"}
_MODIFIERS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_BINARY = frozenset({"+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "atan2"})
_SET = frozenset({"and", "or", "unless"})
#: `job:requests:rate5m` as the recording-rule convention writes it: level:metric:operations.
_RECORDED = re.compile(r"^(?P<stem>.*:.*?[A-Za-z_])(?P<range>(?:\d+(?:ms|[smhdw]))+)$")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Lookback:
    """How far an expression looks back, in seconds, and what makes it so."""

    seconds: float
    because: str  #: the selector that looks back farthest, or why nothing does


def tokens(text: str) -> list[tuple[str, str]]:
    """(kind, text) of every token but space and comments; brackets are checked to pair up.

    Raises ValueError naming the column. A text that passes stays one operand when it is put in
    parentheses (with a line break before the last one, for a comment may end it).
    """
    return [(token.kind, token.text) for token in _scan(text)]


def _scan(text: str) -> list[_Token]:
    if len(text) > MAX_LENGTH:
        raise ValueError(f"an expression is at most {MAX_LENGTH} characters, got {len(text)}")
    found: list[_Token] = []
    waiting: list[str] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"column {position + 1}: {text[position : position + 20]!r} unread")
        kind = match.lastgroup or ""
        if kind == "open":
            waiting.append(_PAIR[match[0]])
            if len(waiting) > MAX_DEPTH:
                raise ValueError(f"column {position + 1}: nested deeper than {MAX_DEPTH}")
        elif kind == "close" and (not waiting or waiting.pop() != match[0]):
            raise ValueError(f"column {position + 1}: {match[0]} closes nothing")
        if kind != "space":
            found.append(_Token(kind, match[0]))
        position = match.end()
    if waiting:
        raise ValueError(f"{waiting[-1]} is missing at the end")
    if not found:
        raise ValueError("the expression is empty")
    return found


def lookback(text: str) -> Lookback:
    """The oldest data that can still hold `text` true: ranges, subqueries and offsets added up.

    Of the sides of `and` that differ in nothing but their windows (the long and the short one of
    a burn-rate alert) the shortest counts, because either alone ends the alert. Recording rules
    are taken at their name: `…:rate5m` looks back 5m. A part pinned by `@` to a time does not move
    and is not counted. Raises ValueError when the text cannot be read.
    """
    reader = _Reader(_scan(text))
    found = reader.expression()
    reader.finish()
    return found


_NOTHING = Lookback(0.0, "")


def _longest(parts: Sequence[Lookback]) -> Lookback:
    return max(parts, key=lambda part: part.seconds, default=_NOTHING)


class _Reader:
    """Recursive descent over `or`, `and`/`unless`, all other operators, and operands."""

    def __init__(self, found: list[_Token]) -> None:
        self._tokens = found
        self._at = 0

    def finish(self) -> None:
        if self._at < len(self._tokens):
            raise ValueError(f"{self._tokens[self._at].text!r} was not expected")

    def _text(self) -> str:
        return self._tokens[self._at].text if self._at < len(self._tokens) else ""

    def _kind(self) -> str:
        return self._tokens[self._at].kind if self._at < len(self._tokens) else ""

    def _take(self) -> _Token:
        if self._at >= len(self._tokens):
            raise ValueError("the expression ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _is_word(self, *words: str) -> bool:
        return self._kind() == "word" and self._text().lower() in words

    def expression(self) -> Lookback:
        sides = [self._conjunction()]
        while self._is_word("or"):
            self._take()
            self._modifiers()
            sides.append(self._conjunction())
        return _longest(sides)

    def _conjunction(self) -> Lookback:
        sides: dict[str, Lookback] = {}

        def add(shape: str, side: Lookback) -> None:
            known = sides.get(shape)
            if known is None or side.seconds < known.seconds:
                sides[shape] = side

        add(*self._side())
        while self._is_word("and", "unless"):
            unless = self._take().text.lower() == "unless"
            self._modifiers()
            shape, side = self._side()
            add(f"unless {len(sides)}" if unless else shape, side)
        return _longest(list(sides.values()))

    def _side(self) -> tuple[str, Lookback]:
        start = self._at
        parts = [self._operand()]
        while self._text() in _BINARY or self._is_word("atan2"):
            self._take()
            if self._is_word("bool"):
                self._take()
            self._modifiers()
            parts.append(self._operand())
        return _shape(self._tokens[start : self._at]), _longest(parts)

    def _modifiers(self) -> None:
        while self._is_word(*_MODIFIERS):
            self._take()
            if self._text() == "(":
                self._skip_group()

    def _skip_group(self) -> list[_Token]:
        """The tokens between the bracket that opens here and the one that closes it."""
        start = self._at
        depth = 0
        while True:
            kind = self._take().kind
            depth += (kind == "open") - (kind == "close")
            if depth == 0:
                return self._tokens[start + 1 : self._at - 1]

    def _operand(self) -> Lookback:
        while self._text() in {"+", "-"}:
            self._take()
        start = self._at
        return self._postfix(start, self._primary())

    def _primary(self) -> Lookback:
        token = self._take()
        if token.text == "(":
            inner = self._arguments()
        elif token.text == "{":
            self._at -= 1
            self._skip_group()
            inner = _NOTHING
        elif token.kind == "word" and token.text.lower() not in _SET:
            inner = self._named(token.text)
        elif token.kind in {"number", "duration", "string"}:
            return _NOTHING
        else:
            raise ValueError(f"{token.text!r} was not expected")
        return inner

    def _named(self, name: str) -> Lookback:
        """A selector, or a function or aggregation with its modifiers before or behind."""
        self._modifiers()
        inner = _NOTHING
        if self._text() == "(":
            self._take()
            inner = self._arguments()
            self._modifiers()
        else:
            recorded = _RECORDED.match(name)
            if recorded is not None:
                inner = Lookback(parse_duration(recorded["range"]), name)
            if self._text() == "{":
                self._skip_group()
        return inner

    def _arguments(self) -> Lookback:
        """What stands before the closing parenthesis, which is taken too."""
        parts: list[Lookback] = []
        while self._text() != ")":
            parts.append(self.expression())
            if self._text() == ",":
                self._take()
            elif self._text() != ")":
                raise ValueError(f"{self._text()!r} was not expected")
        self._take()
        return _longest(parts)

    def _postfix(self, start: int, inner: Lookback) -> Lookback:
        seconds, pinned = inner.seconds, False
        while True:
            if self._text() == "[":
                seconds += _range_seconds(self._skip_group())
            elif self._is_word("offset"):
                self._take()
                seconds += self._offset()
            elif self._text() == "@":
                self._take()
                pinned = self._pin()
            elif self._is_word("smoothed", "anchored"):
                self._take()
            else:
                break
        if pinned:
            return _NOTHING
        if seconds == inner.seconds:
            return inner
        return Lookback(max(seconds, 0.0), _spell(self._tokens[start : self._at]))

    def _offset(self) -> float:
        sign = 1.0
        if self._text() in {"+", "-"}:
            sign = -1.0 if self._take().text == "-" else 1.0
        return sign * _seconds(self._take())

    def _pin(self) -> bool:
        """Whether `@` names a fixed time; `start()` and `end()` are now, in an instant query."""
        if self._text() in {"+", "-"}:
            self._take()
        token = self._take()
        if token.kind == "word":
            self._skip_group()
            return False
        return True


def _seconds(token: _Token) -> float:
    if token.kind == "duration":
        return parse_duration(token.text)
    if token.kind == "number":
        text = token.text.replace("_", "")
        return float(int(text, 16)) if text.lower().startswith("0x") else float(text)
    raise ValueError(f"{token.text!r} is not a duration")


def _range_seconds(inside: Sequence[_Token]) -> float:
    """Seconds of `5m`, `300`, `1h:1m` or `1h:`; the step adds nothing."""
    if not inside or (len(inside) > 1 and inside[1].text != ":"):
        raise ValueError(f"[{_spell(inside)}] is not a range that can be read")
    return _seconds(inside[0])


def _shape(part: Sequence[_Token]) -> str:
    """`part` without its numbers and windows, so that two that differ only in those are equal."""
    words: list[str] = []
    for token in part:
        recorded = _RECORDED.match(token.text) if token.kind == "word" else None
        if recorded is not None:
            words.append(recorded["stem"])
        else:
            words.append("#" if token.kind in {"number", "duration"} else token.text)
    return " ".join(words)


def _spell(part: Sequence[_Token]) -> str:
    """The tokens as one short text."""
    text = ""
    for token in part:
        wide = text and (text[-1].isalnum() or text[-1] in ")]}") and token.kind == "word"
        text += f" {token.text} " if token.text == "offset" else f"{' ' * bool(wide)}{token.text}"
    text = text.replace("  ", " ")
    return text if len(text) <= 80 else f"{text[:77]}…"
