"""What people's words change, and the fact each leaves: pure, the same for every engine."""

from dataclasses import replace

from healer.domain.episode import Episode, EpisodeState
from healer.domain.facts import Approval
from healer.domain.journal import Fact, FactKind
from healer.domain.pause import Pause
from healer.domain.run import Phase, Run
from healer.domain.verdict import Reason
from healer.errors import Conflict, NotFound
from healer.store.rows import decode_approval

_ACKNOWLEDGEABLE = frozenset({EpisodeState.ESCALATED, EpisodeState.SETTLED})


def answer(
    episode: Episode, waiting: tuple[str, str | None] | None, given: Approval, now: float
) -> tuple[Episode, Fact]:
    """The episode, due now, and the fact. `waiting` is the plan's digest and an earlier answer.

    Raises NotFound or Conflict when nothing waits, or another plan, or it was answered.
    """
    id_ = episode.id
    if waiting is None:
        raise NotFound(f"{id_}: no plan waits for an answer")
    digest, doc = waiting
    if episode.state is EpisodeState.CLOSED:
        raise Conflict(f"{id_} is closed ({episode.reason}); there is nothing left to answer")
    if digest != given.plan_digest:
        raise Conflict(
            f"{id_}: the plan that waits is {digest[:12]}, not {given.plan_digest[:12]}; look at "
            "it again and answer that one"
        )
    if doc is not None and (before := decode_approval(doc)).expires_at > now:
        raise Conflict(f"{id_}: {before.by} answered already")
    fact = Fact(
        FactKind.APPROVAL_GIVEN,
        now,
        episode_id=id_,
        run_id=episode.run_id,
        reason=None if given.approved else Reason.APPROVAL_REJECTED,
        detail=f"{given.by} said {'yes' if given.approved else 'no'}",
        data={
            "by": given.by,
            "approved": given.approved,
            "plan_digest": digest,
            "expires_at": given.expires_at,
        },
    )
    return replace(episode, next_at=min(episode.next_at, now)), fact


def acknowledge(episode: Episode, by: str, note: str, now: float) -> tuple[Episode, Fact]:
    """The closed episode and the fact. Raises Conflict in a state nobody closes by hand."""
    if episode.state not in _ACKNOWLEDGEABLE:
        raise Conflict(
            f"{episode.id} is {episode.state}; only escalated and settled ones can be closed"
        )
    closed = replace(episode, state=EpisodeState.CLOSED, closed_at=now, updated_at=now)
    detail = f"acknowledged by {by}" + (f": {note}" if note else "")
    data = {"by": by, "note": note}
    fact = Fact(FactKind.CLOSED, now, closed.id, closed.run_id, closed.reason, detail, data)
    return closed, fact


def ended(run: Run, closed: Episode, now: float) -> Run:
    """The unfinished run of an episode that was closed by hand."""
    return replace(run, phase=Phase.DONE, result=closed.result, finished_at=now)


def paused(pause: Pause) -> Fact:
    """The fact of a new pause."""
    return Fact(
        FactKind.PAUSED,
        pause.at,
        reason=Reason.PAUSED,
        detail=f"{pause.by} paused {pause.scope}: {pause.reason}",
        data={
            "id": pause.id,
            "by": pause.by,
            "namespace": pause.namespace,
            "playbook": pause.playbook,
            "until": pause.until,
        },
    )


def resumed(pause: Pause, by: str, now: float) -> Fact:
    """The fact of a pause taken back."""
    detail = f"{by} ended the pause of {pause.scope}"
    return Fact(FactKind.RESUMED, now, detail=detail, data={"id": pause.id, "by": by})


def vouched(playbook: str, by: str, now: float) -> Fact:
    """The fact that a person vouches for a playbook again."""
    detail = f"{by} vouches for {playbook}"
    return Fact(FactKind.BREAKER_RESET, now, detail=detail, data={"playbook": playbook, "by": by})
