"""Playbooks from text, files and folders; every fault of all of them is told at once."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from healer.domain.playbook import Playbook, TriggerKind
from healer.errors import ConfigError, PlaybookError
from healer.playbook_yaml.build import build
from healer.playbook_yaml.checks import check
from healer.playbook_yaml.explain import explain
from healer.playbook_yaml.faults import PlaybookSetError
from healer.playbook_yaml.model import PlaybookShape
from healer.playbook_yaml.registry import Registry
from healer.playbook_yaml.yaml_text import Document, decode, read

SUFFIXES = frozenset({".yaml", ".yml"})
#: Folder beside playbooks that holds their cases, not playbooks.
CASES_FOLDER = "cases"


@dataclass(frozen=True, slots=True)
class PlaybookSet:
    """A whole valid set, in order of name, and what a person should look at anyway."""

    playbooks: tuple[Playbook, ...]
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Identity of the set: changes exactly when a text does."""
        state = hashlib.sha256()
        for playbook in self.playbooks:
            state.update(playbook.sha256.encode())
        return state.hexdigest()


def parse(text: str, registry: Registry, path: str = "<text>") -> Playbook:
    """One playbook. Raises PlaybookSetError with every fault of the text."""
    try:
        document = read(text, path)
    except PlaybookError as error:
        raise PlaybookSetError([error]) from error
    faults: list[PlaybookError] = list(document.faults)
    if not isinstance(document.value, dict):
        faults.append(document.fault((), "a playbook is a mapping that begins with apiVersion"))
        raise PlaybookSetError(faults)
    faults += (f for f in check(document, registry))
    shape: PlaybookShape | None = None
    try:
        shape = PlaybookShape.model_validate(document.value)
    except ValidationError as error:
        told = {(fault.line, fault.column) for fault in faults}
        faults += (
            fault
            for fault in explain(document, error, PlaybookShape)
            if (fault.line, fault.column) not in told
        )
    if faults or shape is None:
        raise PlaybookSetError(_readable(document, faults))
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return build(shape, sha256=sha256, source=path, text=text)


def _readable(document: Document, faults: list[PlaybookError]) -> list[PlaybookError]:
    return faults or [document.fault((), "the playbook cannot be read")]


def load_bytes(data: bytes, registry: Registry, path: str) -> Playbook:
    """One playbook from a file's bytes. Raises PlaybookSetError with every fault."""
    try:
        text = decode(data, path)
    except PlaybookError as error:
        raise PlaybookSetError([error]) from error
    return parse(text, registry, path)


def playbook_files(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The YAML files that `paths` (files and folders) mean, in order of name.

    A folder gives its own `*.yaml` and `*.yml`, not those of folders in it. A ConfigMap mount
    works: its `..data` and `..2026_…` entries are passed over and its links are followed. Raises
    ConfigError for a path that does not exist.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            for file in sorted(path.iterdir()):
                hidden = file.name.startswith(".")
                if not hidden and file.suffix in SUFFIXES and file.is_file():
                    found[file] = None
        elif path.is_file():
            found[path] = None
        else:
            raise ConfigError(f"{path}: there is no such file or folder; correct the path")
    return tuple(found)


def load_files(files: Sequence[Path], registry: Registry) -> PlaybookSet:
    """The whole set of these files. Raises PlaybookSetError with every fault of every file."""
    contents: list[tuple[str, bytes]] = []
    faults: list[PlaybookError] = []
    for file in files:
        try:
            contents.append((str(file), file.read_bytes()))
        except OSError as error:
            faults.append(PlaybookError(file, 1, 1, f"cannot be read: {error.strerror}"))
    return load_contents(contents, registry, faults)


def load_contents(
    contents: Iterable[tuple[str, bytes]],
    registry: Registry,
    faults: Iterable[PlaybookError] = (),
) -> PlaybookSet:
    """The whole set of (path, bytes). Raises PlaybookSetError with every fault of every file."""
    found: list[PlaybookError] = list(faults)
    playbooks: list[Playbook] = []
    for path, data in contents:
        try:
            playbooks.append(load_bytes(data, registry, path))
        except PlaybookSetError as error:
            found += error.errors
    found += _same_names(playbooks)
    if found:
        raise PlaybookSetError(found)
    ordered = tuple(sorted(playbooks, key=lambda playbook: playbook.name))
    return PlaybookSet(ordered, _warnings(ordered))


def load_paths(paths: Iterable[Path], registry: Registry) -> PlaybookSet:
    """The whole set of these files and folders. Raises PlaybookSetError or ConfigError."""
    return load_files(playbook_files(paths), registry)


def _same_names(playbooks: Sequence[Playbook]) -> Iterable[PlaybookError]:
    first: dict[str, Playbook] = {}
    for playbook in playbooks:
        other = first.setdefault(playbook.name, playbook)
        if other is not playbook:
            document = read(playbook.text, playbook.source)
            yield document.fault(
                ("metadata", "name"),
                f"{playbook.name!r} is the name of {other.source} too; rename one",
            )


def _warnings(playbooks: Sequence[Playbook]) -> tuple[str, ...]:
    """Playbooks whose matchers are the same at the same priority: neither would ever be chosen."""
    seen: dict[tuple[int, frozenset[str]], Playbook] = {}
    warnings: list[str] = []
    for playbook in playbooks:
        if playbook.trigger.kind is not TriggerKind.ALERT:
            continue
        key = (playbook.priority, frozenset(str(m) for m in playbook.trigger.matchers))
        other = seen.setdefault(key, playbook)
        if other is not playbook:
            warnings.append(
                f"{playbook.source}: {playbook.name} matches the same alerts as {other.name} with "
                f"the same priority {playbook.priority}, so neither is chosen; raise one's priority"
            )
    return tuple(warnings)
