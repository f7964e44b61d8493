"""node_ready: the kubelet says that the node is well."""

from typing import Any, ClassVar

from healer.actions.contract import Params
from healer.actions.leaves import Name
from healer.actions.rights import each
from healer.domain.manifests import condition
from healer.domain.outcome import Finding, Recovery
from healer.domain.target import Kind, TargetRef
from healer.errors import HealerError, NotFound
from healer.ports import Permission
from healer.probes.contract import ProbeContext

PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


class NodeReadyParams(Params):
    """Which node, and what it may suffer from."""

    node: Name | None = None
    """None means the target."""
    without: tuple[str, ...] = PRESSURES
    """Conditions that must not be True."""


class NodeReady:
    """Recovered when Ready is True and no pressure is; a cordon does not matter."""

    name: ClassVar[str] = "node_ready"
    summary: ClassVar[str] = "A node is Ready and under no pressure."
    params: ClassVar[type[Params]] = NodeReadyParams

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Reads nodes."""
        return each((Kind.NODE,), "get")

    async def look(self, ctx: ProbeContext, params: Any) -> Finding:
        """One look."""
        if params.node is None and ctx.target.kind is not Kind.NODE:
            return self._found(Recovery.UNKNOWN, f"{ctx.target} is no node; say which with `node`")
        name = params.node or ctx.target.name
        try:
            node = await ctx.cluster.get(TargetRef(Kind.NODE, name))
        except NotFound:
            return self._found(Recovery.NOT_RECOVERED, f"node {name} is gone")
        except HealerError as error:
            return self._found(Recovery.UNKNOWN, str(error))
        ready = condition(node, "Ready")
        if not ready:
            return self._found(Recovery.UNKNOWN, f"node {name} has said nothing yet")
        if ready.get("status") != "True":
            text = f"node {name}: Ready is {ready.get('status')} ({ready.get('reason', '')})"
            return self._found(Recovery.NOT_RECOVERED, text)
        bad = [one for one in params.without if condition(node, one).get("status") == "True"]
        if bad:
            return self._found(Recovery.NOT_RECOVERED, f"node {name} has {', '.join(bad)}")
        return self._found(Recovery.RECOVERED, f"node {name} is ready")

    def _found(self, recovery: Recovery, detail: str) -> Finding:
        return Finding(self.name, recovery, detail)
