"""Conditions in CEL, and regular expressions in linear time, behind one small interface.

CEL terminates and has no side effects, but no clock either: loops inside loops are refused, so a
look costs no more than a few passes over the pods. The engine underneath is the Rust `cel` crate.
Text from outside (labels) only ever arrives as variables, never as expression source.
"""

import re
from collections.abc import Mapping
from typing import Any

import cel

#: Longest expression that is accepted; longer ones belong into PromQL or a recording rule.
MAX_LENGTH = 2048
#: A macro that binds a name: `pods.exists(p, p.ready)`.
_BOUND = re.compile(r"\.(?:exists|exists_one|all|map|filter)\(\s*([a-zA-Z_]\w*)\s*,")
#: What matters for nesting: texts (skipped), macros that loop, and brackets.
_NESTING = re.compile(
    r"""(?P<text>[rRbB]*(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))"""
    r"""|(?P<note>//[^\n]*)"""
    r"""|(?P<loop>\.\s*(?:exists|exists_one|existsOne|all|map|filter|transformList|transformMap)\s*\()"""
    r"""|(?P<open>[(\[{])|(?P<close>[)\]}])""",
    re.DOTALL,
)


class Expression:
    """A compiled CEL expression that must answer true or false."""

    def __init__(self, text: str) -> None:
        """Compile. Raises ValueError with the compiler's own words."""
        if len(text) > MAX_LENGTH:
            raise ValueError(
                f"a CEL expression is at most {MAX_LENGTH} characters, got {len(text)}"
            )
        if _loops_inside(text):
            raise ValueError(
                "a loop (`all`, `exists`, `map`, `filter`) inside a loop could take minutes on a "
                "large workload; write two conditions, or ask PromQL"
            )
        try:
            self._program = cel.compile(text)
        except Exception as error:
            raise ValueError(f"not a CEL expression: {error}") from error
        self.text = text

    def holds(self, variables: Mapping[str, Any]) -> bool:
        """Evaluate. Raises ValueError when it fails or answers anything but a boolean."""
        try:
            answer = self._program.execute(dict(variables))
        except Exception as error:
            raise ValueError(f"cannot evaluate {self.text!r}: {error}") from error
        if not isinstance(answer, bool):
            raise ValueError(f"{self.text!r} answered {type(answer).__name__}, not true or false")
        return answer

    @property
    def variables(self) -> frozenset[str]:
        """The free variables it looks at; names bound by `exists`, `all`, `map` … are not."""
        bound = set(_BOUND.findall(self.text))
        return frozenset(self._program.variables()) - bound


def _loops_inside(text: str) -> bool:
    """Whether a looping macro stands inside the brackets of another."""
    brackets: list[bool] = []  # for each open one, whether it is a loop's
    for found in _NESTING.finditer(text):
        if found["loop"]:
            if any(brackets):
                return True
            brackets.append(True)
        elif found["open"]:
            brackets.append(False)
        elif found["close"] and brackets:
            brackets.pop()
    return False


class Pattern:
    """A regular expression whose time grows only with the text's length: for texts from outside."""

    def __init__(self, text: str, *, whole: bool = False) -> None:
        """`whole` demands that all of the text matches. Raises ValueError for no expression."""
        self.text = text
        self._pattern = f"^(?:{text})$" if whole else text
        self._program = cel.compile("text.matches(pattern)")
        self.found_in("")

    def found_in(self, text: str) -> bool:
        """Whether it is found in `text`. Raises ValueError for no regular expression."""
        try:
            return bool(self._program.execute({"text": text, "pattern": self._pattern}))
        except Exception as error:
            raise ValueError(f"{self.text!r} is not a regular expression: {error}") from error
