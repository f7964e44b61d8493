"""Copies of JSON values, faster than `copy.deepcopy`: the fake API server makes very many."""

from typing import Any, TypeVar, cast

T = TypeVar("T")


def copied(value: T) -> T:
    """A copy of a JSON value that shares no mapping and no list with it."""
    return cast(T, _copied(value))


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: _copied(each) for key, each in value.items()}
    if kind is list:
        return [_copied(each) for each in value]
    if kind is tuple:
        return tuple(_copied(each) for each in value)
    return value
