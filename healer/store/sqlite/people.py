"""What people do: answer, acknowledge, pause, resume, vouch. Each leaves a fact with a name."""

import sqlite3

from healer.domain.episode import Episode
from healer.domain.facts import Approval
from healer.domain.pause import Pause
from healer.errors import NotFound
from healer.store import deeds
from healer.store.rows import decode_episode, decode_pause, encode, encode_episode
from healer.store.sqlite import chain, runs
from healer.store.sqlite.statements import SQL


def answer(connection: sqlite3.Connection, id_: str, given: Approval, now: float) -> None:
    """Record the answer and make the episode due, even while a worker holds it."""
    episode = _episode(connection, id_)
    row = connection.execute(SQL["approval_waiting"], (id_,)).fetchone()
    due, fact = deeds.answer(episode, row, given, now)
    connection.execute(SQL["approval_answer"], (encode(given), id_, given.plan_digest))
    connection.execute(SQL["episode_wake"], (due.next_at, encode_episode(due), now, id_))
    chain.append(connection, [fact])


def acknowledge(connection: sqlite3.Connection, id_: str, by: str, note: str, now: float) -> None:
    """Close by hand. Whoever holds a claim on it is fenced."""
    closed, fact = deeds.acknowledge(_episode(connection, id_), by, note, now)
    connection.execute(SQL["episode_close"], (closed.state, encode_episode(closed), id_))
    connection.execute(SQL["lock_free"], (encode([id_]),))
    for run in runs.unfinished(connection, [id_]).values():
        runs.write(connection, deeds.ended(run, closed, now))
    chain.append(connection, [fact])


def set_pause(connection: sqlite3.Connection, pause: Pause) -> None:
    """Add or replace a pause."""
    connection.execute(SQL["pause_write"], (pause.id, pause.until, encode(pause)))
    chain.append(connection, [deeds.paused(pause)])


def clear_pause(connection: sqlite3.Connection, id_: str, by: str, now: float) -> bool:
    """Remove a pause; False when there was none."""
    row = connection.execute(SQL["pause_look"], (id_,)).fetchone()
    if row is None:
        return False
    connection.execute(SQL["pause_clear"], (id_,))
    chain.append(connection, [deeds.resumed(decode_pause(row[0]), by, now)])
    return True


def reset_breaker(connection: sqlite3.Connection, playbook: str, by: str, now: float) -> None:
    """A person vouches for the playbook again."""
    connection.execute(SQL["breaker_reset"], (playbook, now, by))
    chain.append(connection, [deeds.vouched(playbook, by, now)])


def _episode(connection: sqlite3.Connection, id_: str) -> Episode:
    row = connection.execute(SQL["episode_look"], (id_,)).fetchone()
    if row is None:
        raise NotFound(f"there is no episode {id_}")
    return decode_episode(row[0])
