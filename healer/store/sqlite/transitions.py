"""What a worker does to an episode: claim it, change it, keep it, give it back.

Each function runs inside one savepoint of the writer's transaction: what raises wrote nothing.
"""

import sqlite3
from collections.abc import Sequence

from healer.domain.budget import Bucket, Short, Spend, take
from healer.domain.episode import EpisodeState
from healer.domain.run import Run
from healer.domain.target import TargetRef
from healer.ports import BudgetShort, Change, Claim, LockTaken
from healer.store.rows import decode_episode, encode, encode_episode
from healer.store.sqlite import chain, runs
from healer.store.sqlite.statements import SQL
from healer.store.transition import Stored, fenced, judged, took_over


def claim(
    connection: sqlite3.Connection, owner: str, now: float, lease_seconds: float, limit: int
) -> list[Claim]:
    """Claim what is due; see `healer.ports.Store.claim`. Every claim has a new epoch."""
    rows = connection.execute(SQL["claim_candidates"], (now, limit)).fetchall()
    if not rows:
        return []
    until = now + lease_seconds
    connection.executemany(SQL["claim_take"], [(owner, until, row[0]) for row in rows])
    active = runs.unfinished(connection, [row[0] for row in rows])
    claims = []
    facts = []
    for id_, before, epoch, doc in rows:
        claims.append(Claim(decode_episode(doc), active.get(id_), owner, epoch + 1, until))
        if before and before != owner:
            facts.append(took_over(id_, active.get(id_), before, owner, epoch + 1, now))
    chain.append(connection, facts)
    return claims


def renew(
    connection: sqlite3.Connection, claims: Sequence[Claim], now: float, lease_seconds: float
) -> set[str]:
    """Extend the leases that are still ours; returns their episodes."""
    return {
        each.episode.id
        for each in claims
        if connection.execute(
            SQL["renew"], (now + lease_seconds, each.episode.id, each.owner, each.epoch)
        ).rowcount
    }


def commit(connection: sqlite3.Connection, held: Claim, change: Change, now: float) -> Claim:
    """Write one transition; see `healer.ports.Store.commit`."""
    id_ = held.episode.id
    row = connection.execute(SQL["commit_look"], (id_,)).fetchone()
    stored = None if row is None else Stored(decode_episode(row[0]), *row[1:])
    episode, lease_until = judged(held, change, now, stored)
    written = connection.execute(
        SQL["commit_write"],
        (
            episode.state,
            episode.severity_rank,
            episode.next_at,
            episode.playbook,
            episode.target,
            change.run.plan.zone if change.run else None,
            encode_episode(episode),
            "" if change.release else held.owner,
            lease_until,
            id_,
            held.owner,
            held.epoch,
        ),
    )
    if written.rowcount != 1:
        raise fenced(held, *row[1:3])
    _locks(connection, held, change, now)
    for spend in change.spends:
        _pay(connection, spend, now)
    _record(connection, held, change, now)
    chain.append(connection, change.facts)
    if change.run is not None:
        run: Run | None = runs.complete(connection, [change.run])[0]
    else:
        run = runs.unfinished(connection, [id_]).get(id_)
    return Claim(episode, run, "" if change.release else held.owner, held.epoch, lease_until)


def _locks(connection: sqlite3.Connection, held: Claim, change: Change, now: float) -> None:
    # A closed episode is never claimed again, so nobody else could free what it holds.
    if change.unlock or change.episode.state is EpisodeState.CLOSED:
        connection.execute(SQL["lock_free"], (encode([held.episode.id]),))
    if change.lock is not None:
        _lock(connection, held, change.lock, now)


def _lock(connection: sqlite3.Connection, held: Claim, lock: TargetRef, now: float) -> None:
    row = connection.execute(SQL["lock_holder"], (str(lock),)).fetchone()
    if row is not None and row[0] != held.episode.id:
        raise LockTaken(row[0])
    connection.execute(SQL["lock_take"], (str(lock), held.episode.id, held.epoch, now))


def _pay(connection: sqlite3.Connection, spend: Spend, now: float) -> None:
    row = connection.execute(SQL["bucket_look"], (spend.key,)).fetchone()
    paid = take(Bucket(*row) if row else None, spend, now)
    if isinstance(paid, Short):
        raise BudgetShort(spend.key, paid.until)
    connection.execute(SQL["bucket_write"], (spend.key, paid.tokens, paid.at))


def _record(connection: sqlite3.Connection, held: Claim, change: Change, now: float) -> None:
    run_id = change.run.id if change.run else (held.run.id if held.run else change.episode.run_id)
    if change.run is not None:
        runs.write(connection, change.run)
    if change.step is not None:
        runs.write_step(connection, run_id, change.step)
    if change.playbook_text is not None:
        connection.execute(SQL["text_add"], change.playbook_text)
    record_rest(connection, held, change, run_id, now)


def record_rest(
    connection: sqlite3.Connection, held: Claim, change: Change, run_id: str, now: float
) -> None:
    """What few changes have: messages, a question to a person and its answer, a zone's ramp."""
    for message in change.messages:
        connection.execute(
            SQL["message_add"],
            (message.id, message.channel, encode(message.body), message.attempts),
        )
    if change.approval is not None:
        answer = change.approval
        connection.execute(
            SQL["approval_used"],
            (held.episode.id, answer.plan_digest, answer.at, encode(answer), run_id),
        )
    if change.ask:
        connection.execute(SQL["approval_ask"], (held.episode.id, change.ask, now))
    if change.flow is not None:
        zone, flow = change.flow
        connection.execute(SQL["flow_write"], (zone, flow.held_at, flow.recovered))
