"""Rights at the API server, named by kind."""

from collections.abc import Iterable

from healer.domain.kinds import RESOURCES
from healer.domain.target import Kind
from healer.ports import Permission


def right(verb: str, kind: Kind, subresource: str = "") -> Permission:
    """One right on one kind."""
    resource = RESOURCES[kind]
    return Permission(verb, resource.plural, resource.group, subresource)


def among(kind: Kind | None, accepted: Iterable[Kind]) -> tuple[Kind, ...]:
    """The one kind that is asked for, or all that are accepted, in order of their names."""
    return (kind,) if kind is not None else tuple(sorted(accepted))


def each(kinds: Iterable[Kind], *verbs: str) -> tuple[Permission, ...]:
    """These verbs on each of the kinds."""
    return tuple(right(verb, kind) for kind in kinds for verb in verbs)
