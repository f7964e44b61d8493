"""job_complete: a Job has ended well."""

from collections.abc import Mapping
from typing import Any, ClassVar

from healer.actions.contract import Params
from healer.actions.delete_job import ending_of
from healer.actions.leaves import Name
from healer.actions.rights import each
from healer.domain.manifests import condition
from healer.domain.outcome import Finding, Recovery
from healer.domain.target import Kind, TargetRef
from healer.errors import HealerError, NotFound
from healer.ports import Permission
from healer.probes.contract import ProbeContext


class JobCompleteParams(Params):
    """Which Job."""

    job: Name | None = None
    """A Job in the target's namespace; none means the one that the step's run_job made, else the
    target."""


class JobComplete:
    """Recovered when the Job is Complete; one that is gone is unknown, for nobody saw its end."""

    name: ClassVar[str] = "job_complete"
    summary: ClassVar[str] = "A Job, by default the one that the step made, has completed."
    params: ClassVar[type[Params]] = JobCompleteParams

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Reads Jobs."""
        return each((Kind.JOB,), "get")

    async def look(self, ctx: ProbeContext, params: Any) -> Finding:
        """One look."""
        ref = _which(ctx, params.job)
        if ref is None:
            text = f"{ctx.target} is no Job and the step made none; say which with `job`"
            return self._found(Recovery.UNKNOWN, text)
        try:
            job = await ctx.cluster.get(ref)
        except NotFound:
            return self._found(Recovery.UNKNOWN, f"{ref} is gone, and nobody saw how it ended")
        except HealerError as error:
            return self._found(Recovery.UNKNOWN, str(error))
        ended = ending_of(job)
        if ended == "Complete":
            return self._found(Recovery.RECOVERED, f"{ref} has completed")
        if ended:
            failed = condition(job, "Failed")
            why = failed.get("message") or failed.get("reason") or "for no stated reason"
            return self._found(Recovery.NOT_RECOVERED, f"{ref} failed: {why}")
        return self._found(Recovery.NOT_RECOVERED, f"{ref} has not ended yet")

    def _found(self, recovery: Recovery, detail: str) -> Finding:
        return Finding(self.name, recovery, detail)


def _which(ctx: ProbeContext, name: str | None) -> TargetRef | None:
    if name is not None:
        return TargetRef(Kind.JOB, name, ctx.target.namespace)
    made = ctx.before.get("manifest")
    if isinstance(made, Mapping):
        head = made["metadata"]
        return TargetRef(Kind.JOB, head["name"], head["namespace"])
    return ctx.target if ctx.target.kind is Kind.JOB else None
