"""HPAs of kube-metrics-adapter as what a scaling policy needs; what cannot come along is told.

Its annotations are `metric-config.<type>.<metric>.<collector>/<key>`. Queries of its Prometheus
collector are totals, so they come along; every other collector reads what Prometheus may not have.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from healer.kernel.quantities import parse_quantity
from scalers.policy import Workload

PREFIX = "metric-config."
Place = tuple[str | int, ...]
_COLLECTOR = "prometheus"
#: The metric of which every query is a key of its own.
_SHARED = "prometheus-query"
_ANNOTATIONS: Place = ("metadata", "annotations")


@dataclass(frozen=True, slots=True)
class Told:
    """What was left out or changed, and where it stands in the HPA."""

    place: Place
    because: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """One metric of an HPA whose query can be followed."""

    place: Place
    metric: str
    query: str
    capacity: float | None  #: demand of one replica at the HPA's target; None: to be learned


@dataclass(frozen=True, slots=True)
class Imported:
    """One HPA."""

    name: str
    workload: Workload
    minimum: int
    maximum: int
    candidates: tuple[Candidate, ...]
    told: tuple[Told, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Key:
    annotation: str
    kind: str
    metric: str
    collector: str
    key: str

    @property
    def place(self) -> Place:
        return (*_ANNOTATIONS, self.annotation)


def objects(value: Any) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Every HPA of a document, with its place: the document itself, or the items of a List."""
    if not isinstance(value, Mapping):
        return
    if value.get("kind") == "HorizontalPodAutoscaler":
        yield (), value
    items = value.get("items")
    for index, item in enumerate(items if isinstance(items, list) else []):
        for place, found in objects(item):
            yield ("items", index, *place), found


def imported(hpa: Mapping[str, Any], namespace: str | None = None) -> Imported:
    """What a policy needs of one HPA. Raises ValueError when it names no workload or bounds."""
    metadata, spec = _mapping(hpa.get("metadata")), _mapping(hpa.get("spec"))
    target = _mapping(spec.get("scaleTargetRef"))
    name = str(metadata.get("name") or "")
    space = metadata.get("namespace") or namespace
    if not name or not target.get("kind") or not target.get("name"):
        raise ValueError("metadata.name or spec.scaleTargetRef is missing; give a whole HPA")
    if not space:
        raise ValueError(f"{name}: metadata.namespace is missing; name it with --namespace")
    maximum = spec.get("maxReplicas")
    minimum = spec.get("minReplicas", 1)
    if not isinstance(maximum, int) or not isinstance(minimum, int):
        raise ValueError(f"{name}: minReplicas and maxReplicas must be numbers")
    workload = Workload(
        str(space), str(target["kind"]), str(target["name"]),
        str(target.get("apiVersion") or "apps/v1"),
    )  # fmt: skip
    told: list[Told] = []
    bounded = minimum
    if minimum < 1:
        bounded = 1
        told.append(Told(("spec", "minReplicas"), "a policy keeps one replica at least; 1 is used"))
    keys = list(_keys(_mapping(metadata.get("annotations"))))
    used: set[str] = set()
    candidates = []
    metrics = spec.get("metrics")
    for index, metric in enumerate(metrics if isinstance(metrics, list) else []):
        place: Place = ("spec", "metrics", index)
        found = _candidate(
            place, _mapping(metric), keys, _mapping(metadata.get("annotations")), used
        )
        if isinstance(found, Told):
            told.append(found)
        else:
            candidates.append(found)
            told += _changes(place, found, _mapping(metric))
    told += [Told(key.place, _why_unused(key)) for key in keys if key.annotation not in used]
    if "behavior" in spec:
        because = "pace and windows are the HPA's; write them into the one that is printed"
        told.append(Told(("spec", "behavior"), because))
    return Imported(name, workload, bounded, maximum, tuple(candidates), tuple(told))


def without_scalar(query: str) -> str:
    """The query without a `scalar()` around all of it: a policy follows a series."""
    text = query.strip()
    if not text.startswith("scalar") or not text[6:].lstrip().startswith("("):
        return text
    inner = text[6:].lstrip()
    depth, quote, skip = 0, "", False
    for index, sign in enumerate(inner):
        if skip:
            skip = False
        elif quote:
            skip = sign == "\\" and quote != "`"
            quote = "" if sign == quote else quote
        elif sign in "\"'`":
            quote = sign
        elif sign in "()":
            depth += 1 if sign == "(" else -1
            if depth == 0:
                return inner[1:index].strip() if index == len(inner) - 1 else text
    return text


def _keys(annotations: Mapping[str, Any]) -> Iterator[_Key]:
    for annotation in annotations:
        head, _, key = str(annotation).partition("/")
        if not head.startswith(PREFIX):
            continue
        kind, _, rest = head.removeprefix(PREFIX).partition(".")
        metric, _, collector = rest.rpartition(".")
        yield _Key(str(annotation), kind, metric, collector, key)


def _candidate(
    place: Place, metric: Mapping[str, Any], keys: list[_Key], annotations: Mapping[str, Any],
    used: set[str],
) -> Candidate | Told:  # fmt: skip
    kind = str(metric.get("type") or "")
    if kind not in {"External", "Object"}:
        what = {
            "Resource": "CPU and memory are no demand; they show only that pods are busy",
            "ContainerResource": "CPU and memory are no demand; they show only that pods are busy",
            "Pods": "an average of each pod is no demand; write a query of the total",
        }
        return Told(place, what.get(kind, f"metrics of type {kind or 'none'} are not known"))
    body = _mapping(metric.get(kind.lower()))
    identity = _mapping(body.get("metric"))
    name = str(identity.get("name") or body.get("metricName") or "")
    labels = _mapping(
        _mapping(identity.get("selector") or body.get("metricSelector")).get("matchLabels")
    )
    wanted = str(labels.get("query-name") or "") if name == _SHARED else "query"
    for key in keys:
        if (key.kind, key.metric, key.collector, key.key) != (
            kind.lower(), name, _COLLECTOR, wanted,
        ):  # fmt: skip
            continue
        used.add(key.annotation)
        query = annotations[key.annotation]
        if not isinstance(query, str) or not query.strip():
            return Told(key.place, "the query is no text; write it by hand")
        replica = f"{PREFIX}object.{name}.{_COLLECTOR}/per-replica"
        per_replica = kind == "Object" and str(annotations.get(replica)).lower() == "true"
        if per_replica:
            used.add(replica)
        capacity = _capacity(body, per_replica=per_replica)
        if isinstance(capacity, str):
            return Told(place, capacity)
        return Candidate(
            place, wanted if name == _SHARED else name, without_scalar(query), capacity
        )
    because = f"{name or 'the metric'} has no query of the Prometheus collector"
    if kind == "Object" and name.split(",", maxsplit=1)[0] == "requests-per-second":
        because = "Skipper's requests-per-second is no query of yours; write the total by hand"
    return Told(place, because)


def _capacity(body: Mapping[str, Any], *, per_replica: bool) -> float | str | None:
    """What a replica has at the HPA's target; None when the target is none of a replica."""
    target = _mapping(body.get("target"))
    value = target.get("averageValue", body.get("targetAverageValue", body.get("averageValue")))
    if value is None and per_replica:
        value = target.get("value", body.get("targetValue"))
    if value is None:
        return None
    try:
        capacity = float(parse_quantity(str(value)))
    except ValueError as error:
        return f"its target cannot be read: {error}"
    return capacity if capacity > 0 else f"its target {value} is not above zero"


def _changes(place: Place, found: Candidate, metric: Mapping[str, Any]) -> Iterator[Told]:
    if found.capacity is None:
        because = (
            f"{found.metric}: a target of type Value says nothing of one replica; its capacity is "
            "learned unless you give --capacity"
        )
        yield Told(place, because)


def _why_unused(key: _Key) -> str:
    if key.collector == _COLLECTOR and key.key == "prometheus-server":
        return "healer asks the one Prometheus of its settings; see that it has these series"
    if key.collector == _COLLECTOR and key.key in {"interval", "min-pod-ready-age"}:
        return f"{key.key} is not needed: demand is asked for all policies together"
    if key.collector == _COLLECTOR:
        return "no metric of this HPA uses it"
    return (
        f"the collector {key.collector or key.metric} is not followed; write a query of the total"
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
