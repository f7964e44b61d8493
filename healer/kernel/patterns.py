"""Regular expressions that cannot take for ever, whatever text they are given.

Python's `re` goes back over every way to match, so `(a+)+b` on forty letters outlives the daemon.
Alertmanager's RE2 does not; what it refuses (references, look-around) is refused here too.
"""

import importlib
import math
import re
import warnings
from typing import Any

#: Ways to match that a pattern may leave open, as a power of two: three free repetitions and a bit.
MAX_BITS = 34.0
#: What one repetition without an end counts: it may stop at any of a label's 1024 characters.
_FREE_BITS = 10.0

# Private, but the only way to look at a pattern that is exactly what `re` will run.
_sre: Any = importlib.import_module("re._parser")


def check_pattern(text: str) -> None:
    """Raises ValueError for what is no regular expression, or could take very long."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            re.compile(text)
            tree = _sre.parse(text)
    except FutureWarning as warning:
        raise ValueError(
            f"{text[:80]!r} may mean something else to a later Python ({warning}); put a backslash "
            "before each `[`, `-`, `&`, `~` and `|` inside of brackets"
        ) from warning
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{text[:80]!r} is not a regular expression: {error}") from error
    bits = _bits(tree, text)
    if bits > MAX_BITS:
        raise ValueError(
            f"{text[:80]!r} leaves too many ways to match, which could take very long; use at most "
            "three repetitions (`.*`) one after the other"
        )


def _bits(items: Any, text: str) -> float:
    """How many ways to match a sequence leaves open, as a power of two."""
    return sum(_open_ways(str(operation), value, text) for operation, value in items)


def _open_ways(operation: str, value: Any, text: str) -> float:
    match operation:
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, inner = value
            return _repeated(int(least), int(most), _bits(inner, text), text)
        case "SUBPATTERN":
            return _bits(value[-1], text)
        case "ATOMIC_GROUP":
            return _bits(value, text)
        case "BRANCH":
            branches = value[1]
            return max(_bits(one, text) for one in branches) + math.log2(len(branches))
        case "GROUPREF" | "GROUPREF_EXISTS" | "ASSERT" | "ASSERT_NOT":
            raise ValueError(
                f"{text[:80]!r} refers back or looks around, which Alertmanager does not know "
                "either; write it without"
            )
        case _:
            return 0.0


def _repeated(least: int, most: int, inner: float, text: str) -> float:
    endless = most - least > 2**_FREE_BITS or most > 2**_FREE_BITS
    if endless and inner > 0:
        raise ValueError(
            f"{text[:80]!r} repeats something that can itself match in several ways, which could "
            "take very long; write one repetition, as in `[a-z0-9-]+` for `([a-z0-9]+-?)+`"
        )
    if endless:
        return _FREE_BITS
    return most * inner + math.log2(most - least + 1)
