"""What people do: answer, acknowledge, pause, resume, vouch. Each leaves a fact with a name."""

import sqlite3
from dataclasses import replace

from healer.domain.episode import Episode, EpisodeState
from healer.domain.facts import Approval
from healer.domain.journal import Fact, FactKind
from healer.domain.pause import Pause
from healer.domain.run import Phase
from healer.domain.verdict import Reason
from healer.errors import Conflict, NotFound
from healer.store.sqlite import chain, runs
from healer.store.sqlite.rows import (
    decode_approval,
    decode_episode,
    decode_pause,
    encode,
    encode_episode,
)
from healer.store.sqlite.statements import SQL

_ACKNOWLEDGEABLE = frozenset({EpisodeState.ESCALATED, EpisodeState.SETTLED})


def answer(connection: sqlite3.Connection, id_: str, given: Approval, now: float) -> None:
    """Record the answer and make the episode due, even while a worker holds it."""
    episode = _episode(connection, id_)
    row = connection.execute(SQL["approval_waiting"], (id_,)).fetchone()
    if row is None:
        raise NotFound(f"{id_}: no plan waits for an answer")
    digest, doc = row
    if episode.state is EpisodeState.CLOSED:
        raise Conflict(f"{id_} is closed ({episode.reason}); there is nothing left to answer")
    if digest != given.plan_digest:
        raise Conflict(
            f"{id_}: the plan that waits is {digest[:12]}, not {given.plan_digest[:12]}; look at "
            "it again and answer that one"
        )
    if doc is not None and (before := decode_approval(doc)).expires_at > now:
        raise Conflict(f"{id_}: {before.by} answered already")
    connection.execute(SQL["approval_answer"], (encode(given), id_, digest))
    due = replace(episode, next_at=min(episode.next_at, now))
    connection.execute(SQL["episode_wake"], (due.next_at, encode_episode(due), now, id_))
    chain.append(
        connection,
        [
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
            )
        ],
    )


def acknowledge(connection: sqlite3.Connection, id_: str, by: str, note: str, now: float) -> None:
    """Close by hand. Whoever holds a claim on it is fenced."""
    episode = _episode(connection, id_)
    if episode.state not in _ACKNOWLEDGEABLE:
        raise Conflict(f"{id_} is {episode.state}; only escalated and settled ones can be closed")
    closed = replace(episode, state=EpisodeState.CLOSED, closed_at=now, updated_at=now)
    connection.execute(SQL["episode_close"], (closed.state, encode_episode(closed), id_))
    connection.execute(SQL["lock_free"], (encode([id_]),))
    for run in runs.unfinished(connection, [id_]).values():
        done = replace(run, phase=Phase.DONE, result=closed.result, finished_at=now)
        runs.write(connection, done)
    detail = f"acknowledged by {by}" + (f": {note}" if note else "")
    fact = Fact(
        FactKind.CLOSED, now, id_, closed.run_id, closed.reason, detail, {"by": by, "note": note}
    )
    chain.append(connection, [fact])


def set_pause(connection: sqlite3.Connection, pause: Pause) -> None:
    """Add or replace a pause."""
    connection.execute(SQL["pause_write"], (pause.id, pause.until, encode(pause)))
    fact = Fact(
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
    chain.append(connection, [fact])


def clear_pause(connection: sqlite3.Connection, id_: str, by: str, now: float) -> bool:
    """Remove a pause; False when there was none."""
    row = connection.execute(SQL["pause_look"], (id_,)).fetchone()
    if row is None:
        return False
    connection.execute(SQL["pause_clear"], (id_,))
    scope = decode_pause(row[0]).scope
    detail = f"{by} ended the pause of {scope}"
    chain.append(
        connection, [Fact(FactKind.RESUMED, now, detail=detail, data={"id": id_, "by": by})]
    )
    return True


def reset_breaker(connection: sqlite3.Connection, playbook: str, by: str, now: float) -> None:
    """A person vouches for the playbook again."""
    connection.execute(SQL["breaker_reset"], (playbook, now, by))
    detail = f"{by} vouches for {playbook}"
    fact = Fact(FactKind.BREAKER_RESET, now, detail=detail, data={"playbook": playbook, "by": by})
    chain.append(connection, [fact])


def _episode(connection: sqlite3.Connection, id_: str) -> Episode:
    row = connection.execute(SQL["episode_look"], (id_,)).fetchone()
    if row is None:
        raise NotFound(f"there is no episode {id_}")
    return decode_episode(row[0])
