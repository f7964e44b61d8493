"""What the shape alone cannot tell: names in the registry, parameters, fields that belong together.

Works on the raw values and steps over what has the wrong shape (reported elsewhere), so that every
fault of a file can be told at once.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from healer.actions.contract import Action
from healer.domain.target import CLUSTER_SCOPED, WORKLOADS, Kind
from healer.errors import PlaybookError
from healer.playbook_yaml.explain import check_params
from healer.playbook_yaml.faults import did_you_mean
from healer.playbook_yaml.placeholders import placeholder_faults, structural_faults
from healer.playbook_yaml.registry import Registry
from healer.playbook_yaml.yaml_text import Document, Path


def check(document: Document, registry: Registry) -> Iterator[PlaybookError]:
    """Every fault of the file that needs more than one field, or the registry."""
    for where, is_key, problem in placeholder_faults(document.value):
        yield document.fault(where, problem, key=is_key)
    root = _mapping(document.value)
    yield from _file_name(document, _mapping(root.get("metadata")).get("name"))
    spec = _mapping(root.get("spec"))
    yield from _one_of(document, ("spec", "when"), ("alert", "query", "condition"))
    query = _mapping(_mapping(spec.get("when")).get("query"))
    if query.get("every") in {"0", "0s", 0, "1s", "2s", "3s", "4s"}:
        yield document.fault(("spec", "when", "query", "every"), "every must be at least 5s")
    yield from _target(document, ("spec", "target"), spec.get("target"))
    guards = _mapping(spec.get("guards"))
    for index, _ in enumerate(_list(guards.get("unless"))):
        yield from _one_of(document, ("spec", "guards", "unless", index), ("promql", "cel"))
    for index, window in enumerate(_list(guards.get("windows"))):
        times = _mapping(window)
        if "from" in times and times["from"] == times.get("to"):
            where = ("spec", "guards", "windows", index, "to")
            yield document.fault(where, "from and to are the same; write '00:00' to '24:00'")
    yield from _steps(document, spec, registry)


def _steps(
    document: Document, spec: Mapping[str, Any], registry: Registry
) -> Iterator[PlaybookError]:
    names: dict[str, int] = {}
    for index, raw in enumerate(_list(spec.get("steps"))):
        step = _mapping(raw)
        here: Path = ("spec", "steps", index)
        name = step.get("name")
        if isinstance(name, str):
            if name in names:
                line, _ = document.mark(("spec", "steps", names[name], "name"))
                yield document.fault(
                    (*here, "name"), f"the step in line {line} is called {name!r} too; rename one"
                )
            names.setdefault(name, index)
        if "target" in step:
            yield from _target(document, (*here, "target"), step["target"])
        yield from _action(document, here, step, spec, registry)
        yield from _probes(document, here, step, registry)


def _action(
    document: Document,
    here: Path,
    step: Mapping[str, Any],
    spec: Mapping[str, Any],
    registry: Registry,
) -> Iterator[PlaybookError]:
    name = step.get("action")
    if not isinstance(name, str) or "${" in name:
        return
    action = registry.actions.get(name)
    if action is None:
        hint = did_you_mean(name, registry.actions)
        yield document.fault((*here, "action"), f"there is no action {name!r}{hint}")
        return
    given = step.get("with", {})
    if given is None or isinstance(given, dict):
        base = (*here, "with") if isinstance(given, dict) and "with" in step else here
        yield from check_params(document, action.params, given, base)
    for path, problem in structural_faults(name, given):
        yield document.fault((*here, "with", *path), problem)
    own = "target" in step
    target = _mapping(step["target"] if own else spec.get("target"))
    place: Path = (*here, "target", "kind") if own else (*here, "action")
    yield from _acts_on(document, place, name, action, target)
    if step.get("onUnknown") == "retry" and not (action.idempotent or action.probeable):
        yield document.fault(
            (*here, "onUnknown"),
            f"{name} can neither be repeated nor looked up, so retry could do it twice; "
            "write escalate",
        )


def _acts_on(
    document: Document, place: Path, name: str, action: Action, target: Mapping[str, Any]
) -> Iterator[PlaybookError]:
    kinds = set(_kinds(target.get("ownerKinds"))) if target.get("owner") is True else set()
    if target.get("owner") is True:
        kinds = kinds or set(WORKLOADS | {Kind.JOB})
    else:
        kinds = set(_kinds([target.get("kind")]))
    if kinds and action.kinds and not kinds & action.kinds:
        acts, are = ", ".join(sorted(action.kinds)), ", ".join(sorted(kinds))
        yield document.fault(place, f"{name} acts on {acts}, but the target is a {are}")


def _kinds(names: Any) -> Iterator[Kind]:
    for name in _list(names):
        if isinstance(name, str) and name in set(Kind):
            yield Kind(name)


def _probes(
    document: Document, here: Path, step: Mapping[str, Any], registry: Registry
) -> Iterator[PlaybookError]:
    verify = _mapping(step.get("verify"))
    for index, raw in enumerate(_list(verify.get("probes"))):
        place: Path = (*here, "verify", "probes", index)
        if not isinstance(raw, dict):
            continue
        if len(raw) != 1:
            yield document.fault(place, f"one probe an item, this has {len(raw)}; split it")
        for name, given in raw.items():
            probe = registry.probes.get(name)
            if probe is None:
                hint = did_you_mean(name, registry.probes)
                yield document.fault((*place, name), f"there is no probe {name!r}{hint}", key=True)
            elif given is None or isinstance(given, dict):
                yield from check_params(document, probe.params, given, (*place, name))
                for path, problem in structural_faults(name, given):
                    yield document.fault((*place, name, *path), problem)


def _target(document: Document, here: Path, raw: Any) -> Iterator[PlaybookError]:
    target = _mapping(raw)
    kind = next(_kinds([target.get("kind")]), None)
    if kind in CLUSTER_SCOPED and target.get("namespace") is not None:
        yield document.fault(
            (*here, "namespace"), f"a {kind} is in no namespace; remove the key", key=True
        )
    if kind is not None and kind not in CLUSTER_SCOPED and target.get("namespace") is None:
        yield document.fault(
            here, f"a {kind} is in a namespace; add namespace: ${{labels.namespace}}", key=True
        )
    if target.get("ownerKinds") and target.get("owner") is not True:
        yield document.fault(
            (*here, "ownerKinds"), "ownerKinds means nothing without owner: true", key=True
        )


def _one_of(document: Document, here: Path, names: tuple[str, ...]) -> Iterator[PlaybookError]:
    value: Any = document.value
    for part in here:
        value = value[part] if isinstance(part, int) else _mapping(value).get(part)
    if not isinstance(value, dict):
        return
    given = [name for name in names if value.get(name) is not None]
    if len(given) != 1:
        found = ", ".join(given) or "none"
        yield document.fault(
            here, f"exactly one of {', '.join(names)} must be here, found {found}", key=True
        )


def _file_name(document: Document, name: Any) -> Iterator[PlaybookError]:
    file = PurePath(document.path)
    if isinstance(name, str) and file.suffix in {".yaml", ".yml"} and file.stem != name:
        yield document.fault(
            ("metadata", "name"),
            f"the playbook is called {name!r} and its file {file.name!r}; give both one name",
        )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
