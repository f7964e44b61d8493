"""The rights that a run really uses: a cluster that keeps what each of its calls needs."""

import inspect
from typing import Any

from healer.clients.kube.observing import RIGHTS
from healer.domain.kinds import RESOURCES
from healer.domain.target import Kind, TargetRef
from healer.ports import Permission
from healer.testing.cluster import FakeCluster

#: Questions that everybody may ask, or that are covered by the rights of looking.
_LOOKS = {"observe", "zones"}
_SELF = {"missing_right"}


class Recorded:
    """Any cluster, with the rights that were used."""

    def __init__(self, inner: FakeCluster) -> None:
        self._inner = inner
        self.used: set[Permission] = set()

    def __getattr__(self, call: str) -> Any:
        inner = getattr(self._inner, call)
        if not inspect.iscoroutinefunction(inner) or call in _SELF:
            return inner

        async def kept(*args: Any, **named: Any) -> Any:
            self.used |= _rights(call, args, named)
            return await inner(*args, **named)

        return kept


def _rights(call: str, args: tuple[Any, ...], named: dict[str, Any]) -> set[Permission]:
    if call in _LOOKS:
        return set(RIGHTS)
    if call == "evict":
        return {Permission("create", "pods", "", "eviction")}
    if call == "create":
        found = RESOURCES.get(Kind(args[0]["kind"])) if args[0]["kind"] != "Event" else None
        return {
            Permission("create", found.plural if found else "events", found.group if found else "")
        }
    what = args[0]
    resource = RESOURCES[what.kind if isinstance(what, TargetRef) else what]
    return {Permission(call, resource.plural, resource.group, named.get("subresource", ""))}
