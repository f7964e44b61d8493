"""Every probe by its name. A new observation is one new file and one line here."""

from collections.abc import Mapping
from types import MappingProxyType

from healer.probes.alert_resolved import AlertResolved
from healer.probes.contract import Probe
from healer.probes.http_get import HttpGet
from healer.probes.job_complete import JobComplete
from healer.probes.node_ready import NodeReady
from healer.probes.object_field import ObjectField
from healer.probes.promql import Promql
from healer.probes.replicas_at_least import ReplicasAtLeast
from healer.probes.workload_ready import WorkloadReady

_ALL: tuple[Probe, ...] = (
    WorkloadReady(),
    ReplicasAtLeast(),
    AlertResolved(),
    Promql(),
    HttpGet(),
    NodeReady(),
    JobComplete(),
    ObjectField(),
)

#: Probe by name, in the order of docs/actions.md.
PROBES: Mapping[str, Probe] = MappingProxyType({probe.name: probe for probe in _ALL})
