"""How every benchmark tells its figures: a table for people, then one JSON line for machines."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

#: name → (bar, True when smaller is better)
Bars = Mapping[str, tuple[float, bool]]


def quantile(spent: Sequence[float], share: float) -> float:
    """The value below which `share` of `spent` lies, in milliseconds."""
    ordered = sorted(spent)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(name: str, spent: Sequence[float]) -> dict[str, float]:
    """`<name>_p50_ms`, `_p90_ms` and `_p99_ms` of so many seconds; nothing when there are none."""
    if not spent:
        return {}
    shares = (50, 90, 99)
    return {f"{name}_p{share}_ms": round(quantile(spent, share / 100), 1) for share in shares}


def load() -> float:
    """Processes that wanted a core, as a mean over the last minute, whoever they belong to."""
    return float(Path("/proc/loadavg").read_text().split()[0])


def verdict(
    figures: Mapping[str, Any], bars: Bars, problems: Sequence[str] = ()
) -> tuple[dict[str, bool], bool]:
    """Which bars are met, and whether all are and nothing else was wrong; no figure misses it."""
    met = {
        name: name in figures and (figures[name] <= bar if smaller else figures[name] >= bar)
        for name, (bar, smaller) in bars.items()
    }
    return met, all(met.values()) and not problems


def tell(figures: Mapping[str, Any], bars: Bars, problems: Sequence[str] = ()) -> int:
    """Print the table, what was wrong, and the last line; returns the exit code."""
    met, ok = verdict(figures, bars, problems)
    grid = Table("figure", "measured", "bar", "")
    for name in (*figures, *(name for name in bars if name not in figures)):
        mark = "" if name not in met else ("met" if met[name] else "MISSED")
        bar = str(bars[name][0]) if name in bars else ""
        grid.add_row(name, str(figures.get(name, "none")), bar, mark)
    Console(width=110).print(grid)
    for problem in problems:
        print(f"wrong: {problem}")
    limits = {name: bar for name, (bar, _) in bars.items()}
    last = {"figures": figures, "bars": limits, "met": met, "problems": problems, "ok": ok}
    print(json.dumps(last))
    return 0 if ok else 1
