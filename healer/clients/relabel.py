"""Prometheus' relabelling, for alerts: what `alert_relabel_configs` make of their labels.

The Prometheus operator drops `prometheus_replica` this way, so without it the fingerprints of
Prometheus and of Alertmanager would not agree.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from healer.errors import ConfigError

_REFERENCE = re.compile(r"\$(?:(\d+)|\{(\w+)\}|([A-Za-z_]\w*)|(\$))")


@dataclass(frozen=True, slots=True)
class Relabel:
    """One relabelling rule, with Prometheus' defaults (`model/relabel`)."""

    action: str = "replace"
    source_labels: tuple[str, ...] = ()
    separator: str = ";"
    regex: str = "(.*)"
    modulus: int = 0
    target_label: str = ""
    replacement: str = "$1"

    def apply(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        """The labels after this rule; None when it drops the alert."""
        value = self.separator.join(labels.get(name, "") for name in self.source_labels)
        pattern = re.compile(self.regex)
        changed = dict(labels)
        match self.action:
            case "keep" | "drop":
                matched = pattern.fullmatch(value) is not None
                return changed if matched == (self.action == "keep") else None
            case "keepequal" | "dropequal":
                equal = labels.get(self.target_label, "") == value
                return changed if equal == (self.action == "keepequal") else None
            case "labeldrop" | "labelkeep":
                drop = self.action == "labeldrop"
                return {k: v for k, v in labels.items() if (not pattern.fullmatch(k)) == drop}
            case "labelmap":
                for name, text in labels.items():
                    match_ = pattern.fullmatch(name)
                    if match_ is not None:
                        changed[_expand(self.replacement, match_)] = text
            case "lowercase":
                changed[self.target_label] = value.lower()
            case "uppercase":
                changed[self.target_label] = value.upper()
            case "hashmod":
                digest = hashlib.md5(value.encode(), usedforsecurity=False).digest()
                changed[self.target_label] = str(int.from_bytes(digest[8:], "big") % self.modulus)
            case _:
                match_ = pattern.fullmatch(value)
                if match_ is not None:
                    name = _expand(self.target_label, match_)
                    changed[name] = _expand(self.replacement, match_)
        return {name: text for name, text in changed.items() if text}


def _expand(template: str, match: re.Match[str]) -> str:
    """Go's `Regexp.Expand`: `$1`, `${name}`, `$$`; a group that is not there is empty."""

    def one(reference: re.Match[str]) -> str:
        if reference[4]:
            return "$"
        name = reference[1] or reference[2] or reference[3]
        try:
            return match[int(name) if name.isdecimal() else name] or ""
        except IndexError:
            return ""

    return _REFERENCE.sub(one, template)


_ACTIONS = frozenset(
    {
        "replace", "keep", "drop", "keepequal", "dropequal", "labeldrop", "labelkeep", "labelmap",
        "lowercase", "uppercase", "hashmod",
    }
)  # fmt: skip


def alert_labelling(sections: str) -> tuple[dict[str, str], tuple[Relabel, ...]]:
    """(external labels, alert relabelling) out of a Prometheus configuration.

    Raises ConfigError when it holds what is not understood: a wrong fingerprint would be worse.
    """
    try:
        tree = yaml.safe_load(sections) or {}
        labels = (tree.get("global") or {}).get("external_labels") or {}
        steps = (tree.get("alerting") or {}).get("alert_relabel_configs") or []
        return {str(k): str(v) for k, v in labels.items()}, tuple(_step(s) for s in steps)
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"prometheus: its configuration cannot be read for external labels: {error}; "
            "set them in healer's own settings"
        ) from error


def _step(given: Mapping[str, Any]) -> Relabel:
    step = Relabel(
        action=str(given.get("action", "replace")).lower(),
        source_labels=_names(given.get("source_labels", ())),
        separator=str(given.get("separator", ";")),
        regex=str(given.get("regex", "(.*)")),
        modulus=int(given.get("modulus", 0)),
        target_label=str(given.get("target_label", "")),
        replacement=str(given.get("replacement", "$1")),
    )
    if step.action not in _ACTIONS or (step.action == "hashmod" and step.modulus <= 0):
        raise ValueError(f"unknown relabelling {step.action!r}")
    try:
        re.compile(step.regex)
    except re.error as error:
        raise ValueError(f"regular expression {step.regex!r}: {error}") from error
    return step


def _names(value: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(name) for name in value)
