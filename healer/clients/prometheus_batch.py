"""Many expressions as one: how they are joined, and how the joint answer is taken apart.

Each expression is wrapped in `label_replace(…, "__healer_q__", "<its number>", "", "")` and the
wrapped ones are joined by `or`. `or` drops a right-hand series only when the left has one with the
same labels; every part carries another number, so nothing is ever dropped.
"""

from collections.abc import Sequence

from healer.clients.prometheus_answers import Row
from healer.domain.promql import tokens
from healer.errors import Blind

MARK = "__healer_q__"
#: So many expressions, and so much text, go into one request.
MAX_PARTS = 64
MAX_CHARACTERS = 48 * 1024


def joinable(expr: str) -> bool:
    """Whether `expr` stays one operand inside another expression: its brackets pair up."""
    try:
        tokens(expr)
    except ValueError:
        return False
    return len(expr) <= MAX_CHARACTERS


def groups(exprs: Sequence[str]) -> list[list[str]]:
    """`exprs` in as few groups as the limits allow, in order."""
    found: list[list[str]] = []
    size = 0
    for expr in exprs:
        if not found or len(found[-1]) == MAX_PARTS or size + len(expr) > MAX_CHARACTERS:
            found.append([])
            size = 0
        found[-1].append(expr)
        size += len(expr)
    return found


def joined(exprs: Sequence[str]) -> str:
    """One expression for all, as a balanced tree: a chain of n `or` would cost n² in Prometheus."""
    # The line break ends a comment that an expression may end with.
    parts = [f'label_replace((\n{e}\n),"{MARK}","{i}","","")' for i, e in enumerate(exprs)]
    while len(parts) > 1:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [f"({pair[0]} or {pair[1]})" if len(pair) == 2 else pair[0] for pair in pairs]
    return parts[0]


def separated(rows: Sequence[Row], count: int) -> list[list[Row]]:
    """The rows of each expression, without the mark. Raises Blind for a row that is nobody's."""
    parts: list[list[Row]] = [[] for _ in range(count)]
    for row in rows:
        mark = row.metric.pop(MARK, "")
        if not mark.isdecimal() or int(mark) >= count:
            raise Blind(f"prometheus: a joined query came back with the mark {mark[:20]!r}")
        parts[int(mark)].append(row)
    return parts
