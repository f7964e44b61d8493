"""What can be read of an in-memory journal; nothing here changes it."""

from collections import Counter
from collections.abc import Iterable

from healer.domain.episode import Episode, EpisodeState
from healer.domain.outcome import Result
from healer.domain.pause import Pause
from healer.domain.run import Phase, Run
from healer.domain.storm import Flow
from healer.domain.verdict import Reason
from healer.ports import EpisodeFilter, Ledger, LedgerQuery, Message
from healer.testing.store_inbox import since
from healer.testing.store_journal import MemoryJournal, RunRow

_SHORTEST_PREFIX = 6
_IN_QUEUE = frozenset({Reason.ZONE_DEGRADED, Reason.OWNER_DEGRADED, Reason.STORM_PACED})
_NOT_IN_FLIGHT = frozenset({Phase.GUARD, Phase.DONE})


def ledger(journal: MemoryJournal, query: LedgerQuery, now: float) -> Ledger:
    """The persistent facts for a guard; see `healer.ports.Ledger` for what each means."""
    mine = [row for row in journal.runs.values() if row.run.plan.playbook == query.playbook]
    ended = [(row, row.run.finished_at) for row in mine if row.run.finished_at is not None]
    acted = [(row, at) for row, at in ended if row.acted]
    on_target = [at for row, at in acted if str(row.run.plan.target) == query.target]
    recent = now - query.recent_seconds
    healed = max((at for row, at in ended if row.run.result is Result.HEALED), default=-1e18)
    bad = [at for row, at in acted if row.run.result is Result.ESCALATED and at > healed]
    flying = [
        row.run
        for row in journal.unfinished.values()
        if row.run.phase not in _NOT_IN_FLIGHT and row.run.episode_id != query.episode_id
    ]
    answers = [q for _, q in journal.asked(query.episode_id) if q.answer and not q.run_id]
    return Ledger(
        pauses=tuple(pauses(journal, now)),
        buckets={key: journal.buckets[key] for key in query.bucket_keys if key in journal.buckets},
        locked_by=journal.locks.get(query.lock),
        last_run_ended_at=max(on_target, default=None),
        in_flight_owner=sum(str(run.plan.lock) == query.lock for run in flying),
        in_flight_zone=(sum(run.plan.zone == query.zone for run in flying) if query.zone else 0),
        flow=journal.flows.get(query.zone, Flow()),
        queue_place=_place(journal, query) if query.zone else 0,
        recent_runs=sum(str(row.run.plan.lock) == query.lock for row, at in acted if at > recent),
        bad_outcomes=len(bad),
        last_bad_at=max(bad, default=None),
        breaker_reset_at=journal.breakers.get(query.playbook),
        approval=answers[0].answer if answers else None,
    )


def _place(journal: MemoryJournal, query: LedgerQuery) -> int:
    mine = journal.episodes.get(query.episode_id)
    if mine is None:
        return 0
    return sum(
        other.zone == query.zone
        and other.episode.state is EpisodeState.BLOCKED
        and other.episode.reason in _IN_QUEUE
        and other is not mine
        and other.order < mine.order
        for other in journal.active.values()
    )


def pauses(journal: MemoryJournal, now: float) -> list[Pause]:
    """All pauses in force, by id."""
    found = [each for each in journal.pauses.values() if each.until is None or each.until > now]
    return sorted(found, key=lambda each: each.id)


def episode(journal: MemoryJournal, id_: str) -> Episode | None:
    """One episode by its id, or by an unambiguous prefix of it."""
    row = journal.episodes.get(id_)
    if row is not None:
        return row.episode
    if len(id_) < _SHORTEST_PREFIX:
        return None
    found = [each for key, each in journal.episodes.items() if key.startswith(id_)]
    return found[0].episode if len(found) == 1 else None


def episodes(journal: MemoryJournal, which: EpisodeFilter) -> list[Episode]:
    """Episodes, newest first."""
    rows = [row for row in journal.episodes.values() if _wanted(row.episode, which)]
    rows.sort(key=lambda row: (row.episode.opened_at, row.seq), reverse=True)
    return [row.episode for row in rows[: which.limit]]


def _wanted(episode: Episode, which: EpisodeFilter) -> bool:
    text = which.text.lower()
    return (
        (not which.states or episode.state in which.states)
        and episode.source.startswith(which.source_prefix)
        and (which.firing is None or episode.firing == which.firing)
        and (not which.playbook or episode.playbook == which.playbook)
        and any(text in each.lower() for each in (episode.id, episode.name, episode.target))
    )


def runs(journal: MemoryJournal, episode_id: str, limit: int) -> list[Run]:
    """Runs with their steps, newest first; of one episode when named."""
    rows: Iterable[RunRow] = journal.runs.values()
    if episode_id:
        rows = journal.runs_of.get(episode_id, ())
    newest = sorted(rows, key=lambda row: (row.run.started_at, row.seq), reverse=True)
    return [row.whole for row in newest[:limit]]


def messages_due(journal: MemoryJournal, now: float, limit: int) -> list[Message]:
    """Messages to be delivered now, the longest waiting first."""
    due = [(id_, row) for id_, row in journal.undelivered.items() if row.due_at <= now]
    due.sort(key=lambda each: each[1].due_at)
    return [Message(id_, row.channel, row.body, row.attempts) for id_, row in due[:limit]]


def next_due(journal: MemoryJournal) -> float | None:
    """When there is next something to do: an episode, the end of a lease, or a message."""
    dues = [row.due_at for row in journal.active.values()]
    dues += [row.due_at for row in journal.undelivered.values()]
    return min(dues, default=None)


def counts(journal: MemoryJournal) -> dict[str, int]:
    """Numbers for the metrics page."""
    found = {
        "inbox": len(journal.inbox),
        "outbox": len(journal.undelivered),
        "outbox_failing": sum(row.attempts > 0 for row in journal.undelivered.values()),
        "inbox_since": since(journal.inbox),
        "rejected": len(journal.rejected),
    }
    states = Counter(row.episode.state for row in journal.episodes.values())
    found |= {f"episodes/{state}": number for state, number in states.items()}
    head = journal.last_fact()
    if head is not None:
        found["fact_seq"], found["fact_hash"] = head.seq, int(head.hash[:13], 16)
    return found
