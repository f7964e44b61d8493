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
    contended = {_number(name) for name in (*wanted["targets"], *wanted["keys"])}
    rows = await transaction.rows("commit_lock", wanted["episodes"], sorted(contended), LOCK_SPACE)
    books = await transaction.row(
        "commit_books",
        wanted["targets"],
        sorted({held.episode.id for held, change in jobs if _may_free(change)}),
        wanted["keys"],
        wanted["episodes"],
        wanted["runs"],
    )
    return Page(
        transaction.now,
        {
            id_: EpisodeRow(decode_episode(doc), owner, epoch, until, wake_at)
            for id_, doc, owner, epoch, until, wake_at in rows
        },
        _runs(books),
        dict(_together(books, "targets", "holders")),
        {
            key: Bucket(tokens, at)
            for key, tokens, at in _together(books, "keys", "tokens", "times")
        },
    )


def _runs(books: Any) -> dict[str, RunRow]:
    steps: dict[str, list[str]] = {}
    for run_id, doc in _together(books, "step_runs", "steps"):
        steps.setdefault(run_id, []).append(doc)
    return {
        id_: RunRow(run_with(doc, steps.get(id_, ())), seq, history)
        for id_, seq, history, doc in _together(books, "runs", "seqs", "histories", "docs")
    }


def _together(row: Any, *columns: str) -> Iterable[tuple[Any, ...]]:
    """The rows that are one array a column; NULL where there are none."""
    return zip(*(row[column] or () for column in columns), strict=True)


def _may_free(change: Change) -> bool:
    return change.unlock or change.episode.state == "closed"


def _number(name: str) -> int:
    """The number that stands for a name; two names with one number only wait for each other."""
    return zlib.crc32(name.encode()) - 2**31


async def _write(transaction: Transaction, page: Page) -> None:
    for id_, answer, run_id in page.used:
        await transaction.run(
            "approval_used", id_, answer.plan_digest, answer.at, encode(answer), run_id
        )
    for id_, digest in page.asked:
        await transaction.run("approval_ask", id_, digest, page.now)
    await _write_books(transaction, page)
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


async def _write_books(transaction: Transaction, page: Page) -> None:
    """Write what has changed of episodes, runs, locks and buckets."""
    episodes = [_episode_row(row) for row in page.episodes.values() if row.doc]
    changed = [row for row in page.runs.values() if row.doc or row.steps]
    runs = [_run_row(row) for row in changed if row.doc or row.was_history is not row.history]
    steps = [step for row in changed for step in _step_rows(row)]
    if not (episodes or runs or steps or page.freed or page.taken or page.paid):
        return
    reopened = [row.run.id for row in changed if row.was_history and not row.history]
    if reopened:
        await transaction.run("runs_reopened", reopened)
    await transaction.run(
        "commit_write",
        *_columns(episodes, 11),
        [row.run.id for row in changed if row.was_history is False and row.history],
        *_columns(runs, 12),
        *_columns(steps, 8),
        list(page.freed),
        *_columns([(lock, page.locks[lock], epoch) for lock, epoch in page.taken.items()], 3),
        page.now,
        *_columns([(key, page.buckets[key].tokens, page.buckets[key].at) for key in page.paid], 3),
    )


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


def _run_row(row: RunRow) -> tuple[object, ...]:
    """A run as a row of `run` or `run_history`."""
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
            yield (
                row.history, row.run.id, place, step.step, step.attempt, step.undo, step.outcome,
                doc,
            )  # fmt: skip


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> Iterable[list[object]]:
    """One array a column, also for no rows."""
    return map(list, zip(*rows, strict=True)) if rows else ([] for _ in range(width))


async def _many(
    transaction: Transaction, name: str, rows: Sequence[tuple[object, ...]], *more: Any
) -> None:
    """Run a statement for many rows at once, one array a column."""
    if rows:
        await transaction.run(name, *map(list, zip(*rows, strict=True)), *more)


async def close_run(transaction: Transaction, run: Run) -> None:
    """Put an unfinished run, which is done now, among the finished ones."""
    books = await transaction.row("commit_books", [], [], [], [], [run.id])
    known = _runs(books)[run.id]
    done = replace(known, run=replace(run, steps=known.run.steps), doc=encode_run(run))
    await _write_books(transaction, Page(transaction.now, {}, {run.id: done}, {}, {}))
