"""What people do to an in-memory journal: answer, acknowledge, pause, resume, vouch."""

from dataclasses import replace

from healer.domain.episode import EpisodeState
from healer.domain.facts import Approval
from healer.domain.journal import Fact, FactKind
from healer.domain.pause import Pause
from healer.domain.run import Phase
from healer.domain.verdict import Reason
from healer.errors import Conflict, NotFound
from healer.testing.store_journal import MemoryJournal, finite, written

_ACKNOWLEDGEABLE = frozenset({EpisodeState.ESCALATED, EpisodeState.SETTLED})


def answer(journal: MemoryJournal, id_: str, given: Approval, now: float) -> None:
    """Record the answer and make the episode due, even while a worker holds it."""
    row = journal.row(id_)
    asked = journal.asked(id_)
    if not asked:
        raise NotFound(f"{id_}: no plan waits for an answer")
    digest, question = asked[0]
    episode = row.episode
    if episode.state is EpisodeState.CLOSED:
        raise Conflict(f"{id_} is closed ({episode.reason}); there is nothing left to answer")
    if digest != given.plan_digest:
        raise Conflict(
            f"{id_}: the plan that waits is {digest[:12]}, not {given.plan_digest[:12]}; look at "
            "it again and answer that one"
        )
    if question.answer is not None and question.answer.expires_at > now:
        raise Conflict(f"{id_}: {question.answer.by} answered already")
    due = finite(replace(episode, next_at=min(episode.next_at, now)))
    question.answer, question.run_id = given, ""
    journal.put(row, due)
    row.wake_at = now
    _say(
        journal,
        Fact(
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
        ),
    )


def acknowledge(journal: MemoryJournal, id_: str, by: str, note: str, now: float) -> None:
    """Close by hand. Whoever holds a claim on it is fenced."""
    row = journal.row(id_)
    episode = row.episode
    if episode.state not in _ACKNOWLEDGEABLE:
        raise Conflict(f"{id_} is {episode.state}; only escalated and settled ones can be closed")
    closed = replace(episode, state=EpisodeState.CLOSED, closed_at=now, updated_at=now)
    journal.put(row, closed)
    row.owner, row.lease_until, row.epoch = "", 0.0, row.epoch + 1
    journal.free_locks(id_)
    run = journal.unfinished_run(id_)
    if run is not None:
        journal.put_run(replace(run, phase=Phase.DONE, result=closed.result, finished_at=now))
    detail = f"acknowledged by {by}" + (f": {note}" if note else "")
    data = {"by": by, "note": note}
    _say(journal, Fact(FactKind.CLOSED, now, id_, closed.run_id, closed.reason, detail, data))


def set_pause(journal: MemoryJournal, pause: Pause) -> None:
    """Add or replace a pause."""
    journal.pauses[pause.id] = pause
    _say(
        journal,
        Fact(
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
        ),
    )


def clear_pause(journal: MemoryJournal, id_: str, by: str, now: float) -> bool:
    """Remove a pause; False when there was none."""
    pause = journal.pauses.pop(id_, None)
    if pause is None:
        return False
    detail = f"{by} ended the pause of {pause.scope}"
    _say(journal, Fact(FactKind.RESUMED, now, detail=detail, data={"id": id_, "by": by}))
    return True


def reset_breaker(journal: MemoryJournal, playbook: str, by: str, now: float) -> None:
    """A person vouches for the playbook again."""
    journal.breakers[playbook] = now
    data = {"playbook": playbook, "by": by}
    _say(
        journal,
        Fact(FactKind.BREAKER_RESET, now, detail=f"{by} vouches for {playbook}", data=data),
    )


def _say(journal: MemoryJournal, fact: Fact) -> None:
    journal.append(written([fact]))
