"""What scaling tells besides the metrics API: JSON for people and for KEDA, gauges for Prometheus.

KEDA's `metrics-api` scaler reads one number from JSON. What has no value is a 404 with the reason,
and never a zero: KEDA then does what its `fallback` says.
"""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from healer.errors import NotFound
from healer.web.encode import answer, refuse
from healer.web.metrics import Instruments
from scalers.ports import Refused
from scalers.service import Scaling, Told

#: Horizons shown besides a policy's own: label and seconds.
HORIZONS = (("1h", 3600.0), ("24h", 86400.0))
#: The middle of a forecast, shown beside the quantile that is served.
MIDDLE = 0.5


class ScalingRoutes:
    """Routes of the JSON API; the API's own gate stands before them."""

    def __init__(self, scaling: Scaling) -> None:
        self._scaling = scaling

    def add_to(self, application: web.Application) -> None:
        """Add them."""
        route = application.router
        route.add_get("/v1/scaling", self.all)
        route.add_get("/v1/scaling/{policy}", self.one)
        route.add_get("/v1/scaling/{namespace}/{metric}", self.value)

    async def all(self, request: web.Request) -> web.Response:
        """Every policy: what is served, why, and what would be with prediction active."""
        told = sorted(self._scaling.told.values(), key=lambda one: one.policy.name)
        return answer({"policies": [shown(one) for one in told]})

    async def one(self, request: web.Request) -> web.Response:
        """The same of one policy, with every step of the decision and the forecast's quantiles."""
        name = request.match_info["policy"]
        told = self._scaling.told.get(name)
        if told is None:
            raise NotFound(f"there is no scaling policy {name}, or it was not looked at yet")
        forecast: dict[str, Any] | None = None
        if told.forecast is not None:
            forecast = {
                "at": told.forecast.at, "step": told.forecast.step,
                "members": dict(told.forecast.members), "skill": told.forecast.skill,
                "rung": str(told.forecast.rung), "yardstick": told.forecast.yardstick,
                "quantiles": {f"{q:g}": path for q, path in told.forecast.quantiles.items()},
            }  # fmt: skip
        trace = [{"rule": str(step.rule), "because": step.because} for step in told.decision.trace]
        return answer({**shown(told), "trace": trace, "forecast": forecast})

    async def value(self, request: web.Request) -> web.Response:
        """`{"value": …}` of a metric, for KEDA's metrics-api scaler (`valueLocation: value`)."""
        namespace, metric = request.match_info["namespace"], request.match_info["metric"]
        found = self._scaling.external(namespace, metric)
        if not found:
            raise NotFound(f"no scaling policy publishes {metric} in {namespace}")
        value = found[0].value
        if isinstance(value, Refused):
            return refuse(404, f"{value.reason}: {value.message}")
        return answer({"value": value, "at": found[0].at})


def shown(told: Told) -> Mapping[str, Any]:
    """One policy's round for people."""
    value = told.decision.value
    refused = isinstance(value, Refused)
    measured = told.measured.value
    return {
        "policy": told.policy.name,
        "workload": str(told.policy.workload),
        "metric": told.policy.metric,
        "mode": str(told.policy.mode),
        "demand": None if isinstance(measured, Refused) else measured,
        "served": None if refused else value,
        "refused": f"{value.reason}: {value.message}" if isinstance(value, Refused) else "",
        "at": told.decision.at,
        "would_serve": told.decision.would,
        "replicas": told.standing.replicas,
        "replicas_wanted": told.decision.replicas,
        "lead_seconds": told.lead_seconds,
        "forecast_at": None if told.forecast is None else told.forecast.at,
        "no_forecast": told.why_no_forecast,
        "not_masked": told.not_taught,
        "why": told.decision.why(),
    }


def show(instruments: Instruments, told: Mapping[str, Told]) -> None:
    """Set the gauges to exactly these policies."""
    gauges = (
        instruments.scaling_demand, instruments.scaling_served, instruments.scaling_forecast,
        instruments.scaling_skill, instruments.scaling_refused,
    )  # fmt: skip
    for gauge in gauges:
        gauge.clear()
    for name, one in told.items():
        if not isinstance(one.measured.value, Refused):
            instruments.scaling_demand.labels(name).set(one.measured.value)
        if isinstance(one.decision.value, Refused):
            instruments.scaling_refused.labels(name, str(one.decision.value.reason)).set(1)
        else:
            instruments.scaling_served.labels(name).set(one.decision.value)
        if one.forecast is None or one.policy.prediction is None or one.why_no_forecast:
            continue
        instruments.scaling_skill.labels(name).set(one.forecast.skill)
        for quantile in {MIDDLE, one.policy.prediction.quantile}:
            for label, seconds in (("lead", one.lead_seconds), *HORIZONS):
                highest = one.forecast.highest(quantile, seconds)
                instruments.scaling_forecast.labels(name, label, f"{quantile:g}").set(highest)
