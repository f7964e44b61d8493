"""Kubernetes quantities (`500m`, `1Gi`) as exact numbers and back."""

import re
from decimal import ROUND_HALF_UP, Decimal

_SUFFIX = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15, "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30, "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50, "Ei": Decimal(2) ** 60,
}  # fmt: skip
_QUANTITY = re.compile(
    r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)(?:[eE]([+-]?\d+)|(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE])?)"
)


def parse_quantity(text: str) -> Decimal:
    """The exact value of a Kubernetes quantity. Raises ValueError for anything else.

    Grammar: `k8s.io/apimachinery/pkg/api/resource`.
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a Kubernetes quantity: {text[:40]!r}; write for example 500m or 2Gi")
    number, exponent, suffix = match.groups()
    if exponent is not None:
        return Decimal(number) * Decimal(10) ** int(exponent)
    return Decimal(number) * _SUFFIX[suffix or ""]


def format_milli(value: Decimal | float) -> str:
    """`value` as whole milli units (`10.5` is `10500m`), plain when it is a whole number.

    Never an exponent, NaN or infinity: those raise ValueError, because a reader would misread them.
    """
    exact = Decimal(str(value)) if isinstance(value, float) else value
    if not exact.is_finite():
        raise ValueError(f"a quantity must be finite, got {value}")
    milli = int((exact * 1000).to_integral_value(rounding=ROUND_HALF_UP))
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def format_bytes(count: Decimal | int) -> str:
    """`count` bytes with the largest binary suffix that keeps it whole: 2147483648 is `2Gi`."""
    whole = int(count)
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        size = int(_SUFFIX[suffix])
        if whole and whole % size == 0:
            return f"{whole // size}{suffix}"
    return str(whole)
