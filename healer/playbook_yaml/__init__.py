"""Playbook files: YAML to `healer.domain.playbook.Playbook`, or every fault with its place."""

from healer.playbook_yaml.faults import PlaybookSetError
from healer.playbook_yaml.library import PlaybookLibrary, find_shipped
from healer.playbook_yaml.loader import PlaybookSet, load_paths, parse
from healer.playbook_yaml.registry import Registry

__all__ = [
    "PlaybookLibrary",
    "PlaybookSet",
    "PlaybookSetError",
    "Registry",
    "find_shipped",
    "load_paths",
    "parse",
]
