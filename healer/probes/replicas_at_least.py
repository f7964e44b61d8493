"""replicas_at_least: so many pods of the workload are ready."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from healer.actions.contract import Params
from healer.actions.leaves import Whole
from healer.actions.rights import each
from healer.domain.outcome import Finding, Recovery
from healer.domain.target import Kind
from healer.errors import HealerError, NotFound
from healer.ports import Permission
from healer.probes.contract import ProbeContext
from healer.probes.workload_ready import OBSERVABLE


class ReplicasAtLeastParams(Params):
    """How many."""

    count: Annotated[Whole, Field(ge=1, le=10_000)]


class ReplicasAtLeast:
    """Recovered when at least so many pods are ready, of whatever template."""

    name: ClassVar[str] = "replicas_at_least"
    summary: ClassVar[str] = "At least so many pods of the target's workload are ready."
    params: ClassVar[type[Params]] = ReplicasAtLeastParams

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Reads workloads and pods."""
        return (*each(sorted(OBSERVABLE), "get"), *each((Kind.POD,), "list"))

    async def look(self, ctx: ProbeContext, params: Any) -> Finding:
        """One look."""
        if ctx.lock.kind not in OBSERVABLE:
            return self._found(Recovery.UNKNOWN, f"{ctx.lock} is no workload")
        try:
            seen = await ctx.cluster.observe(ctx.lock)
        except NotFound:
            return self._found(Recovery.NOT_RECOVERED, f"{ctx.lock} is gone")
        except HealerError as error:
            return self._found(Recovery.UNKNOWN, str(error))
        if seen.observed_generation < seen.generation:
            text = f"{ctx.lock}: generation {seen.generation} has not been looked at yet"
            return self._found(Recovery.UNKNOWN, text)
        text = f"{ctx.lock}: {seen.ready} pods are ready, {params.count} are wanted"
        enough = seen.ready >= params.count
        return self._found(Recovery.RECOVERED if enough else Recovery.NOT_RECOVERED, text)

    def _found(self, recovery: Recovery, detail: str) -> Finding:
        return Finding(self.name, recovery, detail)
