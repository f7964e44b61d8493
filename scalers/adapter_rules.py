"""Rules of prometheus-adapter as demand queries of one workload.

What the adapter answers for each pod or object is asked here as one total, with the labels that it
would fill in. Rules that cannot be written down for one workload are told with the reason.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scalers.policy import Workload

#: Pods of a workload, by the names that its controller gives them.
_POD_NAMES = {
    "Deployment": "{name}-[a-z0-9]+-[a-z0-9]{{5}}",
    "StatefulSet": "{name}-[0-9]+",
}
_ANY_POD = "{name}-.+"
_SERIES = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{.*\}\s*)?", re.DOTALL)
_HOLE = re.compile(r"<<\s*(.*?)\s*>>")
_GROUP = re.compile(r"\$\{?(\d+)\}?")
#: Labels by resource where a rule says nothing.
_TEMPLATE = re.compile(r"<<\s*\.Resource\s*>>")


@dataclass(frozen=True, slots=True)
class Demand:
    """One rule as a query of the workload's total; `place` is where it stands in the file."""

    place: str
    metric: str
    query: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """One rule that was not taken over, and what to do."""

    place: str
    because: str


def demands(config: Any, workload: Workload) -> list[Demand | Skipped]:
    """Every rule of a configuration, in its order. Raises ValueError when it is none."""
    if not isinstance(config, Mapping) or not {"rules", "externalRules"} & config.keys():
        raise ValueError(
            "no rules and no externalRules; give the value of config.yaml in the adapter's "
            "ConfigMap, without the ConfigMap around it"
        )
    out: list[Demand | Skipped] = []
    for section in ("rules", "externalRules"):
        rules = config.get(section) or []
        if not isinstance(rules, list):
            raise ValueError(f"{section}: must be a list of rules")
        for index, rule in enumerate(rules):
            place = f"{section}[{index}]"
            if not isinstance(rule, Mapping):
                raise ValueError(f"{place}: must be a rule with seriesQuery and metricsQuery")
            out.append(_demand(place, rule, workload))
    if config.get("resourceRules"):
        because = "CPU and memory are served by metrics-server, and are no demand"
        out.append(Skipped("resourceRules", because))
    return out


def _demand(place: str, rule: Mapping[str, Any], workload: Workload) -> Demand | Skipped:
    for field in ("seriesQuery", "metricsQuery"):
        if not isinstance(rule.get(field), str):
            return Skipped(place, f"{field} is missing or no text; write the query by hand")
    found = _SERIES.fullmatch(rule["seriesQuery"])
    if found is None:
        because = (
            f"seriesQuery {rule['seriesQuery']!r} names no single series; write one rule for each "
            "series that you scale by"
        )
        return Skipped(place, because)
    series = found[1]
    labels = dict(_labels(rule.get("resources") or {}))
    namespace, pod = labels.get("namespace"), labels.get("pod")
    if namespace is None:
        because = "resources name no label for namespaces, so another team's load would be summed"
        return Skipped(place, because)
    matchers = [f'{namespace}="{workload.namespace}"']
    own = labels.get(workload.kind.lower())
    if own is not None:
        matchers.append(f'{own}="{workload.name}"')
    elif pod is not None:
        pattern = _POD_NAMES.get(workload.kind, _ANY_POD).format(name=re.escape(workload.name))
        # A backslash is written twice in a PromQL string.
        matchers.append(f'{pod}=~"{pattern}"'.replace("\\", "\\\\"))
    holes = {
        ".Series": series, ".LabelMatchers": ",".join(matchers), ".GroupBy": namespace,
    }  # fmt: skip
    unknown = [hole for hole in _HOLE.findall(rule["metricsQuery"]) if hole not in holes]
    if unknown:
        return Skipped(place, f"metricsQuery uses <<{unknown[0]}>>; write the query by hand")
    query = _HOLE.sub(lambda hole: holes[hole[1]], rule["metricsQuery"])
    try:
        return Demand(place, _name(series, rule.get("name") or {}), query)
    except (re.error, IndexError) as error:
        return Skipped(place, f"name.matches cannot be read ({error}); name the metric by hand")


def _labels(resources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(resource, label) of a rule, singular."""
    template = resources.get("template")
    if isinstance(template, str):
        for resource in ("namespace", "pod", "deployment", "statefulset", "service"):
            yield resource, _HOLE.sub("", _TEMPLATE.sub(resource, template))
    for label, one in (resources.get("overrides") or {}).items():
        resource = str(one.get("resource", "")).lower()
        yield resource.removesuffix("s"), str(label)


def _name(series: str, name: Mapping[str, Any]) -> str:
    """The name that the adapter gives the metric: `name.as`, or the first group, or all."""
    matches = name.get("matches")
    if not matches:
        return str(name.get("as") or series)
    pattern: re.Pattern[str] = re.compile(matches)
    wanted = str(name.get("as") or ("$1" if pattern.groups else "$0"))
    found = pattern.search(series)
    if found is None:
        return series
    return pattern.sub(
        lambda hit: _GROUP.sub(lambda group: hit[int(group[1])] or "", wanted), series, count=1
    )
