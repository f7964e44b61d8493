"""What a worker does to an episode in memory: each function checks everything, then writes it all.

The order of the checks is that of the real engines, so the same mistake raises the same error.
"""

from collections.abc import Sequence
from dataclasses import replace

from healer.domain.budget import Bucket, Short, take
from healer.domain.episode import Episode, EpisodeState
from healer.domain.facts import Approval
from healer.domain.journal import Fact, FactKind
from healer.domain.run import Phase, Run, StepRecord
from healer.errors import Conflict, Fenced
from healer.ports import BudgetShort, Change, Claim, LockTaken, Message
from healer.testing.store_journal import (
    MemoryJournal,
    MessageRow,
    Question,
    Row,
    finite,
    plain,
    written,
)


def claim(
    journal: MemoryJournal, owner: str, now: float, lease_seconds: float, limit: int
) -> list[Claim]:
    """Claim what is due; see `healer.ports.Store.claim`. Every claim has a new epoch."""
    due = [row for row in journal.active.values() if row.due_at <= now]
    due.sort(key=lambda row: row.order)
    claims = []
    for row in due[:limit]:
        before = row.owner
        row.owner, row.epoch = owner, row.epoch + 1
        row.lease_until, row.wake_at = now + lease_seconds, None
        run = journal.unfinished_run(row.episode.id)
        claims.append(Claim(row.episode, run, owner, row.epoch, row.lease_until))
        if before and before != owner:
            fact = Fact(
                FactKind.TOOK_OVER,
                now,
                episode_id=row.episode.id,
                run_id=run.id if run else "",
                detail=f"{owner} took over what {before} left",
                data={"from": before, "to": owner, "epoch": row.epoch},
            )
            journal.append(written([fact]))
    return claims


def renew(
    journal: MemoryJournal, claims: Sequence[Claim], now: float, lease_seconds: float
) -> set[str]:
    """Extend the leases that are still ours, never shortening one; returns their episodes."""
    ours = set()
    for each in claims:
        row = journal.episodes.get(each.episode.id)
        if row is not None and (row.owner, row.epoch) == (each.owner, each.epoch):
            row.lease_until = max(row.lease_until, now + lease_seconds)
            ours.add(each.episode.id)
    return ours


def end_leases(journal: MemoryJournal) -> None:
    """Whoever held a lease died with its process: the one that opens the journal owns it now."""
    for row in journal.active.values():
        if row.owner:
            row.lease_until = 0.0


def commit(journal: MemoryJournal, held: Claim, change: Change, now: float) -> Claim:
    """Write one transition; see `healer.ports.Store.commit`."""
    id_ = held.episode.id
    if change.episode.id != id_:
        raise ValueError(f"the claim is on {id_}, the change on {change.episode.id}")
    row = journal.episodes.get(id_)
    if row is None or row.owner != held.owner or row.epoch != held.epoch:
        raise _fenced(held, row)
    episode = _merge(change.episode, row.episode)
    lease_until = _lease(row, change, now)
    if change.release and row.wake_at is not None and row.wake_at < episode.next_at:
        episode = replace(episode, next_at=row.wake_at)
    finite(episode)
    # A closed episode is never claimed again, so nobody else could free what it holds.
    unlock = change.unlock or episode.state is EpisodeState.CLOSED
    _check_lock(journal, held, change)
    paid = _paid(journal, change, now)
    run_id = change.run.id if change.run else (held.run.id if held.run else change.episode.run_id)
    step = _checked_step(journal, held, change, run_id)
    messages = [(each, plain(each.body)) for each in change.messages]
    facts = written(change.facts)
    # Nothing below raises: from here on it happens, above nothing has.
    journal.put(row, episode)
    row.lease_until = lease_until
    if change.run is not None:
        row.zone = change.run.plan.zone
    if change.release:
        row.owner = ""
    if unlock:
        journal.free_locks(id_)
    if change.lock is not None:
        journal.locks[str(change.lock)] = id_
    journal.buckets.update(paid)
    if change.run is not None:
        journal.put_run(change.run)
    if step is not None:
        journal.runs[run_id].steps[step.step, step.attempt, step.undo] = step
    _record(journal, held, change, messages, run_id, now)
    journal.append(facts)
    if change.run is not None:
        run: Run | None = journal.runs[change.run.id].whole
    else:
        run = journal.unfinished_run(id_)
    return Claim(episode, run, "" if change.release else held.owner, held.epoch, lease_until)


def _lease(row: Row, change: Change, now: float) -> float:
    if change.release:
        return 0.0
    return (
        max(row.lease_until, now + change.lease_seconds)
        if change.lease_seconds
        else row.lease_until
    )


def _fenced(held: Claim, row: Row | None) -> Fenced:
    who = "nobody" if row is None or not row.owner else f"{row.owner} (epoch {row.epoch})"
    return Fenced(
        f"{held.episode.id} is no longer {held.owner}'s (epoch {held.epoch}): {who} has it; "
        "stop and write nothing more"
    )


def _merge(change: Episode, stored: Episode) -> Episode:
    """The worker's view, with what `fold` alone may say: whether, since when and how it fires."""
    return replace(
        change,
        firing=stored.firing,
        ends_at=stored.ends_at,
        end_inferred=stored.end_inferred,
        last_seen_at=stored.last_seen_at,
        annotations=stored.annotations,
    )


def _check_lock(journal: MemoryJournal, held: Claim, change: Change) -> None:
    if change.lock is None:
        return
    holder = journal.locks.get(str(change.lock))
    if holder is not None and holder != held.episode.id:
        raise LockTaken(holder)


def _paid(journal: MemoryJournal, change: Change, now: float) -> dict[str, Bucket]:
    """The buckets as they are after paying. Raises BudgetShort when one of them cannot."""
    paid: dict[str, Bucket] = {}
    for spend in change.spends:
        after = take(paid.get(spend.key, journal.buckets.get(spend.key)), spend, now)
        if isinstance(after, Short):
            raise BudgetShort(spend.key, after.until)
        paid[spend.key] = after
    return paid


def _checked_step(
    journal: MemoryJournal, held: Claim, change: Change, run_id: str
) -> StepRecord | None:
    """The step as it is kept. Raises Conflict when it or the run may not be written."""
    run, step = change.run, change.step
    if run is not None:
        stored = journal.runs.get(run.id)
        if stored is not None and stored.run.episode_id != run.episode_id:
            raise Conflict(f"run {run.id} belongs to another episode than {run.episode_id}")
        if run.episode_id not in journal.episodes:
            raise Conflict(f"run {run.id} is of an episode that is not there")
        other = journal.unfinished.get(run.episode_id)
        if run.phase is not Phase.DONE and other is not None and other.run.id != run.id:
            raise Conflict(f"{held.episode.id} has an unfinished run already: {other.run.id}")
    if step is None:
        return None
    known = journal.runs.get(run_id)
    if known is None and (run is None or run.id != run_id):
        raise Conflict(f"step {step.key} is of run {run_id}, which is not there")
    before = known.steps.get((step.step, step.attempt, step.undo)) if known is not None else None
    if before is not None and before.outcome is not None and step.outcome is None:
        raise Conflict(
            f"step {step.key} of {run_id} has its outcome already; a new attempt needs a new number"
        )
    return replace(step, precondition=plain(step.precondition), evidence=plain(step.evidence))


def _record(
    journal: MemoryJournal,
    held: Claim,
    change: Change,
    messages: Sequence[tuple[Message, dict[str, object]]],
    run_id: str,
    now: float,
) -> None:
    for message, body in messages:
        if message.id not in journal.outbox:
            row = MessageRow(message.channel, body, message.attempts)
            journal.outbox[message.id] = journal.undelivered[message.id] = row
    if change.approval is not None:
        _used(journal, held.episode.id, change.approval, run_id)
    if change.ask:
        _ask(journal, held.episode.id, change.ask, now)
    if change.flow is not None:
        journal.flows[change.flow[0]] = change.flow[1]
    if change.playbook_text is not None:
        journal.texts.setdefault(*change.playbook_text)


def _used(journal: MemoryJournal, episode_id: str, answer: Approval, run_id: str) -> None:
    question = journal.questions.setdefault(
        (episode_id, answer.plan_digest), Question(journal.next_seq(), answer.at)
    )
    question.answer, question.run_id = answer, run_id


def _ask(journal: MemoryJournal, episode_id: str, digest: str, now: float) -> None:
    """Asking again for the same plan keeps an answer that came in between and was not used."""
    question = journal.questions.setdefault((episode_id, digest), Question(journal.next_seq(), now))
    question.asked_at = now
    if question.run_id:
        question.answer, question.run_id = None, ""
