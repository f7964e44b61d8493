"""From a YAML file and the environment to settings, every fault with its place and remedy."""

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from healer.errors import ConfigError
from healer.settings.root import Settings

PREFIX = "HEALER_"
#: Read by the command line and by crash tests, not settings of the daemon.
NOT_SETTINGS = frozenset(
    {"HEALER_CONFIG", "HEALER_SERVER", "HEALER_TOKEN_FILE", "HEALER_CA_FILE", "HEALER_CRASH_POINT"}
)
#: What Kubernetes itself puts into every pod beside a Service called `healer…`.
_SERVICE_LINK = re.compile(
    r"HEALER_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)?)"
)


class _UniqueKeys(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, where the last one would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of `node`. Raises ConstructorError naming the line of a second key."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused below, with its place
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of `path` with `environ` laid over it; no path is all defaults.

    Raises ConfigError with one line a fault, each naming `file: key` or the variable, and the
    remedy.
    """
    tree = {} if path is None else _read(path)
    origins: dict[tuple[str, ...], str] = {}
    for variable, text in sorted(environ.items()):
        keys = _keys(variable)
        if keys:
            _put(tree, keys, _scalar(variable, text), variable)
            origins[keys] = variable
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        lines = [_fault(fault, path, origins) for fault in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(path.read_text(), _UniqueKeys)  # noqa: S506, TID251 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; give a readable file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {error}; correct it there") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: must be a mapping of sections, e.g. `log: {{level: info}}`")
    return tree


def _keys(variable: str) -> tuple[str, ...]:
    """`HEALER_LOG__LEVEL` as (log, level); empty for a variable that is not a setting's."""
    if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
        return ()
    if _SERVICE_LINK.fullmatch(variable) and "__" not in variable:
        return ()
    return tuple(variable.removeprefix(PREFIX).lower().split("__"))


def _scalar(variable: str, text: str) -> Any:
    try:
        return yaml.load(text, _UniqueKeys)  # noqa: S506, TID251 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{variable}: {text!r} is not YAML: {error}; quote it") from error


def _put(tree: dict[str, Any], keys: tuple[str, ...], value: Any, variable: str) -> None:
    for key in keys[:-1]:
        below = tree.setdefault(key, {})
        if not isinstance(below, dict):
            raise ConfigError(f"{variable}: {key} is a value and has no keys; unset the variable")
        tree = below
    tree[keys[-1]] = value


def _fault(fault: Any, path: Path | None, origins: Mapping[tuple[str, ...], str]) -> str:
    where = tuple(str(part) for part in fault["loc"])
    key = ".".join(where)
    variable = next(
        (
            name
            for keys, name in origins.items()
            if where and where[: len(keys)] == keys[: len(where)]
        ),
        None,
    )
    place = variable or (f"{path}: {key}" if path else key)
    if not where and path:
        place = str(path)
    problem = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        problem = f"there is no setting {key}; see docs/configuration.md for those there are"
    elif fault["type"] == "missing":
        problem = f"{key} is required; set it"
    elif fault["type"] not in {"value_error", "extra_forbidden"}:
        problem = f"{problem}, got {str(fault.get('input'))[:60]!r}; correct it"
    return f"{place}: {problem}" if place else problem
