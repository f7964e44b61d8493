"""An episode is one firing period of one alert: what is decided, acted on and closed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from healer.domain.alert import Alert, AlertStatus
from healer.domain.outcome import Result
from healer.domain.verdict import Reason
from healer.kernel.ids import digest


class EpisodeState(StrEnum):
    """Where an episode stands; every state but CLOSED is looked at again."""

    OPEN = "open"  #: accepted, not yet decided
    BLOCKED = "blocked"  #: a guard defers it; looked at again at `next_at`
    AWAITING_APPROVAL = "awaiting_approval"
    RUNNING = "running"  #: a run is under way
    ESCALATED = "escalated"  #: a person was told; waits for recovery or acknowledgement
    SETTLED = "settled"  #: nothing more will be done, but the alert still fires
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Episode:
    """One firing period of one alert, with its state and the claim on it."""

    id: str
    source: str
    fingerprint: str
    ordinal: int  #: n-th episode of this alert, from 1
    labels: Mapping[str, str]
    starts_at: float
    opened_at: float
    updated_at: float
    state: EpisodeState = EpisodeState.OPEN
    firing: bool = True
    annotations: Mapping[str, str] = field(default_factory=dict)
    generator_url: str = ""
    ends_at: float | None = None  #: when it resolved
    end_inferred: bool = False  #: it resolved because a poll no longer saw it
    last_seen_at: float = 0.0  #: last delivery or poll that said firing
    reason: Reason | None = None  #: why it is where it is
    detail: str = ""
    next_at: float = 0.0  #: Unix seconds when a worker should look at it
    playbook: str = ""
    target: str = ""
    run_id: str = ""
    runs: int = 0  #: how many runs it has had
    result: Result | None = None
    closed_at: float | None = None
    hold_paged: bool = False  #: a person was told that it is held back
    waiting_since: float | None = None  #: since when a guard holds it back
    severity_rank: int = 0  #: from the severity label: orders who goes first

    @property
    def name(self) -> str:
        """The `alertname` label, or `?`."""
        return self.labels.get("alertname", "?")


def episode_id(source: str, fingerprint: str, ordinal: int) -> str:
    """The id of the n-th episode of an alert, the same on every replica."""
    return "ep-" + digest(source, fingerprint, str(ordinal))[:16]


_SEVERITY = {"critical": 3, "page": 3, "error": 2, "warning": 1}


class FoldKind(StrEnum):
    """What one alert did to the episodes."""

    OPENED = "opened"
    MERGED = "merged"
    RESOLVED = "resolved"
    STALE = "stale"
    IGNORED = "ignored"  #: resolved, and nothing was open


@dataclass(frozen=True, slots=True)
class Fold:
    """The effect of one alert: the episode as it is now (None: unchanged), and what happened."""

    kind: FoldKind
    episode: Episode | None
    detail: str = ""


def fold(latest: Episode | None, alert: Alert, now: float) -> Fold:
    """Turn one alert into a change of its latest episode.

    Opens an episode on the first firing, merges repeats, resolves; a firing that started no later
    than the last resolution ended is stale (another Alertmanager peer sent it late) and opens
    nothing. A resolved episode is only marked and made due: its worker closes it, finishes what it
    began, verifies, and tells whoever was told.
    """
    active = latest is not None and latest.state is not EpisodeState.CLOSED and latest.firing
    if alert.status is AlertStatus.RESOLVED:
        if not active or latest is None:
            return Fold(FoldKind.IGNORED, None, "no open episode")
        if alert.ends_at is not None and alert.ends_at < latest.starts_at:
            return Fold(FoldKind.STALE, None, "it ended before this episode began")
        return Fold(FoldKind.RESOLVED, _resolved(latest, alert, now))
    if active and latest is not None:
        merged = replace(
            latest, last_seen_at=now, updated_at=now, annotations=dict(alert.annotations)
        )
        return Fold(FoldKind.MERGED, merged)
    if latest is not None and latest.state is EpisodeState.RUNNING and not _is_late(latest, alert):
        # Its own step silenced the alert for a while (a restart resets a rollout's deadline): the
        # run under way goes on with it, instead of a second episode that waits for its lock.
        again = replace(
            latest, firing=True, ends_at=None, end_inferred=False, last_seen_at=now, updated_at=now
        )
        return Fold(FoldKind.MERGED, again, "fires again while its run is under way")
    if latest is not None and _is_dealt_with(latest, alert):
        return Fold(FoldKind.IGNORED, None, "a person has closed this firing period by hand")
    if latest is not None and _is_late(latest, alert):
        return Fold(FoldKind.STALE, None, "it started before the last episode ended")
    ordinal = latest.ordinal + 1 if latest else 1
    opened = Episode(
        id=episode_id(alert.source, alert.fingerprint, ordinal),
        source=alert.source,
        fingerprint=alert.fingerprint,
        ordinal=ordinal,
        labels=dict(alert.labels),
        annotations=dict(alert.annotations),
        generator_url=alert.generator_url,
        starts_at=alert.starts_at,
        opened_at=now,
        updated_at=now,
        last_seen_at=now,
        next_at=now,
        severity_rank=_SEVERITY.get(alert.labels.get("severity", ""), 0),
    )
    return Fold(FoldKind.OPENED, opened)


def _is_late(latest: Episode, alert: Alert) -> bool:
    """Whether a firing alert only repeats what has ended.

    Peers send late: what began before the end is over. A poll sees the present, but one that was
    asked before the end may be read after it.
    """
    if latest.ends_at is None or latest.end_inferred:
        return False
    return (alert.starts_at if alert.polled_at is None else alert.polled_at) <= latest.ends_at


def _is_dealt_with(latest: Episode, alert: Alert) -> bool:
    """Whether a person closed the episode while it fired, and it is the same firing still."""
    closed = latest.state is EpisodeState.CLOSED and latest.firing
    return closed and alert.starts_at <= latest.starts_at


def _resolved(episode: Episode, alert: Alert, now: float) -> Episode:
    return replace(
        episode,
        firing=False,
        ends_at=alert.ends_at or now,
        end_inferred=alert.polled_at is not None,
        updated_at=now,
        next_at=now,
    )
