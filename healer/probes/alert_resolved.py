"""alert_resolved: the alert itself has gone, by what we were told and by asking again."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from healer.actions.contract import Params
from healer.domain.alert import Alert
from healer.domain.outcome import Finding, Recovery
from healer.domain.target import Kind
from healer.errors import HealerError
from healer.ports import Permission
from healer.probes.contract import ProbeContext


class AlertResolvedParams(Params):
    """None: it is the alert of the episode."""


class AlertResolved:
    """Recovered when the journal has it resolved and a fresh look does not find it firing.

    Prometheus is asked first, Alertmanager when that fails. Neither answering is unknown, and so
    is silence alone: an alert that was never told to have ended may only have lost its data.
    """

    name: ClassVar[str] = "alert_resolved"
    summary: ClassVar[str] = "The alert has resolved, and a fresh look does not find it firing."
    params: ClassVar[type[Params]] = AlertResolvedParams

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Nothing of the API server."""
        return ()

    async def look(self, ctx: ProbeContext, params: Any) -> Finding:
        """One look."""
        if not ctx.labels.get("alertname"):
            return self._found(Recovery.UNKNOWN, "the episode has no alertname to ask for")
        answer, problem = await _ask(ctx)
        if answer is None:
            return self._found(Recovery.UNKNOWN, problem)
        source, firing = answer
        if firing:
            return self._found(Recovery.NOT_RECOVERED, f"{source} still has it firing")
        if ctx.episode_firing:
            text = f"{source} does not have it firing, but nobody has said that it is resolved"
            return self._found(Recovery.NOT_RECOVERED, text)
        return self._found(Recovery.RECOVERED, f"resolved, and {source} does not have it firing")

    def _found(self, recovery: Recovery, detail: str) -> Finding:
        return Finding(self.name, recovery, detail)


async def _ask(ctx: ProbeContext) -> tuple[tuple[str, bool] | None, str]:
    problems = []
    if ctx.metrics is not None:
        try:
            return ("Prometheus", _is_among(ctx, await ctx.metrics.firing())), ""
        except HealerError as error:
            problems.append(f"Prometheus: {error}")
    if ctx.alerts is not None:
        try:
            return ("Alertmanager", _is_among(ctx, await ctx.alerts.firing())), ""
        except HealerError as error:
            problems.append(f"Alertmanager: {error}")
    return None, "; ".join(problems) or "neither Prometheus nor Alertmanager is configured"


def _is_among(ctx: ProbeContext, alerts: Sequence[Alert]) -> bool:
    """By fingerprint, or by labels that do not disagree: relabelling may have added some."""
    return any(
        alert.fingerprint == ctx.fingerprint or _may_be(alert.labels, ctx.labels)
        for alert in alerts
    )


def _may_be(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    if one.get("alertname") != other.get("alertname"):
        return False
    return all(one[name] == other[name] for name in one.keys() & other.keys())
