"""workload_ready: the workload's pods are all there, all ready and stay up."""

from math import floor
from typing import Any, ClassVar

from healer.actions.contract import Params
from healer.actions.rights import each
from healer.domain.manifests import seconds
from healer.domain.outcome import Finding, Recovery
from healer.domain.target import WORKLOADS, Kind, Observation, PodState
from healer.errors import HealerError, NotFound
from healer.ports import Permission
from healer.probes.contract import ProbeContext

#: Kubernetes times are whole seconds, and a successor is made before the answer has come back.
SLACK_SECONDS = 2.0
OBSERVABLE = WORKLOADS | {Kind.REPLICA_SET}


class WorkloadReadyParams(Params):
    """None: it is the target's workload, or the target when it has none."""


class WorkloadReady:
    """Recovered when the newest template is rolled out and every pod is ready and has not
    restarted since the step.

    For a pod that was replaced, its successor being ready and staying up is enough: what else is
    wrong with the workload was wrong before.
    """

    name: ClassVar[str] = "workload_ready"
    summary: ClassVar[str] = "All pods of the target's workload are current, ready and stay up."
    params: ClassVar[type[Params]] = WorkloadReadyParams

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Reads pods and workloads."""
        return (*each(sorted(OBSERVABLE), "get"), *each((Kind.POD,), "get", "list"))

    async def look(self, ctx: ProbeContext, params: Any) -> Finding:
        """One look."""
        if ctx.lock.kind not in OBSERVABLE | {Kind.POD}:
            return self._found(Recovery.UNKNOWN, f"{ctx.lock} is no workload")
        try:
            seen = await ctx.cluster.observe(ctx.lock)
            if ctx.lock.kind is Kind.POD:
                return await self._pod(ctx, seen)
            problem = _workload_problem(seen) or await _pods_problem(ctx, _living(seen))
            if problem and ctx.target.kind is Kind.POD:
                return await self._successor(ctx, seen, problem)
        except NotFound:
            return self._found(Recovery.NOT_RECOVERED, f"{ctx.lock} is gone")
        except HealerError as error:
            return self._found(Recovery.UNKNOWN, str(error))
        if not seen.replicas:
            return self._found(Recovery.UNKNOWN, f"{ctx.lock} has no replicas that could be ready")
        if problem:
            return self._found(Recovery.NOT_RECOVERED, f"{ctx.lock}: {problem}")
        text = f"{ctx.lock}: {seen.ready} of {seen.replicas} pods are current and ready"
        return self._found(Recovery.RECOVERED, text)

    async def _pod(self, ctx: ProbeContext, seen: Observation) -> Finding:
        """A pod without an owner: that incarnation itself."""
        pod = next((pod for pod in _living(seen) if pod.ref.name == ctx.lock.name), None)
        if pod is None or pod.ref.uid != ctx.lock.uid:
            return self._found(Recovery.NOT_RECOVERED, f"{ctx.lock} is gone")
        problem = await _pods_problem(ctx, (pod,))
        if problem:
            return self._found(Recovery.NOT_RECOVERED, problem)
        return self._found(Recovery.RECOVERED, f"{ctx.lock} is ready")

    async def _successor(self, ctx: ProbeContext, seen: Observation, problem: str) -> Finding:
        """Whether the pod that took the target's place is well."""
        living = _living(seen)
        if any(pod.ref.uid == ctx.target.uid for pod in living):
            return self._found(Recovery.NOT_RECOVERED, f"{ctx.lock}: {problem}")
        named = [pod for pod in living if pod.ref.name == ctx.target.name]
        for pod in named or [pod for pod in living if _is_new(ctx, pod)]:
            if not await _pods_problem(ctx, (pod,)):
                text = f"{ctx.target} was replaced by {pod.ref.name}, which is ready"
                return self._found(Recovery.RECOVERED, text)
        return self._found(
            Recovery.NOT_RECOVERED, f"{ctx.target} has no ready successor: {problem}"
        )

    def _found(self, recovery: Recovery, detail: str) -> Finding:
        return Finding(self.name, recovery, detail)


def _is_new(ctx: ProbeContext, pod: PodState) -> bool:
    known = ctx.before.get("pods")
    if known:
        return pod.ref.uid not in known
    return pod.created_at >= floor(ctx.acted_at) - SLACK_SECONDS


def _living(seen: Observation) -> tuple[PodState, ...]:
    return tuple(pod for pod in seen.pods if not pod.terminating)


def _workload_problem(seen: Observation) -> str:
    wanted = seen.replicas or 0
    if seen.observed_generation < seen.generation:
        return f"generation {seen.generation} has not been looked at yet"
    if seen.paused:
        return "its rollout is paused"
    if seen.updated < wanted:
        return f"{seen.updated} of {wanted} pods are of the newest template"
    if seen.ready < wanted:
        return f"{seen.ready} of {wanted} pods are ready"
    living = len(_living(seen))
    # Pods of an older template count as ready too, until they are gone.
    if living != wanted:
        return f"{living} pods are there, {wanted} are wanted"
    return ""


async def _pods_problem(ctx: ProbeContext, pods: tuple[PodState, ...]) -> str:
    for pod in pods:
        if not pod.ready:
            return f"{pod.ref.name} is not ready ({pod.reason or pod.phase})"
        if pod.reason:
            return f"{pod.ref.name} is {pod.reason}"
        if pod.restarts and await _restarted_since(ctx, pod):
            return f"{pod.ref.name} has restarted since the step"
    return ""


async def _restarted_since(ctx: ProbeContext, pod: PodState) -> bool:
    since = floor(ctx.acted_at)
    if pod.created_at >= since:
        return True
    found = await ctx.cluster.get(pod.ref)
    status = found.get("status") or {}
    statuses = [*(status.get("containerStatuses") or ())]
    ends = [
        seconds(((entry.get("lastState") or {}).get("terminated") or {}).get("finishedAt"))
        for entry in statuses
    ]
    return any(end >= since for end in ends)
