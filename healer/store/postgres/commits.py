"""Committing the changes of many workers in one transaction, with a few statements in all.

Locks are taken in one order by everybody: episodes by id, then targets and buckets (by the number
that stands for their name), then rows that belong to a locked episode, last the end of the chain.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from healer.domain.budget import Bucket
from healer.domain.run import Run
from healer.errors import Conflict, Fenced
from healer.ports import BudgetShort, Change, Claim, LockTaken
from healer.store.postgres import chain
from healer.store.postgres.connections import Transaction
from healer.store.postgres.page import EpisodeRow, Page, RunRow, names
from healer.store.postgres.values import plain, run_with
from healer.store.rows import decode_episode, encode, encode_run

#: First half of the key of our advisory locks: "heal" in ASCII. They end with the transaction.
LOCK_SPACE = 0x6865616C


async def commit(
    transaction: Transaction, jobs: Sequence[tuple[Claim, Change]]
) -> list[Claim | Exception]:
    """Write the changes, in order; one result for each, and an exception wrote nothing."""
    page = await _load(transaction, jobs)
    answers: list[Claim | Exception] = []
    for held, change in jobs:
        try:
            answers.append(page.apply(held, change))
        except (Fenced, LockTaken, BudgetShort, Conflict, ValueError, TypeError) as error:
            answers.append(error)
    await _write(transaction, page)
    return answers


async def _load(transaction: Transaction, jobs: Sequence[tuple[Claim, Change]]) -> Page:
    wanted = names(jobs)
    episodes = wanted["episodes"]
    rows = await transaction.rows("commit_look", episodes)
    contended = [*wanted["targets"], *wanted["keys"]]
    if contended:
        await transaction.rows("locks", sorted({_number(name) for name in contended}), LOCK_SPACE)
    locks, buckets = {}, {}
    if wanted["targets"] or any(_may_free(change) for _, change in jobs):
        found = await transaction.rows("commit_locks", wanted["targets"], episodes)
        locks = dict(map(tuple, found))
    if wanted["keys"]:
        found = await transaction.rows("commit_buckets", wanted["keys"])
        buckets = {key: Bucket(tokens, at) for key, tokens, at in found}
    runs = await transaction.rows("commit_runs", episodes, wanted["runs"])
    return Page(
        transaction.now,
        {
            id_: EpisodeRow(decode_episode(doc), owner, epoch, until, wake_at)
            for id_, doc, owner, epoch, until, wake_at in rows
        },
        {
            id_: RunRow(run_with(doc, steps), seq, history)
            for id_, seq, _, doc, history, steps in runs
        },
        locks,
        buckets,
    )


def _may_free(change: Change) -> bool:
    return change.unlock or change.episode.state == "closed"


def _number(name: str) -> int:
    """The number that stands for a name; two names with one number only wait for each other."""
    return zlib.crc32(name.encode()) - 2**31


async def _write(transaction: Transaction, page: Page) -> None:
    await _many(
        transaction,
        "commit_episodes",
        [_episode_row(row) for row in page.episodes.values() if row.doc],
    )
    await _write_runs(transaction, [row for row in page.runs.values() if row.doc or row.steps])
    if page.freed:
        await transaction.run("lock_free", sorted(page.freed))
    await _many(
        transaction,
        "lock_take",
        [(target, page.locks[target], epoch) for target, epoch in sorted(page.taken.items())],
        page.now,
    )
    await _many(
        transaction,
        "bucket_write",
        [(key, page.buckets[key].tokens, page.buckets[key].at) for key in sorted(page.paid)],
    )
    for id_, answer, run_id in page.used:
        await transaction.run(
            "approval_used", id_, answer.plan_digest, answer.at, encode(answer), run_id
        )
    for id_, digest in page.asked:
        await transaction.run("approval_ask", id_, digest, page.now)
    await _many(
        transaction,
        "flow_write",
        [(plain(zone), flow.held_at, flow.recovered) for zone, flow in page.flows.items()],
    )
    await _many(
        transaction, "text_add", [(sha, plain(text)) for sha, text in sorted(page.texts.items())]
    )
    await _many(transaction, "message_add", page.messages)
    await chain.append(transaction, page.facts)


async def _write_runs(transaction: Transaction, changed: Sequence[RunRow]) -> None:
    for history, gone in ((False, "run_gone"), (True, "run_history_gone")):
        moved = [
            row.run.id
            for row in changed
            if row.was_history is history and row.history is not history
        ]
        if moved:
            await transaction.run(gone, moved)
    for history, table in ((False, ""), (True, "_history")):
        rows = [row for row in changed if row.history is history]
        await _many(
            transaction,
            f"run{table}_write",
            [run_row(row) for row in rows if row.doc or row.was_history is not history],
        )
        await _many(transaction, f"step{table}_write", [s for row in rows for s in _step_rows(row)])


def _episode_row(row: EpisodeRow) -> tuple[object, ...]:
    episode = row.episode
    return (
        episode.id,
        episode.state,
        episode.severity_rank,
        episode.next_at,
        plain(episode.playbook),
        plain(episode.target),
        plain(row.zone) if row.zone is not None else None,
        episode.reason or "",
        row.doc,
        row.owner,
        row.lease_until,
    )


def run_row(row: RunRow) -> tuple[object, ...]:
    """A run as a row of `run_write` and `run_history_write`."""
    run = row.run
    return (
        run.id,
        row.seq,
        run.episode_id,
        plain(run.plan.playbook),
        plain(str(run.plan.target)),
        plain(str(run.plan.lock)),
        plain(run.plan.zone),
        run.phase,
        run.result,
        run.started_at,
        run.finished_at,
        row.doc,
    )


def _step_rows(row: RunRow) -> Iterable[tuple[object, ...]]:
    """The changed steps of a run, or all of them when it moves to another table."""
    moves = row.was_history is not None and row.was_history is not row.history
    for place, step in enumerate(row.run.steps):
        if moves or place in row.steps:
            doc = row.steps.get(place) or encode(step)
            yield row.run.id, place, step.step, step.attempt, step.undo, step.outcome, doc


async def _many(
    transaction: Transaction, name: str, rows: Sequence[tuple[object, ...]], *more: Any
) -> None:
    """Run a statement for many rows at once, one array a column."""
    if rows:
        await transaction.run(name, *map(list, zip(*rows, strict=True)), *more)


async def close_run(transaction: Transaction, run: Run) -> None:
    """Put an unfinished run, which is done now, among the finished ones."""
    [row] = await transaction.rows("commit_runs", [], [run.id])
    known = RunRow(run_with(row["doc"], row["steps"]), row["seq"], row["history"])
    done = replace(known, run=replace(run, steps=known.run.steps), doc=encode_run(run))
    await _write_runs(transaction, [done])
