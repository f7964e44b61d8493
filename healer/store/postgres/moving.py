"""All rows of the journal out of a database, also of running replicas, and into an empty one."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import groupby, islice
from typing import Any

import asyncpg
import msgspec

from healer.errors import ConfigError, Refused, StoreUnavailable
from healer.kernel.ids import canonical_json, digest
from healer.store.portable import COLUMNS, Row, Tally
from healer.store.postgres.inbox import series
from healer.store.postgres.schema import check_server
from healer.store.postgres.schema import migrate as bring_up
from healer.store.postgres.statements import migrations
from healer.store.postgres.values import decode_alert, decode_step, plain
from healer.store.rows import decode_any, decode_episode, decode_run, encode

_AT_ONCE = 1000
_SELECT = {
    "event": (
        "SELECT encode(id, 'hex'), folded, received_at, body FROM event "
        "ORDER BY NOT folded, batch, place"
    ),
    "rejected": "SELECT source, problem, payload, received_at FROM rejected ORDER BY seq",
    "episode": "SELECT doc, zone, owner, epoch, lease_until, wake_at FROM episode ORDER BY seq",
    "run": "SELECT doc FROM run_all ORDER BY seq",
    "step": "SELECT run_id, doc FROM step_all ORDER BY run_id, place",
    "approval": "SELECT episode_id, plan_digest, asked_at, doc, run_id FROM approval ORDER BY seq",
    "outbox": "SELECT id, channel, body, attempts, due_at, done FROM outbox ORDER BY seq",
    "fact": (
        "SELECT seq, kind, at, episode_id, run_id, reason, body, previous, hash "
        "FROM fact ORDER BY seq"
    ),
}


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    try:
        connection = await asyncpg.connect(url, statement_cache_size=0, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError, ValueError) as error:
        raise StoreUnavailable(f"PostgreSQL cannot be reached: {error}") from error
    try:
        yield connection
    except (OSError, asyncpg.PostgresError) as error:
        raise StoreUnavailable(f"PostgreSQL: {error}") from error
    finally:
        await connection.close()


async def version(url: str) -> tuple[int, int]:
    """The schema the database has (0: none), and the one this healer makes of it.

    Changes nothing. Raises ConfigError for a server that healer does not trust its journal to.
    """
    async with _connected(url) as connection:
        await check_server(connection, "PostgreSQL")
        there = await connection.fetchval("SELECT to_regclass('healer_schema') IS NOT NULL")
        found = there and await connection.fetchval("SELECT max(version) FROM healer_schema")
    return int(found or 0), len(migrations())


async def migrate(url: str) -> None:
    """Bring the schema up to date."""
    async with _connected(url) as connection:
        await check_server(connection, "PostgreSQL")
        await bring_up(connection, "PostgreSQL")


async def rows(url: str) -> AsyncIterator[Row]:
    """Every row as of one moment; replicas may be running. Raises ConfigError for no journal."""
    async with _connected(url) as connection:
        if not await connection.fetchval("SELECT to_regclass('healer_schema') IS NOT NULL"):
            raise ConfigError("the database holds no journal; name another one with --store")
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            async for row in _rows(connection):
                yield row


async def _rows(connection: Any) -> AsyncIterator[Row]:
    for table, columns in COLUMNS.items():
        sql = _SELECT.get(table, f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1")  # noqa: S608 - names of our own
        async for record in connection.cursor(sql, prefetch=_AT_ONCE):
            values = list(record)
            if table == "fact":
                told = decode_any(values[6])
                values[6:7] = [told["detail"], canonical_json(told["data"])]
            yield table, values


async def fill(url: str, source: Iterable[Row], expected: Tally) -> Tally:
    """Put all rows into an empty database in one transaction; every claim in it is over.

    Raises Refused when it holds a journal with anything in it, or when not everything arrived.
    """
    await migrate(url)
    async with _connected(url) as connection, connection.transaction():
        for table in COLUMNS:
            await connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
            if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):  # noqa: S608 - names of our own
                raise Refused(f"the database holds a journal already ({table}); name an empty one")
        done: set[str] = set()
        place = 0
        for table, group in groupby(source, key=lambda row: row[0]):
            values = (value for _, value in group)
            while some := list(islice(values, _AT_ONCE)):
                for name, columns, records in _made(table, some, done, place):
                    await connection.copy_records_to_table(name, records=records, columns=columns)
                place += len(some)
        found = Tally()
        async for row in _rows(connection):
            found.add(row)
        found.require_whole("PostgreSQL")
        expected.require_same(found, "PostgreSQL")
    return found


_Records = tuple[str, tuple[str, ...], list[tuple[Any, ...]]]


def _made(table: str, some: list[list[Any]], done: set[str], place: int) -> Iterator[_Records]:
    """Rows as the tables here have them; `done` are the runs that are over."""
    match table:
        case "event":
            yield table, _EVENT, [_event(row, place + n) for n, row in enumerate(some)]
        case "rejected":
            yield table, _REJECTED, [_rejected(row) for row in some]
        case "episode":
            yield table, _EPISODE, [_episode(row) for row in some]
        case "run":
            made = [_run(doc) for (doc,) in some]
            done |= {row[0] for row in made if row[6] == "done"}
            yield "run", _RUN, [row for row in made if row[0] not in done]
            yield (
                "run_history",
                (*_RUN, "seq"),
                [(*row, place + n + 1) for n, row in enumerate(made) if row[0] in done],
            )
        case "step":
            steps = [_step(run_id, doc, place + n) for n, (run_id, doc) in enumerate(some)]
            yield "step", _STEP, [row for row in steps if row[0] not in done]
            yield "step_history", _STEP, [row for row in steps if row[0] in done]
        case "fact":
            yield table, _FACT, [_fact(row) for row in some]
        case "outbox":
            yield table, COLUMNS[table], [(*row[:5], bool(row[5])) for row in some]
        case _:
            yield (
                table,
                COLUMNS[table],
                [tuple(plain(v) if isinstance(v, str) else v for v in row) for row in some],
            )


_EVENT = ("id", "batch", "place", "series", "polled", "received_at", "folded", "body")
_REJECTED = ("id", "source", "problem", "payload", "received_at")
_EPISODE = (
    "id", "series", "ordinal", "source", "name", "state", "firing", "severity_rank", "opened_at",
    "next_at", "playbook", "target", "zone", "reason", "doc", "owner", "epoch", "lease_until",
    "wake_at",
)  # fmt: skip
_RUN = (
    "id", "episode_id", "playbook", "target", "lock", "zone", "phase", "result", "started_at",
    "finished_at", "doc",
)  # fmt: skip
_STEP = ("run_id", "place", "step", "attempt", "undo", "outcome", "doc")
_FACT = ("seq", "kind", "at", "episode_id", "run_id", "reason", "body", "previous", "hash")


def _event(row: list[Any], place: int) -> tuple[Any, ...]:
    id_, folded, received_at, body = row
    alert = decode_alert(body)
    return (
        bytes.fromhex(id_), 0, place, series(alert.source, alert.fingerprint),
        alert.polled_at is not None, received_at, bool(folded), body,
    )  # fmt: skip


def _rejected(row: list[Any]) -> tuple[Any, ...]:
    source, problem, payload, received_at = row
    id_ = bytes.fromhex(digest(source, problem, payload))
    return id_, plain(source), plain(problem), plain(payload), received_at


def _episode(row: list[Any]) -> tuple[Any, ...]:
    doc, zone, owner, epoch, _, wake_at = row
    one = decode_episode(doc)
    return (
        one.id, series(one.source, one.fingerprint), one.ordinal, plain(one.source),
        plain(one.name), one.state, one.firing, one.severity_rank, one.opened_at, one.next_at,
        plain(one.playbook), plain(one.target), plain(zone), one.reason or "", doc, owner,
        epoch + 1, 0.0, wake_at,
    )  # fmt: skip


def _run(doc: str) -> tuple[Any, ...]:
    run = decode_run(doc)
    plan = run.plan
    return (
        run.id, run.episode_id, plain(plan.playbook), plain(str(plan.target)),
        plain(str(plan.lock)), plain(plan.zone), str(run.phase), run.result, run.started_at,
        run.finished_at, doc,
    )  # fmt: skip


def _step(run_id: str, doc: str, place: int) -> tuple[Any, ...]:
    step = decode_step(doc)
    return run_id, place, step.step, step.attempt, step.undo, step.outcome, doc


def _fact(row: list[Any]) -> tuple[Any, ...]:
    seq, kind, at, episode_id, run_id, reason, detail, data, previous, hashed = row
    body = encode({"detail": detail, "data": msgspec.Raw(data.encode())})
    return seq, kind, at, episode_id, run_id, reason, body, previous, hashed
