"""Ids are derived from what they name, so the same thing has the same id on every replica."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any


def digest(*parts: str) -> str:
    """SHA-256 (hex) over `parts`, separated so that no two lists of parts collide."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode()
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()


#: Made once: `json.dumps` makes a new one for every text that is not written in its own way.
_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces. Raises ValueError on NaN."""
    return _CANONICAL.encode(value)


def label_fingerprint(labels: Mapping[str, str]) -> str:
    """The fingerprint Alertmanager itself gives to these labels (16 hex digits).

    FNV-1a, 64 bit, over `name 0xFF value 0xFF` in order of names: Prometheus
    `model.LabelSet.Fingerprint`.
    """
    state = 0xCBF29CE484222325
    for name in sorted(labels):
        for byte in (*name.encode(), 0xFF, *labels[name].encode(), 0xFF):
            state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{state:016x}"


def random_id(prefix: str) -> str:
    """A fresh id that no other process will draw: `prefix-` and 16 hex digits."""
    return f"{prefix}-{secrets.token_hex(8)}"
