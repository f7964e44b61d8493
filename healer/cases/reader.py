"""Case files from disk: each case with its own `given` merged over the file's, and its lines."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from healer.cases.shape import CaseFileShape, CaseShape, Given
from healer.errors import PlaybookError
from healer.playbook_yaml.explain import explain
from healer.playbook_yaml.faults import PlaybookSetError
from healer.playbook_yaml.yaml_text import Document, decode, read


@dataclass(frozen=True, slots=True)
class Case:
    """One case, ready to be run."""

    name: str
    index: int
    given: Given
    shape: CaseShape


@dataclass(frozen=True, slots=True)
class CaseFile:
    """All cases of one playbook."""

    document: Document
    playbook: str
    cases: tuple[Case, ...]


def read_cases(path: Path) -> CaseFile:
    """The cases of one file. Raises PlaybookSetError with every fault of it."""
    try:
        document = read(decode(path.read_bytes(), str(path)), str(path))
    except OSError as error:
        fault = PlaybookError(path, 1, 1, f"cannot be read: {error.strerror}")
        raise PlaybookSetError([fault]) from error
    except PlaybookError as error:
        raise PlaybookSetError([error]) from error
    faults = list(document.faults)
    shape: CaseFileShape | None = None
    try:
        shape = CaseFileShape.model_validate(document.value)
    except ValidationError as error:
        faults += explain(document, error, CaseFileShape)
    if shape is None or faults:
        raise PlaybookSetError(faults or [document.fault((), "the cases cannot be read")])
    names: dict[str, int] = {}
    for index, case in enumerate(shape.cases):
        if case.name in names:
            where = ("cases", index, "name")
            faults.append(document.fault(where, f"a second case {case.name!r}; rename one"))
        names[case.name] = index
    if faults:
        raise PlaybookSetError(faults)
    common = document.value.get("given") or {}
    cases = tuple(
        Case(case.name, index, _merged(document, common, index), case)
        for index, case in enumerate(shape.cases)
    )
    return CaseFile(document, shape.playbook, cases)


def _merged(document: Document, common: Mapping[str, Any], index: int) -> Given:
    own = document.value["cases"][index].get("given") or {}
    try:
        return Given.model_validate(_over(common, own))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        fault = document.fault(
            ("cases", index, "given"), f"merged given: {place}: {problem['msg']}"
        )
        raise PlaybookSetError([fault]) from error


#: Replaced whole, not merged: their keys belong together.
_WHOLE = frozenset({"zone", "owner"})


def _over(below: Any, above: Any, key: str = "") -> Any:
    """`above` merged over `below`: mappings key by key, anything else replaced."""
    if key in _WHOLE or not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    merged = dict(below)
    for name, value in above.items():
        merged[name] = _over(below[name], value, name) if name in below else value
    return merged
