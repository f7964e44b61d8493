"""Many transitions at once: the rules of `transitions`, in a few statements for all of them.

Each step of a statement hands the interpreter lock over and gets it back late beside a busy event
loop, so what a group of callers waits for is looked up, judged in order, and written table by
table. Whatever does not go through like that is done again one by one, by `transitions.commit`.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from healer.domain.budget import Bucket, Short, take
from healer.domain.episode import Episode, EpisodeState
from healer.domain.run import Run
from healer.errors import Conflict, Fenced
from healer.ports import BudgetShort, Change, Claim, LockTaken
from healer.store.rows import decode_buckets, encode, encode_episode
from healer.store.sqlite import chain, runs, transitions
from healer.store.sqlite.statements import SQL, insert_rows
from healer.store.sqlite.writer import is_of_the_disk
from healer.store.transition import Stored, judged

#: One caller's transition: its claim, the change, and the time.
Asked = tuple[Claim, Change, float]
_Row = tuple[str, Episode, str, int, float, float | None]

_decode_stored = msgspec.json.Decoder(list[_Row]).decode
_decode_locks = msgspec.json.Decoder(dict[str, str]).decode


@dataclass(slots=True)
class _Books:
    """What is stored of the episodes, locks and buckets of a group, as its changes go through."""

    stored: dict[str, Stored]
    locks: dict[str, str]
    buckets: dict[str, Bucket]
    freed: list[str] = field(default_factory=list)
    taken: list[tuple[str, str, int, float]] = field(default_factory=list)
    paid: dict[str, Bucket] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Passed:
    """A change that may be written, with the episode and lease as they will be."""

    held: Claim
    change: Change
    now: float
    episode: Episode
    lease_until: float

    @property
    def run_id(self) -> str:
        """The run that its step belongs to."""
        if self.change.run is not None:
            return self.change.run.id
        return self.held.run.id if self.held.run else self.change.episode.run_id


def commit_all(connection: sqlite3.Connection, asked: Sequence[Asked]) -> list[Claim | Exception]:
    """Write each change as `healer.ports.Store.commit` says; what it refuses is returned.

    Raises sqlite3.Error when the transaction itself is in doubt.
    """
    if len({held.episode.id for held, _, _ in asked}) < len(asked):
        return [_alone(connection, *each) for each in asked]
    connection.execute("SAVEPOINT together")
    try:
        answers = _together(connection, asked)
    except Exception as error:
        if is_of_the_disk(error):
            raise
        # One of them is wrong: done one by one, each is told by itself.
        connection.execute("ROLLBACK TO together")
        answers = [_alone(connection, *each) for each in asked]
    connection.execute("RELEASE together")
    return answers


def _alone(
    connection: sqlite3.Connection, held: Claim, change: Change, now: float
) -> Claim | Exception:
    connection.execute("SAVEPOINT alone")
    answer: Claim | Exception
    try:
        answer = transitions.commit(connection, held, change, now)
    except Exception as error:
        if is_of_the_disk(error):
            raise
        connection.execute("ROLLBACK TO alone")
        answer = error
    connection.execute("RELEASE alone")
    return answer


def _together(connection: sqlite3.Connection, asked: Sequence[Asked]) -> list[Claim | Exception]:
    books = _open(connection, asked)
    judged: list[_Passed | Exception] = []
    for held, change, now in asked:
        try:
            judged.append(_judge(books, held, change, now))
        except (Fenced, LockTaken, BudgetShort, ValueError) as error:
            judged.append(error)
    passed = [each for each in judged if isinstance(each, _Passed)]
    if passed:
        _write(connection, books, passed)
    known = _runs_now(connection, passed)
    return [
        each
        if isinstance(each, Exception)
        else Claim(
            each.episode,
            known.get(each.episode.id),
            "" if each.change.release else each.held.owner,
            each.held.epoch,
            each.lease_until,
        )
        for each in judged
    ]


# ------------------------------------------------------------------------------------ judging


def _open(connection: sqlite3.Connection, asked: Sequence[Asked]) -> _Books:
    def one(name: str, keys: Iterable[str]) -> str:
        listed = list(keys)
        if not listed:
            return ""
        return str(connection.execute(SQL[name], (encode(listed),)).fetchone()[0] or "")

    stored = one("commit_look_all", (held.episode.id for held, _, _ in asked))
    wanted = {str(change.lock) for _, change, _ in asked if change.lock is not None}
    keys = {spend.key for _, change, _ in asked for spend in change.spends}
    locks, buckets = one("lock_holders", wanted), one("buckets_all", keys)
    return _Books(
        {row[0]: Stored(*row[1:]) for row in _decode_stored(stored)} if stored else {},
        _decode_locks(locks) if locks else {},
        decode_buckets(buckets) if buckets else {},
    )


def _judge(books: _Books, held: Claim, change: Change, now: float) -> _Passed:
    id_ = held.episode.id
    episode, lease_until = judged(held, change, now, books.stored.get(id_))
    lock = None if change.lock is None else str(change.lock)
    unlocks = change.unlock or change.episode.state is EpisodeState.CLOSED
    if lock is not None and books.locks.get(lock, id_) != id_:
        raise LockTaken(books.locks[lock])
    paid: dict[str, Bucket] = {}
    for spend in change.spends:
        left = take(paid.get(spend.key) or books.buckets.get(spend.key), spend, now)
        if isinstance(left, Short):
            raise BudgetShort(spend.key, left.until)
        paid[spend.key] = left
    # From here on it passes, and those after it in the group see what it did.
    books.buckets |= paid
    books.paid |= paid
    if unlocks:
        books.freed.append(id_)
        books.locks = {target: by for target, by in books.locks.items() if by != id_}
    if lock is not None:
        books.locks[lock] = id_
        books.taken.append((lock, id_, held.epoch, now))
    return _Passed(held, change, now, episode, lease_until)


# ------------------------------------------------------------------------------------ writing


def _write(connection: sqlite3.Connection, books: _Books, passed: Sequence[_Passed]) -> None:
    _rows(connection, "commit_write_all", [_episode_row(each) for each in passed])
    if books.freed:
        connection.execute(SQL["lock_free"], (encode(books.freed),))
    _rows(connection, "lock_take", books.taken)
    _rows(connection, "bucket_write", [(k, b.tokens, b.at) for k, b in books.paid.items()])
    _rows(connection, "run_write", [runs.row(p.change.run) for p in passed if p.change.run])
    steps = [runs.step_row(p.run_id, p.change.step) for p in passed if p.change.step]
    _rows(connection, "step_write", steps)
    texts = {p.change.playbook_text for p in passed if p.change.playbook_text}
    insert_rows(connection, "text_add", list(texts))
    for each in passed:
        transitions.record_rest(connection, each.held, each.change, each.run_id, each.now)
    chain.append(connection, [fact for each in passed for fact in each.change.facts])


def _rows(connection: sqlite3.Connection, name: str, rows: Sequence[Sequence[object]]) -> None:
    """Every row must be written; one that is not makes the group go one by one."""
    if insert_rows(connection, name, rows) != len(rows):
        raise Conflict(f"{name} did not write every row")


def _episode_row(each: _Passed) -> tuple[object, ...]:
    held, change, episode = each.held, each.change, each.episode
    return (
        episode.id,
        held.owner,
        held.epoch,
        episode.state,
        episode.severity_rank,
        episode.next_at,
        episode.playbook,
        episode.target,
        change.run.plan.zone if change.run else None,
        encode_episode(episode),
        "" if change.release else held.owner,
        each.lease_until,
    )


def _runs_now(connection: sqlite3.Connection, passed: Sequence[_Passed]) -> dict[str, Run]:
    """The run of each episode as it is stored now: the one just written, or its unfinished one."""
    written = [each.change.run for each in passed if each.change.run is not None]
    others = [each.episode.id for each in passed if each.change.run is None]
    found = {run.episode_id: run for run in runs.complete(connection, written)}
    return found | (runs.unfinished(connection, others) if others else {})
