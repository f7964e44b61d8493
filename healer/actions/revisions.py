"""Which earlier revision of a workload was healthy: pure, over what the API server keeps of it.

The previous revision is often the wrong one: a hotfix that was broken too, or the one that was
just rolled away from. So a revision needs a reason, and the reasons are tried in this order:

1. it serves now: it still has ready pods (a rollout that is stuck keeps those of the last good
   revision; one that failed before it was replaced has none);
2. it was marked healthy: annotation `healer.dev/healthy`, or it is the StatefulSet's own
   `status.currentRevision`, the last one whose rollout completed;
3. somebody went back to it before: the Deployment controller keeps `revision-history`;
4. it was in charge for at least `soak` before it was replaced.

Among those with the strongest reason the newest wins. Never chosen: the present template, one that
differs from it only by a restart, one marked `healer.dev/healthy: "false"`, and one that healer
has rolled away from.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from healer.domain.manifests import controller_of, meta, seconds
from healer.domain.target import Kind
from healer.errors import Refused
from healer.kernel.durations import format_duration
from healer.kernel.ids import canonical_json, digest

Template = dict[str, Any]
Object = Mapping[str, Any]

HEALTHY = "healer.dev/healthy"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
_HASH_LABELS = ("pod-template-hash", "controller-revision-hash")
_RESTART_MARKS = ("kubectl.kubernetes.io/restartedAt", "healer.dev/run")


@dataclass(frozen=True, slots=True)
class Revision:
    """One template that the workload has had."""

    name: str  #: of the ReplicaSet or ControllerRevision
    number: int
    template: Template
    created_at: float
    ready: int = 0  #: ready pods of it right now
    marked: str = ""  #: value of `healer.dev/healthy`
    returned_to: bool = False  #: it was brought back at least once
    completed: bool = False  #: its rollout is known to have completed

    @property
    def identity(self) -> str:
        """The same for templates that run the same, restarts left out."""
        return template_identity(self.template)


@dataclass(frozen=True, slots=True)
class Choice:
    """The revision to go back to, and why."""

    revision: Revision
    why: str


def template_identity(template: Template) -> str:
    """16 hex digits; equal for two templates that differ only by restarts and hash labels."""
    copy = cleaned(template)
    marks = (copy.get("metadata") or {}).get("annotations") or {}
    for name in _RESTART_MARKS:
        marks.pop(name, None)
    metadata = {key: value for key, value in (copy.get("metadata") or {}).items() if value}
    return digest(canonical_json({**copy, "metadata": metadata}))[:16]


def cleaned(template: Template) -> Template:
    """The template as it stands in the workload: without what controllers add to it."""
    copy = deepcopy(template)
    copy.pop("$patch", None)
    metadata = copy.setdefault("metadata", {})
    metadata.pop("creationTimestamp", None)
    for label in _HASH_LABELS:
        (metadata.get("labels") or {}).pop(label, None)
    return copy


def revisions_of(
    kind: Kind, workload: Object, history: Sequence[Object], ready: Mapping[str, int]
) -> list[Revision]:
    """The workload's own revisions, oldest first; `ready` counts ready pods by revision hash."""
    uid = meta(workload).get("uid")
    own = [value for value in history if (controller_of(value) or {}).get("uid") == uid]
    read = _from_replica_set if kind is Kind.DEPLOYMENT else _from_controller_revision
    completed = (workload.get("status") or {}).get("currentRevision")
    found = [read(value, ready) for value in own]
    return sorted(
        (replace(one, completed=one.name == completed) for one in found),
        key=lambda one: one.number,
    )


def _from_replica_set(value: Object, ready: Mapping[str, int]) -> Revision:
    head = meta(value)
    marks = head.get("annotations") or {}
    status = value.get("status") or {}
    return Revision(
        name=head["name"],
        number=int(marks.get(REVISION, "0")),
        template=cleaned(value["spec"]["template"]),
        created_at=seconds(head.get("creationTimestamp")),
        ready=int(status.get("readyReplicas") or 0),
        marked=marks.get(HEALTHY, ""),
        returned_to=bool(marks.get(REVISION_HISTORY)),
    )


def _from_controller_revision(value: Object, ready: Mapping[str, int]) -> Revision:
    head = meta(value)
    label = (head.get("labels") or {}).get("controller-revision-hash", "")
    return Revision(
        name=head["name"],
        number=int(value["revision"]),
        template=cleaned(value["data"]["spec"]["template"]),
        created_at=seconds(head.get("creationTimestamp")),
        ready=ready.get(label, 0) or ready.get(head["name"], 0),
        marked=(head.get("annotations") or {}).get(HEALTHY, ""),
    )


def choose(
    revisions: Sequence[Revision], now: Template, rolled_away: frozenset[str], soak: float
) -> Choice:
    """The newest earlier revision with the strongest reason to believe that it was healthy.

    Raises Refused, naming why each was passed over, when there is no such revision.
    """
    present = template_identity(now)
    passed: list[str] = []
    reasons: list[tuple[int, int, Choice]] = []
    for place, revision in enumerate(revisions):
        name = f"revision {revision.number} ({revision.name})"
        if revision.identity == present:
            continue
        if revision.identity in rolled_away:
            passed.append(f"{name} was rolled away from before")
        elif revision.marked == "false":
            passed.append(f"{name} is marked {HEALTHY}=false")
        else:
            rank, why = _reason(revision, revisions[place + 1 :], soak)
            if rank:
                reasons.append((rank, revision.number, Choice(revision, f"{name} {why}")))
            else:
                passed.append(f"{name} {why}")
    if not reasons:
        known = "; ".join(passed) or "there is no other revision"
        raise Refused(f"no earlier revision is known to have been healthy: {known}")
    return max(reasons, key=lambda reason: reason[:2])[2]


def _reason(revision: Revision, later: Sequence[Revision], soak: float) -> tuple[int, str]:
    if revision.ready > 0:
        return 4, f"has {revision.ready} ready pods now"
    if revision.marked:
        return 3, f"is marked {HEALTHY}={revision.marked}"
    if revision.completed:
        return 3, "is the last whose rollout completed"
    if revision.returned_to:
        return 2, "was gone back to before"
    end = next((one.created_at for one in later if not one.returned_to), None)
    if end is None:
        return 0, "was in charge for nobody knows how long"
    charge = end - revision.created_at
    text = f"was in charge for {format_duration(round(max(charge, 0.0)))}"
    if charge >= soak:
        return 1, text
    return 0, f"{text}, which is less than {format_duration(soak)}"
