"""Conditions in CEL, behind one small interface.

CEL terminates and has no side effects; the engine underneath is the Rust `cel` crate. Text from
outside (labels) only ever arrives as variables, never as expression source.
"""

import re
from collections.abc import Mapping
from typing import Any

import cel

#: Longest expression that is accepted; longer ones belong into PromQL or a recording rule.
MAX_LENGTH = 2048
#: A macro that binds a name: `pods.exists(p, p.ready)`.
_BOUND = re.compile(r"\.(?:exists|exists_one|all|map|filter)\(\s*([a-zA-Z_]\w*)\s*,")


class Expression:
    """A compiled CEL expression that must answer true or false."""

    def __init__(self, text: str) -> None:
        """Compile. Raises ValueError with the compiler's own words."""
        if len(text) > MAX_LENGTH:
            raise ValueError(
                f"a CEL expression is at most {MAX_LENGTH} characters, got {len(text)}"
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
