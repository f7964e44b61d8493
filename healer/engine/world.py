"""Everything the engine works with, handed in once by the composition root."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from healer.actions.contract import Action
from healer.domain.episode import Episode
from healer.domain.journal import Fact, FactKind
from healer.domain.pause import Pause
from healer.domain.playbook import Mode, Playbook
from healer.domain.protection import Protection
from healer.domain.run import Run
from healer.engine.crowd import Crowd
from healer.engine.glance import Glances
from healer.kernel.clock import Clock
from healer.kernel.crashpoints import NO_CRASH, CrashPoints
from healer.ports import Alerts, Change, Claim, Cluster, Http, Metrics, Store
from healer.probes.contract import Probe

#: What tells of an effect: its epoch is kept.
_EFFECTS = frozenset({FactKind.INTENT, FactKind.OUTCOME})


class Listener(Protocol):
    """Told of every committed change: metrics, logs and Kubernetes Events are listeners."""

    def heard(self, episode: Episode, run: Run | None, facts: Sequence[Fact]) -> None:
        """These facts are on disk now. Must return at once and raise nothing."""
        ...


class LevelSource(Protocol):
    """Can say whether an alert fires right now."""

    async def is_firing(self, episode: Episode) -> bool | None:
        """True or false by a fresh look; None when it could not be asked."""
        ...


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Numbers and switches of the engine; each has the careful default."""

    lease_seconds: float = 30.0
    concurrency: int = 50  #: episodes worked on at the same time
    fresh_seconds: float = 5.0  #: a delivery this young is believed where there is nobody to ask
    hold_page_seconds: float = 60.0  #: a person is told of what is held back for this long
    verify_default_seconds: float = 300.0  #: when no rule tells how slowly an alert decays
    poll_seconds: float = 30.0
    absent_seconds: float = 90.0  #: not seen for this long by a working poll means resolved
    dry_run: bool = False
    ceiling: Mode = Mode.AUTO  #: no playbook may do more by itself than this
    protection: Protection = field(default_factory=Protection)
    channels: tuple[str, ...] = ()  #: configured notifiers


@dataclass(slots=True)
class World:
    """Ports, registries and options. Built once; only the composition root names concrete parts."""

    store: Store
    cluster: Cluster
    clock: Clock  #: of all that healer counts itself; led slowly when the machine's clock jumps
    actions: Mapping[str, Action]
    probes: Mapping[str, Probe]
    playbooks: Callable[[], Sequence[Playbook]]
    owner: str
    metrics: Metrics | None = None
    alerts: Alerts | None = None
    http: Http | None = None
    options: EngineOptions = field(default_factory=EngineOptions)
    listeners: list[Listener] = field(default_factory=list)
    levels: dict[str, LevelSource] = field(default_factory=dict)  #: by source, or `query/` …
    local_pauses: Callable[[], Sequence[Pause]] = tuple  #: kill switches that need no database
    crash: CrashPoints = NO_CRASH
    crowd: Crowd = field(default_factory=Crowd)  #: places taken before the journal counts them
    glances: Glances = field(default_factory=Glances)  #: looks at targets that waiters share
    releasing: set[str] = field(default_factory=set)  #: episodes whose claims are just given back
    #: The number of our present term as leader, 0 while another leads (`engine.election`). A single
    #: replica always leads. Polls remember it, and compare right before they write.
    term: Callable[[], int] = lambda: 1
    #: Whether the API server does not answer this replica, so that others should go first.
    cut_off: Callable[[], bool] = lambda: False
    wall_clock: Clock | None = None  #: where the true time is another than `clock`'s, see `wall`

    async def commit(self, claim: Claim, change: Change) -> Claim:
        """Make a change durable, then tell the listeners.

        Who began and ended an effect, and under which epoch, is kept with it: so that a history
        can be checked for what was written by somebody who had lost the claim.
        """
        if any(fact.kind in _EFFECTS for fact in change.facts):
            change = replace(change, facts=tuple(_signed(fact, claim) for fact in change.facts))
        if change.release:
            self.releasing.add(claim.episode.id)
        try:
            after = await self.store.commit(claim, change)
        finally:
            self.releasing.discard(claim.episode.id)
        if change.facts:
            for listener in self.listeners:
                listener.heard(after.episode, change.run or after.run, change.facts)
        return after

    def wall(self) -> float:
        """The true time, Unix seconds, for calendars and what others have dated. It may jump."""
        return (self.wall_clock or self.clock).now()

    def level_of(self, episode: Episode) -> LevelSource | None:
        """Who can say whether this episode's alert fires."""
        kind, slash, _ = episode.source.partition("/")
        return self.levels.get(kind + slash)


def _signed(fact: Fact, claim: Claim) -> Fact:
    if fact.kind not in _EFFECTS:
        return fact
    return replace(fact, data={**fact.data, "epoch": claim.epoch, "owner": claim.owner})
