"""What people do: answer, acknowledge, pause, resume, vouch. Each leaves a fact with a name."""

from healer.domain.episode import Episode
from healer.domain.facts import Approval
from healer.domain.pause import Pause
from healer.errors import NotFound
from healer.store import deeds
from healer.store.postgres import chain
from healer.store.postgres.claims import unfinished
from healer.store.postgres.commits import close_run
from healer.store.postgres.connections import Transaction
from healer.store.rows import decode_episode, decode_pause, encode, encode_episode


async def answer(transaction: Transaction, id_: str, given: Approval) -> None:
    """Record the answer and make the episode due, even while a worker holds it."""
    now = transaction.now
    episode = await _episode(transaction, id_)
    waiting = await transaction.row("approval_waiting", id_)
    due, fact = deeds.answer(episode, tuple(waiting) if waiting else None, given, now)
    await transaction.run("approval_answer", encode(given), id_, given.plan_digest)
    await transaction.run("episode_wake", due.next_at, encode_episode(due), now, id_)
    await chain.append(transaction, chain.kept([fact]))


async def acknowledge(transaction: Transaction, id_: str, by: str, note: str) -> None:
    """Close by hand. Whoever holds a claim on it is fenced."""
    now = transaction.now
    closed, fact = deeds.acknowledge(await _episode(transaction, id_), by, note, now)
    await transaction.run("episode_close", closed.state, encode_episode(closed), id_)
    await transaction.run("lock_free_of", id_)
    for run in (await unfinished(transaction, [id_])).values():
        await close_run(transaction, deeds.ended(run, closed, now))
    await chain.append(transaction, chain.kept([fact]))


async def set_pause(transaction: Transaction, pause: Pause) -> None:
    """Add or replace a pause."""
    await transaction.run("pause_write", pause.id, pause.until, encode(pause))
    await chain.append(transaction, chain.kept([deeds.paused(pause)]))


async def clear_pause(transaction: Transaction, id_: str, by: str) -> bool:
    """Remove a pause; False when there was none."""
    row = await transaction.row("pause_clear", id_)
    if row is None:
        return False
    fact = deeds.resumed(decode_pause(row[0]), by, transaction.now)
    await chain.append(transaction, chain.kept([fact]))
    return True


async def reset_breaker(transaction: Transaction, playbook: str, by: str) -> None:
    """A person vouches for the playbook again."""
    await transaction.run("breaker_reset", playbook, transaction.now, by)
    await chain.append(transaction, chain.kept([deeds.vouched(playbook, by, transaction.now)]))


async def take_message(transaction: Transaction, id_: str, seconds: float) -> bool:
    """Hold a due message for a while; False when it is not due, or another replica has it."""
    now = transaction.now
    return await transaction.row("message_take", now + seconds, id_, now) is not None


async def message_done(
    transaction: Transaction, id_: str, delivered: bool, retry_at: float
) -> None:
    """Take a message off the queue, or have it tried again at `retry_at`."""
    if delivered:
        await transaction.run("message_done", id_)
    else:
        await transaction.run("message_again", retry_at, id_)


async def _episode(transaction: Transaction, id_: str) -> Episode:
    row = await transaction.row("episode_lock", id_)
    if row is None:
        raise NotFound(f"there is no episode {id_}")
    return decode_episode(row[0])
