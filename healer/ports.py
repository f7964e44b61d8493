"""The seams between the engine and the world: small protocols, in domain values and our own errors.

Every implementation has a fake in `healer.testing`, and one contract suite runs against both.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from healer.domain.alert import Alert, Rejected
from healer.domain.budget import Bucket, Spend
from healer.domain.episode import Episode, EpisodeState, Fold
from healer.domain.facts import Approval
from healer.domain.journal import Fact, Sealed
from healer.domain.pause import Pause
from healer.domain.run import Run, StepRecord
from healer.domain.storm import Flow
from healer.domain.target import DomainHealth, Kind, Observation, TargetRef

JsonObject = dict[str, Any]

# --------------------------------------------------------------------------------------- journal


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a durable acceptance did. When it is returned, all of it is on disk."""

    new: int
    duplicate: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on one episode until the lease ends; every write names owner and epoch."""

    episode: Episode
    run: Run | None  #: its unfinished run, with steps
    owner: str
    epoch: int
    lease_until: float


@dataclass(frozen=True, slots=True)
class Message:
    """Something a person or another system must be told, kept until it was delivered."""

    id: str  #: the same message has the same id: it is queued once
    channel: str  #: name of a configured notifier
    body: Mapping[str, Any]  #: see `healer.engine.escalation`
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One transition of a claimed episode: everything in it becomes durable together or not at all.

    `locks` are taken if free (else `LockTaken`), `spends` are paid (else `BudgetShort`): both are
    checked inside the transaction, so two workers can never both pass.
    """

    episode: Episode
    run: Run | None = None  #: inserted or replaced; its `steps` are not written from here
    step: StepRecord | None = None  #: the intent (outcome None) or outcome of one step
    facts: tuple[Fact, ...] = ()
    lock: TargetRef | None = None
    spends: tuple[Spend, ...] = ()
    unlock: bool = False  #: give back every lock the episode holds
    messages: tuple[Message, ...] = ()
    approval: Approval | None = None  #: forget nothing: an approval used is kept with its run
    ask: str = ""  #: plan digest that awaits a person's answer
    flow: tuple[str, Flow] | None = None  #: zone and its new ramp
    playbook_text: tuple[str, str] | None = None  #: sha256 and YAML, kept once
    release: bool = False  #: give the claim back, to be looked at again at `episode.next_at`
    lease_seconds: float = 0.0  #: the lease lasts at least this long from now; never cut short


class LockTaken(Exception):
    """Another episode holds the lock; nothing of the change was written."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"the target is locked by {holder}")
        self.holder = holder


class BudgetShort(Exception):
    """A bucket cannot pay; nothing of the change was written."""

    def __init__(self, key: str, until: float) -> None:
        super().__init__(f"budget {key} is exhausted")
        self.key = key
        self.until = until


@dataclass(frozen=True, slots=True)
class LedgerQuery:
    """Which persistent facts a guard needs, by name."""

    playbook: str
    target: str  #: `str(TargetRef)`
    lock: str
    zone: str
    bucket_keys: tuple[str, ...]
    episode_id: str
    recent_seconds: float = 0.0  #: how far back `recent_runs` counts


@dataclass(frozen=True, slots=True)
class Ledger:
    """The persistent facts a guard needs, read at one moment."""

    pauses: tuple[Pause, ...] = ()
    buckets: Mapping[str, Bucket] = field(default_factory=dict)
    locked_by: str | None = None
    last_run_ended_at: float | None = None  #: of the playbook on the target
    in_flight_owner: int = 0  #: runs past GUARD on the same lock, this episode's not counted
    in_flight_zone: int = 0
    flow: Flow = field(default_factory=Flow)
    queue_place: int = 0  #: held episodes of the same zone that go first
    recent_runs: int = 0  #: ended runs of the playbook on the lock that acted
    bad_outcomes: int = 0  #: escalated or unknown runs of the playbook since its last healed one
    last_bad_at: float | None = None
    breaker_reset_at: float | None = None
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class EpisodeFilter:
    """Which episodes to list; empty fields select all. Newest first."""

    states: tuple[EpisodeState, ...] = ()
    source_prefix: str = ""
    firing: bool | None = None
    playbook: str = ""
    text: str = ""  #: part of an id, alert name or target
    limit: int = 100


class Store(Protocol):
    """The journal and everything that must survive: one writer, every transition one transaction.

    All writes raise `StoreUnavailable` when they cannot be made durable, having written nothing.
    """

    async def accept(
        self, alerts: Sequence[Alert], rejected: Sequence[Rejected], at: float
    ) -> Receipt:
        """Make every alert durable; those known by `event_id` are no-ops. Then return."""
        ...

    async def fold(
        self, decide: Callable[[Episode | None, Alert, float], Fold], now: float, limit: int
    ) -> Sequence[tuple[Alert, Fold]]:
        """Apply the oldest `limit` accepted, unfolded alerts to their episodes, atomically.

        `decide` is pure and is called inside the transaction with the alert's latest episode and
        when the alert was accepted (a delivery that waited is not fresh). Each
        opened or resolved episode also leaves an ACCEPTED fact. Returns what was folded, in order.
        An episode's state, run and claim belong to its worker: `fold` never changes those.
        """
        ...

    async def claim(
        self, owner: str, now: float, lease_seconds: float, limit: int
    ) -> Sequence[Claim]:
        """Claim up to `limit` episodes that are due (`next_at <= now`) and not leased.

        An expired lease of anyone is taken over with a higher epoch. Order: severity, then age.
        """
        ...

    async def commit(self, claim: Claim, change: Change) -> Claim:
        """Write `change` if the claim still holds (owner and epoch), else raise `Fenced`.

        The returned claim carries what is stored now; it has no owner when it was released. What
        `fold` changed meanwhile (firing, ends_at, end_inferred, last_seen_at, annotations) is kept,
        and an episode that resolved meanwhile is due at once, whatever `change` says.

        Raises `LockTaken` or `BudgetShort` having written nothing.
        """
        ...

    async def renew(self, claims: Sequence[Claim], now: float, lease_seconds: float) -> set[str]:
        """Extend the leases, never shorten one; returns the episodes that are still ours."""
        ...

    async def ledger(self, query: LedgerQuery, now: float) -> Ledger:
        """The persistent facts for a guard, read at one moment."""
        ...

    async def answer(self, episode_id: str, approval: Approval, now: float) -> None:
        """Record a person's answer to a waiting plan and make the episode due. Raises NotFound or
        Conflict when nothing waits or the plan is another one."""
        ...

    async def acknowledge(self, episode_id: str, by: str, note: str, now: float) -> None:
        """Close an escalated or settled episode by hand. Raises NotFound or Conflict."""
        ...

    async def set_pause(self, pause: Pause) -> None:
        """Add (or replace, by id) a pause."""
        ...

    async def clear_pause(self, pause_id: str, by: str, now: float) -> bool:
        """Remove a pause; False when there was none."""
        ...

    async def reset_breaker(self, playbook: str, by: str, now: float) -> None:
        """A person vouches for the playbook again."""
        ...

    async def pauses(self) -> Sequence[Pause]:
        """All pauses in force."""
        ...

    async def episode(self, episode_id: str) -> Episode | None:
        """One episode; an unambiguous prefix of at least 6 characters is enough."""
        ...

    async def episodes(self, which: EpisodeFilter) -> Sequence[Episode]:
        """Episodes, newest first."""
        ...

    async def runs(self, episode_id: str = "", limit: int = 100) -> Sequence[Run]:
        """Runs with their steps, newest first; of one episode when named."""
        ...

    async def facts(self, episode_id: str = "", after: int = 0, limit: int = 1000) -> list[Sealed]:
        """Facts in order; of one episode when named."""
        ...

    async def messages_due(self, now: float, limit: int) -> Sequence[Message]:
        """Messages to be delivered now."""
        ...

    async def take_message(self, message_id: str, now: float, seconds: float) -> bool:
        """Hold a due message for `seconds`: True for one caller alone, who then delivers it.

        Whoever dies with it leaves it to the others when the time is over.
        """
        ...

    async def message_done(self, message_id: str, delivered: bool, retry_at: float) -> None:
        """Take a message off the queue, or have it tried again at `retry_at`."""
        ...

    async def next_due(self) -> float | None:
        """When the earliest unleased episode or message becomes due, Unix seconds."""
        ...

    async def counts(self) -> Mapping[str, int]:
        """Numbers for the metrics page: `inbox`, `outbox`, `rejected`, `episodes/<state>`.

        Also `inbox_since` (Unix seconds of the oldest in it, 0: empty), `outbox_failing` (tried and
        not delivered), and the newest fact's `fact_seq` and `fact_hash` (52 bits of its hash).
        """
        ...

    async def playbook_text(self, sha256: str) -> str | None:
        """The YAML a run began with."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the file."""
        ...


# --------------------------------------------------------------------------------------- cluster


class PatchType(StrEnum):
    """How a patch body is meant."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    JSON = "application/json-patch+json"


class WatchKind(StrEnum):
    """What a watch event says."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    SYNCED = "SYNCED"  #: a full list was just delivered as ADDED events; see WatchEvent
    BOOKMARK = "BOOKMARK"  #: alive, nothing changed


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch.

    The object of a SYNCED event is `{"keys": [[namespace, name], …]}`: all that exists; what is not
    among them is gone.
    """

    kind: WatchKind
    object: JsonObject


@dataclass(frozen=True, slots=True)
class Permission:
    """One right at the API server, as RBAC writes it."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        name = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {name}{'.' + self.group if self.group else ''}"


class Cluster(Protocol):
    """The Kubernetes API server. Every call has a timeout and raises only `healer.errors`.

    `dry_run` sends `dryRun=All`: the server checks everything and changes nothing.
    """

    async def observe(self, ref: TargetRef) -> Observation:
        """One fresh look at the object, its owner and the owner's pods. Raises NotFound."""
        ...

    async def get(self, ref: TargetRef) -> JsonObject:
        """The object as it is. Raises NotFound."""
        ...

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Sequence[JsonObject]:
        """Objects by label and field selector; an empty namespace is all namespaces."""
        ...

    async def patch(
        self,
        ref: TargetRef,
        body: JsonObject | Sequence[JsonObject],
        kind: PatchType,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> JsonObject:
        """Patch; a uid in `ref` is sent along, so another incarnation is refused (Conflict)."""
        ...

    async def delete(
        self, ref: TargetRef, *, grace_seconds: int | None = None, dry_run: bool = False
    ) -> None:
        """Delete exactly the incarnation `ref.uid`. Raises NotFound when it is already gone and
        Conflict when another one has its name."""
        ...

    async def evict(self, ref: TargetRef, *, dry_run: bool = False) -> None:
        """Evict a pod through the Eviction API. Raises Throttled when a PDB refuses it now."""
        ...

    async def create(self, manifest: JsonObject, *, dry_run: bool = False) -> JsonObject:
        """Create; raises Conflict when the name is taken."""
        ...

    async def missing_right(self, permission: Permission, namespace: str) -> str:
        """Empty when we may; else what is missing, in words. Cached for a minute."""
        ...

    async def zones(self) -> Mapping[str, DomainHealth]:
        """Pods and bad pods per zone, at most 5 seconds old. Raises when it cannot be counted."""
        ...

    def watch(self, kind: Kind, namespace: str = "") -> AsyncIterator[WatchEvent]:
        """List, then follow for ever: relists by itself after 410, disconnects and silence."""
        ...


# -------------------------------------------------------------------------------------- election


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a Lease of the cluster says. Any difference between two looks is a sign of life."""

    holder: str  #: identity of a process; empty: nobody
    seconds: float  #: how long others wait after the last change they saw
    acquired_at: float  #: by the holder's wall clock, like `renewed_at`: for people only
    renewed_at: float
    transitions: int = 0  #: how often it went from one to another
    version: str = ""  #: resourceVersion; empty: not stored yet


class Leases(Protocol):
    """One Lease object of the cluster, on a connection of its own. Raises only `healer.errors`."""

    async def get(self) -> LeaseRecord:
        """A fresh look. Raises NotFound."""
        ...

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        """Store it, and return it with its version; raises Conflict when there is one."""
        ...

    async def update(self, record: LeaseRecord) -> LeaseRecord:
        """Replace exactly the version that `record` names, which this client has seen.

        Raises Conflict or NotFound, and never makes it anew.
        """
        ...


# --------------------------------------------------------------------------------------- metrics


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value at one time. Never NaN or infinite: those are refused as Blind."""

    labels: Mapping[str, str]
    value: float
    at: float


@dataclass(frozen=True, slots=True)
class AlertingRule:
    """One alerting rule as Prometheus has loaded it."""

    name: str
    expr: str
    for_seconds: float
    keep_firing_for_seconds: float
    labels: Mapping[str, str]
    interval_seconds: float = 60.0  #: evaluation interval of its group


class Metrics(Protocol):
    """Prometheus. Raises Blind for NaN, infinity, staleness and partial answers; never guesses."""

    async def query(self, expr: str) -> Sequence[Sample]:
        """The vector now; a scalar is one sample without labels. Empty is an answer."""
        ...

    async def query_many(self, exprs: Sequence[str]) -> Mapping[str, Sequence[Sample] | Exception]:
        """Many vectors with as few requests as can be; one bad query fails alone."""
        ...

    async def rules(self) -> Sequence[AlertingRule]:
        """All alerting rules, at most a minute old."""
        ...

    async def firing(self) -> Sequence[Alert]:
        """Firing alerts as Prometheus sees them, external labels added."""
        ...

    async def ready(self) -> None:
        """Returns when it answers queries; raises TemporaryError otherwise."""
        ...


class Alerts(Protocol):
    """Alertmanager: the present level of alerts, silences, and our own alerts going back."""

    async def firing(self, receiver: str = "") -> Sequence[Alert]:
        """Active alerts (silenced and inhibited ones included), of one receiver when named."""
        ...

    async def silence(
        self, matchers: Mapping[str, str], seconds: float, comment: str, now: float
    ) -> str:
        """Create a silence unless one with this comment is in force; returns its id."""
        ...

    async def expire(self, silence_id: str) -> None:
        """End a silence; one that is gone is fine."""
        ...

    async def post(self, alerts: Sequence[Alert]) -> None:
        """Send our own alerts."""
        ...

    async def ready(self) -> None:
        """Returns when it answers; raises TemporaryError otherwise."""
        ...


# ---------------------------------------------------------------------------------------- others


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A bounded HTTP answer."""

    status: int
    body: bytes  #: at most 64 KiB
    seconds: float


class Http(Protocol):
    """Outgoing HTTP for playbooks: only to allowed hosts, address pinned, no redirects."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout: float = 10.0,  # noqa: ASYNC109 - handed to the client, which enforces it
    ) -> HttpAnswer:
        """One request. Raises Refused for a host that is not allowed."""
        ...


class Notifier(Protocol):
    """One way to reach a person. Raises TemporaryError to be tried again."""

    name: str

    async def send(self, message: Message) -> None:
        """Deliver; the message's id is its deduplication key."""
        ...
