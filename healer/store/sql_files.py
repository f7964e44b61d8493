"""SQL lives in files: statements by name, migrations by number."""

import re
from collections.abc import Mapping
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def statements(file: Path) -> Mapping[str, str]:
    """Every statement of a file by the name in the line `-- name: …` above it."""
    parts = _NAME.split(file.read_text(encoding="utf-8"))
    names = parts[1::2]
    if len(names) != len(set(names)):
        raise ValueError(f"{file.name} names a statement twice; give each its own name")
    return {name: body.strip() for name, body in zip(names, parts[2::2], strict=True)}


def migrations(folder: Path) -> tuple[tuple[int, str], ...]:
    """All migrations as (number, SQL), in order, numbered from 1 without a gap."""
    files = sorted(folder.glob("[0-9]*.sql"))
    found = tuple((int(file.name[:4]), file.read_text(encoding="utf-8")) for file in files)
    if [number for number, _ in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations must be numbered from 1 without a gap: {files}")
    return found
