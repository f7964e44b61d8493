"""Label selectors, as `k8s.io/apimachinery/pkg/labels` parses and matches them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

_NAME = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)"
_SUBDOMAIN = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
_KEY = re.compile(rf"(?:(?P<prefix>{_SUBDOMAIN})/)?{_NAME}")
_VALUE = re.compile(rf"{_NAME}?")
_TOKEN = re.compile(r"\s*(==|!=|[=<>!(),]|[^\s=<>!(),]+)")
#: A longer one is no selector of a person's or a controller's. Characters.
LONGEST = 16_384


class BadSelector(ValueError):
    """The text is no label selector; says at what."""


class Operator(StrEnum):
    """How a requirement compares."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "!"
    ABOVE = "gt"
    BELOW = "lt"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet it; `notin` and `!=` are met by a label that is not there."""
        value = labels.get(self.key)
        match self.operator:
            case Operator.IN:
                return value is not None and value in self.values
            case Operator.NOT_IN:
                return value is None or value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.ABSENT:
                return value is None
            case Operator.ABOVE | Operator.BELOW:
                (bound,) = self.values
                number = _integer(value)
                limit = _integer(bound)
                if number is None or limit is None:
                    return False
                return number > limit if self.operator is Operator.ABOVE else number < limit


@dataclass(frozen=True, slots=True)
class Selector:
    """All of its requirements hold; without any, everything matches."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet every requirement."""
        return all(one.matches(labels) for one in self.requirements)


EVERYTHING = Selector()


def parse(text: str) -> Selector:
    """The selector of a `labelSelector` parameter; empty is everything. Raises BadSelector."""
    if len(text) > LONGEST:
        raise BadSelector(f"a selector of {len(text)} characters; at most {LONGEST} are read")
    tokens = _tokens(text)
    if not tokens:
        return EVERYTHING
    found = []
    at = 0
    while True:
        requirement, at = _requirement(tokens, at)
        found.append(requirement)
        if at == len(tokens):
            return Selector(tuple(found))
        if tokens[at] != ",":
            raise BadSelector(f"found {tokens[at]!r}, expected: ',' or the end")
        at += 1


def _tokens(text: str) -> list[str]:
    found = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:  # only white space is left
            break
        found.append(match[1])
        at = match.end()
    return found


def _requirement(tokens: list[str], at: int) -> tuple[Requirement, int]:
    if _peek(tokens, at) == "!":
        return Requirement(_key(_peek(tokens, at + 1)), Operator.ABSENT), at + 2
    key = _key(_peek(tokens, at))
    operator = _peek(tokens, at + 1)
    match operator:
        case "" | ",":
            return Requirement(key, Operator.EXISTS), at + 1
        case "in" | "notin":
            values, after = _set(tokens, at + 2)
            return Requirement(key, Operator(operator), values), after
        case "=" | "==" | "!=":
            # A value that is left out is the empty one: `a=` and `a=,b`.
            value = _peek(tokens, at + 2)
            after = at + 2 if value in {"", ","} else at + 3
            sort = Operator.NOT_IN if operator == "!=" else Operator.IN
            return Requirement(key, sort, frozenset({_value("" if value == "," else value)})), after
        case ">" | "<":
            value = _peek(tokens, at + 2)
            if _integer(value) is None:
                raise BadSelector(f"{key}: {operator} compares with an integer, not {value!r}")
            sort = Operator.ABOVE if operator == ">" else Operator.BELOW
            return Requirement(key, sort, frozenset({value})), at + 3
        case _:
            raise BadSelector(
                f"found {operator!r}, expected: in, notin, =, ==, !=, >, < or ',' after {key!r}"
            )


def _set(tokens: list[str], at: int) -> tuple[frozenset[str], int]:
    if _peek(tokens, at) != "(":
        raise BadSelector(f"found {_peek(tokens, at)!r}, expected: '('")
    values = set()
    at += 1
    while True:
        token = _peek(tokens, at)
        if token in {",", ")"}:  # nothing between them is the empty value
            values.add("")
        elif token:
            values.add(_value(token))
            at += 1
        if _peek(tokens, at) == ")":
            return frozenset(values), at + 1
        if _peek(tokens, at) != ",":
            raise BadSelector(f"found {_peek(tokens, at)!r}, expected: ',' or ')'")
        at += 1


def _peek(tokens: list[str], at: int) -> str:
    return tokens[at] if at < len(tokens) else ""


def _key(text: str) -> str:
    match = _KEY.fullmatch(text)
    if match is None or len(match["prefix"] or "") > 253:
        raise BadSelector(f"{text[:80]!r} cannot be the name of a label")
    return text


def _value(text: str) -> str:
    if _VALUE.fullmatch(text) is None:
        raise BadSelector(f"{text[:80]!r} cannot be the value of a label")
    return text


def _integer(text: str | None) -> int | None:
    if text is None or not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
        return None
    return int(text)
