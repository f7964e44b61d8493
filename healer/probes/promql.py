"""promql: a query's value is within bounds, on every series it returns."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from healer.actions.contract import Params
from healer.domain.outcome import Finding, Recovery
from healer.domain.target import Kind
from healer.errors import Blind, HealerError
from healer.ports import Permission, Sample
from healer.probes.contract import ProbeContext

#: A sample older than this is stale; Prometheus' own lookback.
STALE_SECONDS = 300.0
Number = Annotated[float, Field(allow_inf_nan=False)]


class Bounds(Params):
    """What a value must be; all that are given must hold."""

    below: Number | None = None
    at_most: Number | None = None
    above: Number | None = None
    at_least: Number | None = None
    equal: Number | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("give `below`, `at_most`, `above`, `at_least` or `equal`")
        return self

    def hold(self, value: float) -> bool:
        """Whether the value is within all of them."""
        return (
            (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.equal is None or value == self.equal)
        )

    def __str__(self) -> str:
        given = self.model_dump(exclude_none=True)
        return " and ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in given.items())


class PromqlParams(Params):
    """The query and its bounds."""

    expr: Annotated[str, StringConstraints(min_length=1, max_length=8192)]
    bounds: Bounds = Field(alias="is")
    where: Annotated[dict[str, str], Field(max_length=16, default_factory=dict)]
    """Only series with these labels count, e.g. `{namespace: '${labels.namespace}'}`: a label may
    fill a value here, which it may never do inside the query."""
    empty: Literal["unknown", "recovered"] = "unknown"
    """What an answer without any series means. Only say `recovered` of a query that returns what
    is bad."""

    model_config = ConfigDict(serialize_by_alias=True)


class Promql:
    """Recovered when every series is within bounds; nothing, NaN and stale data are unknown."""

    name: ClassVar[str] = "promql"
    summary: ClassVar[str] = "The value of a PromQL query is within bounds."
    params: ClassVar[type[Params]] = PromqlParams

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Nothing of the API server."""
        return ()

    async def look(self, ctx: ProbeContext, params: Any) -> Finding:
        """One look."""
        if ctx.metrics is None:
            return self._found(Recovery.UNKNOWN, "Prometheus is not configured")
        try:
            samples = await ctx.metrics.query(params.expr)
        except Blind as error:
            return self._found(Recovery.UNKNOWN, f"blind: {error}")
        except HealerError as error:
            return self._found(Recovery.UNKNOWN, str(error))
        samples = [one for one in samples if params.where.items() <= one.labels.items()]
        if not samples:
            if params.empty == "recovered":
                return self._found(Recovery.RECOVERED, "no series, which means recovered here")
            return self._found(Recovery.UNKNOWN, "no series, and empty never means good")
        old = max(ctx.now - sample.at for sample in samples)
        if old > STALE_SECONDS:
            return self._found(Recovery.UNKNOWN, f"the newest value is {old:.0f} s old")
        outside = [sample for sample in samples if not params.bounds.hold(sample.value)]
        if outside:
            text = f"{_shown(outside[0])} is not {params.bounds}"
            more = f" ({len(outside)} of {len(samples)} series)" if len(samples) > 1 else ""
            return self._found(Recovery.NOT_RECOVERED, text + more)
        return self._found(Recovery.RECOVERED, f"{_shown(samples[0])} is {params.bounds}")

    def _found(self, recovery: Recovery, detail: str) -> Finding:
        return Finding(self.name, recovery, detail)


def _shown(sample: Sample) -> str:
    labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
    return f"{{{labels}}} {sample.value:g}" if labels else f"{sample.value:g}"
