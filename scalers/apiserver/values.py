"""Values from the reader's memory, as the lists that the HPA's clients decode.

An external metric of which one series is refused is refused whole, because the HPA adds them up. Of
many objects those without a value are left out, because the HPA knows by itself which are missing.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from healer.kernel.quantities import format_milli
from scalers.apiserver import statuses
from scalers.apiserver.routes import CUSTOM, EVERY, EXTERNAL, CustomAsk, ExternalAsk
from scalers.apiserver.selectors import BadSelector, Selector, parse
from scalers.apiserver.statuses import Answer
from scalers.ports import Metric, MetricReader, Reason, Refused

#: Readers take a quantity as an integer of thousandths in 64 bits.
LARGEST = (2**63 - 1) / 1000
#: So many answers are kept; whoever asks more different questions makes them anew.
KEPT = 8192


class Values:
    """Answers to metric requests; the same bytes as long as the reader has the same to say."""

    def __init__(self, reader: MetricReader) -> None:
        self._reader = reader
        self._kept: dict[str, tuple[tuple[Metric, ...], Answer]] = {}

    def answer(self, target: str, ask: ExternalAsk | CustomAsk) -> Answer:
        """The list that `target` asks for, or a Status that says why there is none."""
        if isinstance(ask, ExternalAsk):
            found = tuple(self._reader.external(ask.namespace, ask.metric))
        else:
            found = tuple(self._reader.custom(ask.group, ask.resource, ask.namespace, ask.metric))
        kept = self._kept.get(target)
        if kept is not None and kept[0] == found:
            return kept[1]
        try:
            made = _external(ask, found) if isinstance(ask, ExternalAsk) else _custom(ask, found)
        except BadSelector as error:
            return statuses.bad_request(f"unable to parse requirement: {error}")
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[target] = (found, made)
        return made


def _external(ask: ExternalAsk, found: Sequence[Metric]) -> Answer:
    selector = parse(ask.labels)
    about = f"namespace {ask.namespace}"
    if not found:
        return statuses.no_such_metric(EXTERNAL, ask.metric, about)
    chosen = [one for one in found if selector.matches(one.labels)]
    for one in chosen:
        value = checked(one)
        if isinstance(value, Refused):
            return statuses.refused(EXTERNAL, ask.metric, about, value)
    items: list[dict[str, Any]] = []
    for one in chosen:
        item: dict[str, Any] = {
            "metricName": one.name, "metricLabels": dict(one.labels), "timestamp": stamp(one.at),
        }  # fmt: skip
        if one.window_seconds is not None:
            item["window"] = one.window_seconds
        items.append({**item, "value": checked(one)})
    return _list("ExternalMetricValueList", f"{EXTERNAL}/v1beta1", items)


def _custom(ask: CustomAsk, found: Sequence[Metric]) -> Answer:
    objects = parse(ask.labels) if ask.name == EVERY else Selector()
    series = parse(ask.metric_labels)
    about = _about(ask)
    chosen = [
        one for one in found
        if one.described is not None
        and ask.name in {EVERY, one.described.name}
        and objects.matches(one.described.labels)
        and series.matches(one.labels)
    ]  # fmt: skip
    if not found or (not chosen and ask.name != EVERY):
        return statuses.no_such_metric(CUSTOM, ask.metric, about)
    with_value = [(one, checked(one)) for one in chosen]
    good = [(one, value) for one, value in with_value if not isinstance(value, Refused)]
    why = next((value for _, value in with_value if isinstance(value, Refused)), None)
    if why is not None and (not good or ask.name != EVERY):
        return statuses.refused(CUSTOM, ask.metric, about, why)
    if ask.name != EVERY and len(good) != 1:
        several = Refused(
            Reason.DUPLICATE, f"{len(good)} series match; narrow them with metricLabelSelector"
        )
        return statuses.refused(CUSTOM, ask.metric, about, several)
    chosen_by = _selector_object(series)
    items = [_item(ask.version, one, value, chosen_by) for one, value in good]
    return _list("MetricValueList", f"{CUSTOM}/{ask.version}", items)


def _item(version: str, one: Metric, value: Any, selector: Any) -> dict[str, Any]:
    described = one.described
    assert described is not None
    reference = {"kind": described.kind, "namespace": described.namespace, "name": described.name}
    # An object of the core group is `/v1`, as custom-metrics-apiserver writes it.
    api = described.api_version
    reference["apiVersion"] = api if "/" in api else f"/{api}"
    if not described.namespace:
        del reference["namespace"]
    window = {} if one.window_seconds is None else {"window": one.window_seconds}
    item: dict[str, Any] = {"describedObject": reference}
    if version == "v1beta1":
        item |= {"metricName": one.name, "timestamp": stamp(one.at), **window, "value": value}
        return {**item, "selector": selector}
    item |= {"metric": {"name": one.name, "selector": selector}, "timestamp": stamp(one.at)}
    if window:
        item["windowSeconds"] = window["window"]
    return {**item, "value": value}


def checked(one: Metric) -> str | Refused:
    """The value as a quantity; what cannot be one is refused, whatever the reader says."""
    value = one.value
    if isinstance(value, Refused):
        return value
    if not math.isfinite(value):
        return Refused(Reason.NOT_FINITE, f"{one.name} is {value}")
    if abs(value) > LARGEST:
        return Refused(Reason.NOT_FINITE, f"{one.name} is {value:g}, too large for a quantity")
    return format_milli(float(value))


def stamp(at: float) -> str:
    """RFC 3339 in whole seconds, as metav1.Time is written; never later than it was."""
    return datetime.fromtimestamp(math.floor(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _selector_object(selector: Selector) -> dict[str, Any] | None:
    """The requirements as a metav1.LabelSelector; null for none, and for what it cannot say."""
    words = {"in": "In", "notin": "NotIn", "exists": "Exists", "!": "DoesNotExist"}
    if not selector.requirements:
        return None
    expressions = []
    for one in selector.requirements:
        if one.operator not in words:
            return None
        entry: dict[str, Any] = {"key": one.key, "operator": words[one.operator]}
        if one.values:
            entry["values"] = sorted(one.values)
        expressions.append(entry)
    return {"matchExpressions": expressions}


def _about(ask: CustomAsk) -> str:
    resource = f"{ask.resource}.{ask.group}" if ask.group else ask.resource
    place = f" in namespace {ask.namespace}" if ask.namespace else ""
    return f"{resource}{place}" if ask.name == EVERY else f"{resource} {ask.name}{place}"


def _list(kind: str, version: str, items: Sequence[Any]) -> Answer:
    content = {"kind": kind, "apiVersion": version, "metadata": {}, "items": items}
    return Answer(200, msgspec.json.encode(content))
