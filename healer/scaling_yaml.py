"""`ScalingPolicy` files to values: every fault of a set at once, with file, line and column."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from healer.errors import PlaybookError
from healer.playbook_yaml.explain import explain
from healer.playbook_yaml.faults import PlaybookSetError
from healer.playbook_yaml.loader import playbook_files
from healer.playbook_yaml.model import Name, Text
from healer.playbook_yaml.scalars import Duration, DurationOrAuto, PromQL, Ratio
from healer.playbook_yaml.yaml_text import Document, decode, read
from scalers import policy as values

#: What every forecast carries: `scalers.forecast.service.QUANTILES`, which would import numpy.
QUANTILES = (0.5, 0.8, 0.9, 0.95)


def _carried(value: float) -> float:
    if value not in QUANTILES:
        known = ", ".join(f"{one:g}" for one in QUANTILES)
        raise ValueError(f"{value:g} is not one of the quantiles that forecasts carry: {known}")
    return value


Quantile = Annotated[
    StrictFloat, AfterValidator(_carried), WithJsonSchema({"enum": list(QUANTILES)})
]
MetricName = Annotated[str, Field(pattern=r"^[a-z0-9_]([-a-z0-9_.]{0,251}[a-z0-9_])?$")]
Positive = Annotated[StrictFloat | StrictInt, Field(gt=0)]


class _Shape(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=False
    )


class MetadataShape(_Shape):
    """Identity of a policy."""

    name: Name


class WorkloadShape(_Shape):
    """What is scaled: anything with a scale subresource."""

    kind: Text = Field(description="Deployment, StatefulSet, or a kind of your own.")
    namespace: Name
    name: Text
    api_version: Text = "apps/v1"


class DemandShape(_Shape):
    """The total demand of the workload, never an average per pod."""

    query: PromQL = Field(description="One series: for example sum(rate(requests_total[2m])).")
    max_age: Duration = Field(120.0, description="An older value is no value.")
    hold: Duration = Field(
        900.0, description="How long the last good value stands in for a missing one."
    )


class ReplicasShape(_Shape):
    """Bounds of the HPA."""

    min: Annotated[StrictInt, Field(ge=1)]
    max: Annotated[StrictInt, Field(ge=1, le=10_000)]


class PredictionShape(_Shape):
    """How far ahead, and how sure to be of having enough."""

    quantile: Quantile = Field(
        default=0.9, description="Share of moments that the forecast must cover."
    )
    horizon: DurationOrAuto = Field(
        default=None, description="auto: the learned time to ready and 30 s."
    )


class CapsShape(_Shape):
    """What a forecast may never ask for. They never hold back the demand of now."""

    over_recent_max: Annotated[float, Field(ge=1, le=10)] = values.OVER_RECENT_MAX
    step_ratio: Annotated[float, Field(ge=1, le=10)] = 2.0
    step_replicas: Annotated[StrictInt, Field(ge=1)] = 4
    quota: Annotated[StrictInt, Field(ge=1)] | None = None
    cost_per_hour: Positive | None = None
    replica_cost_per_hour: Positive | None = None


class SpecShape(_Shape):
    """What the owner of a workload asks for."""

    workload: WorkloadShape
    demand: DemandShape
    capacity: Positive | Literal["learned"] = Field(
        description="Demand that one replica carries, in the unit of the query; or learned."
    )
    utilisation: Ratio = Field(values.UTILISATION, description="Share of it that is planned with.")
    replicas: ReplicasShape
    metric: MetricName | None = Field(None, description="Default: the policy's name and _demand.")
    mode: values.Mode = Field(
        values.Mode.SHADOW, description="shadow: what is predicted is shown and not served."
    )
    prediction: PredictionShape | Literal["off"] = PredictionShape()
    caps: CapsShape = CapsShape()


class PolicyShape(_Shape):
    """How one workload is scaled by its demand, seen ahead."""

    api_version: Literal["healer.dev/v1alpha1"]
    kind: Literal["ScalingPolicy"]
    metadata: MetadataShape
    spec: SpecShape


def schema_text() -> str:
    """The JSON Schema of a policy file, for editors."""
    schema = PolicyShape.model_json_schema(by_alias=True)
    return json.dumps({**schema, "title": "healer scaling policy"}, indent=1, sort_keys=True) + "\n"


def load_policies(paths: Iterable[Path]) -> tuple[values.ScalingPolicy, ...]:
    """All policies of files and folders, in order of name.

    Raises PlaybookSetError with every fault of every file, ConfigError for a path that is not
    there.
    """
    contents: list[tuple[str, bytes]] = []
    faults: list[PlaybookError] = []
    for file in playbook_files(paths):
        try:
            contents.append((str(file), file.read_bytes()))
        except OSError as error:
            faults.append(PlaybookError(file, 1, 1, f"cannot be read: {error.strerror}"))
    return parse_policies(contents, faults)


def parse_policies(
    contents: Iterable[tuple[str, bytes]], faults: Iterable[PlaybookError] = ()
) -> tuple[values.ScalingPolicy, ...]:
    """The same of (path, bytes)."""
    found = list(faults)
    read_ones: list[tuple[Document, values.ScalingPolicy]] = []
    for path, data in contents:
        try:
            document = read(decode(data, path), path)
        except PlaybookError as error:
            found.append(error)
            continue
        shape: PolicyShape | None = None
        own = list(document.faults)
        try:
            shape = PolicyShape.model_validate(document.value)
        except ValidationError as error:
            own += explain(document, error, PolicyShape)
        if shape is not None:
            own += _between_fields(document, shape)
        if own or shape is None:
            found += own or [document.fault((), "the policy cannot be read")]
        else:
            read_ones.append((document, _policy(shape)))
    found += _between_files(read_ones)
    if found:
        raise PlaybookSetError(found)
    return tuple(sorted((one for _, one in read_ones), key=lambda one: one.name))


def _between_fields(document: Document, shape: PolicyShape) -> Iterator[PlaybookError]:
    spec, at = shape.spec, ("spec",)
    if spec.replicas.min > spec.replicas.max:
        told = f"min {spec.replicas.min} is above max {spec.replicas.max}; lower one, or raise it"
        yield document.fault((*at, "replicas", "min"), told)
    if spec.utilisation <= 0:
        told = "utilisation 0 would need replicas without end; 70% is usual"
        yield document.fault((*at, "utilisation"), told)
    caps = spec.caps
    if (caps.cost_per_hour is None) != (caps.replica_cost_per_hour is None):
        told = "costPerHour and replicaCostPerHour go together; add the other one"
        yield document.fault((*at, "caps"), told, key=True)
    if caps.quota is not None and caps.quota < spec.replicas.min:
        told = f"quota {caps.quota} is below replicas.min {spec.replicas.min}; raise it"
        yield document.fault((*at, "caps", "quota"), told)


def _between_files(
    read_ones: Sequence[tuple[Document, values.ScalingPolicy]],
) -> Iterator[PlaybookError]:
    names: dict[str, str] = {}
    workloads: dict[values.Workload, str] = {}
    metrics: dict[tuple[str, str], str] = {}
    for document, one in read_ones:
        place = f"{document.path}:{document.mark(('metadata', 'name'))[0]}"
        if (other := names.setdefault(one.name, place)) != place:
            told = f"the name {one.name!r} is taken by {other}; choose another"
            yield document.fault(("metadata", "name"), told)
        if (other := workloads.setdefault(one.workload, place)) != place:
            told = f"{one.workload} is scaled by {other} too; two scalers fight, keep one"
            yield document.fault(("spec", "workload"), told)
        key = (one.workload.namespace, one.metric)
        if (other := metrics.setdefault(key, place)) != place:
            told = f"the metric {one.metric!r} is published by {other} too; name another"
            yield document.fault(("spec", "metric"), told)


def _policy(shape: PolicyShape) -> values.ScalingPolicy:
    spec = shape.spec
    prediction = None
    if spec.prediction != "off":
        prediction = values.Prediction(spec.prediction.quantile, spec.prediction.horizon)
    return values.ScalingPolicy(
        name=shape.metadata.name,
        workload=values.Workload(**_given(spec.workload)),
        query=spec.demand.query,
        capacity=None if spec.capacity == "learned" else float(spec.capacity),
        min_replicas=spec.replicas.min,
        max_replicas=spec.replicas.max,
        metric=spec.metric or f"{shape.metadata.name}_demand",
        mode=spec.mode,
        utilisation=spec.utilisation,
        prediction=prediction,
        caps=values.Caps(
            over_recent_max=spec.caps.over_recent_max,
            step_ratio=spec.caps.step_ratio,
            step_replicas=spec.caps.step_replicas,
            quota_replicas=spec.caps.quota,
            cost_per_hour=spec.caps.cost_per_hour,
            replica_cost_per_hour=spec.caps.replica_cost_per_hour,
        ),
        max_age_seconds=spec.demand.max_age,
        hold_seconds=spec.demand.hold,
    )


def _given(shape: WorkloadShape) -> Mapping[str, str]:
    return {
        "namespace": shape.namespace, "kind": shape.kind, "name": shape.name,
        "api_version": shape.api_version,
    }  # fmt: skip
