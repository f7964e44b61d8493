"""Runs and their steps, as rows."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from healer.domain.run import Run, StepRecord
from healer.errors import Conflict
from healer.store.rows import decode_run, encode, encode_run, with_all_steps
from healer.store.sqlite.statements import SQL


def write(connection: sqlite3.Connection, run: Run) -> None:
    """Insert or replace a run; its steps stay as they are.

    Raises Conflict when another episode has a run of this id.
    """
    written = connection.execute(SQL["run_write"], row(run))
    if written.rowcount != 1:
        raise Conflict(f"run {run.id} belongs to another episode than {run.episode_id}")


def row(run: Run) -> tuple[Any, ...]:
    """A run as a row of `run_write`."""
    return (
        run.id,
        run.episode_id,
        run.plan.playbook,
        str(run.plan.target),
        str(run.plan.lock),
        run.plan.zone,
        run.phase,
        run.result,
        run.started_at,
        run.finished_at,
        encode_run(run),
    )


def step_row(run_id: str, step: StepRecord) -> tuple[Any, ...]:
    """The intent or the outcome of a step as a row of `step_write`."""
    return (run_id, step.step, step.attempt, step.undo, step.outcome, encode(step))


def write_step(connection: sqlite3.Connection, run_id: str, step: StepRecord) -> None:
    """Write the intent or the outcome of a step.

    Raises Conflict for an intent whose outcome is known: the effect is not to be made twice.
    """
    written = connection.execute(SQL["step_write"], step_row(run_id, step))
    if written.rowcount != 1:
        raise Conflict(
            f"step {step.key} of {run_id} has its outcome already; a new attempt needs a new number"
        )


def unfinished(connection: sqlite3.Connection, episode_ids: Sequence[str]) -> dict[str, Run]:
    """The unfinished run of each of the episodes that has one, with steps, by episode."""
    rows = connection.execute(SQL["runs_unfinished"], (encode(list(episode_ids)),)).fetchall()
    found = complete(connection, [decode_run(doc) for (doc,) in rows])
    return {run.episode_id: run for run in found}


def complete(connection: sqlite3.Connection, found: Sequence[Run]) -> list[Run]:
    """The runs with their steps."""
    if not found:
        return []
    ids = encode([run.id for run in found])
    return with_all_steps(found, connection.execute(SQL["steps_of"], (ids,)).fetchone()[0])
