"""PostgreSQL restarts, freezes, loses an answer, or is asked for what it cannot keep."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from healer.domain.episode import fold
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Outcome, Result
from healer.domain.run import Phase
from healer.errors import ConfigError, Conflict, StoreUnavailable
from healer.kernel.clock import SystemClock
from healer.ports import Change, EpisodeFilter
from healer.store.chain import verify_chain
from healer.store.postgres import PostgresStore
from healer.testing.clock import START
from tests.bed.errors import BedError, UnavailableError
from tests.postgres import Server
from tests.postgres.server import quickest
from tests.store.values import alert, claimed, opened, query, run, running, step

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that may be stopped and frozen: nobody else is on it."""
    try:
        server = Server(Path(tempfile.mkdtemp(prefix="healer-pg-", dir=quickest())))
    except UnavailableError as error:
        pytest.skip(f"no PostgreSQL: {error}")
    with server:
        yield server


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as open_things:
        yield open_things


async def at(url: str, stack: AsyncExitStack, **more: object) -> PostgresStore:
    store = await PostgresStore.open(url, **more)  # type: ignore[arg-type]
    stack.push_async_callback(store.close)
    return store


class Forgetful:
    """A socket before the server that can lose the answer to the next COMMIT, once it is done."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.folder = Path(tempfile.mkdtemp(prefix="healer-relay-", dir="/tmp"))
        self.lose = False
        self.lost = 0

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = self._server.folder / ".s.PGSQL.5432"
        inner_reader, inner_writer = await asyncio.open_unix_connection(path)
        waits = asyncio.Event()

        async def there() -> None:
            while data := await reader.read(65536):
                if self.lose and b"COMMIT\0" in data:
                    self.lose = False
                    waits.set()
                inner_writer.write(data)

        async def back() -> None:
            while data := await inner_reader.read(65536):
                if waits.is_set():
                    self.lost += 1
                    return
                writer.write(data)

        tasks = {asyncio.create_task(there()), asyncio.create_task(back())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
            inner_writer.close()

    async def serve(self, stack: AsyncExitStack) -> None:
        listener = await asyncio.start_unix_server(self._carry, self.folder / ".s.PGSQL.5432")
        stack.callback(listener.close)
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def dsn(self, url: str) -> str:
        return url.replace(str(self._server.folder), str(self.folder))


async def test_a_commit_without_answer_is_asked_for_and_counts_once(
    own: Server, stack: AsyncExitStack
) -> None:
    """When the answer to a COMMIT is lost the change is reported as done and is there once."""
    relay = Forgetful(own)
    await relay.serve(stack)
    store = await at(relay.dsn(own.new_database()), stack, accept_seconds=20, write_seconds=20)
    [held] = await claimed(store, "a", now=START)
    the_run = run(held.episode)
    fact = Fact(FactKind.INTENT, START, held.episode.id, the_run.id)
    relay.lose = True
    held = await store.commit(held, running(held, the_run, step=step(the_run), facts=(fact,)))
    assert relay.lost == 1
    assert held.run is not None
    assert held.run.open_step is not None
    facts = [sealed.fact.kind for sealed in await store.facts()]
    assert facts.count(FactKind.INTENT) == 1
    relay.lose = True
    assert len(await opened(store, "b")) == 1
    assert relay.lost == 2
    assert await verify_chain(store) is None


async def test_a_crash_under_load_loses_nothing_and_is_recovered_from(
    own: Server, stack: AsyncExitStack
) -> None:
    """After an immediate stop under load every acknowledged alert is there, and work goes on."""
    store = await at(own.new_database(), stack, write_seconds=10)
    kept: list[str] = []
    refused = 0
    stop = asyncio.Event()

    async def deliver(sender: int) -> None:
        nonlocal refused
        number = 0
        while not stop.is_set():
            number += 1
            one = alert(fingerprint=f"{sender}/{number}")
            try:
                await store.accept([one], (), START)
            except StoreUnavailable:
                refused += 1
                await CLOCK.sleep(0.01)
            else:
                kept.append(one.event_id)

    async with asyncio.TaskGroup() as senders:
        for sender in range(8):
            senders.create_task(deliver(sender))
        while len(kept) < 200:
            await CLOCK.sleep(0.01)
        await asyncio.to_thread(own.stop, "immediate")
        before = len(kept)
        await asyncio.to_thread(own.start)
        loop = asyncio.get_running_loop()
        began = loop.time()
        while len(kept) == before:
            await CLOCK.sleep(0.005)
        print(f"first commit {loop.time() - began:.3f} s after PostgreSQL was back")
        assert loop.time() - began < 5.0
        while len(kept) < before + 50:
            await CLOCK.sleep(0.01)
        stop.set()
    assert refused > 0
    name = store._database.name.rpartition("/")[2]
    events = {row[0] for row in own.sql("SELECT encode(id, 'hex') FROM event", name)}
    assert set(kept) <= events


async def test_a_frozen_server_is_refused_quickly_and_then_gone_on_with(
    own: Server, stack: AsyncExitStack
) -> None:
    """While PostgreSQL answers nothing an alert is refused at its deadline; then it is taken."""
    store = await at(own.new_database(), stack)
    while True:  # the first one may be slow on a busy machine
        with suppress(StoreUnavailable):
            await store.accept([alert("a")], (), START)
            break
    loop = asyncio.get_running_loop()
    own.freeze()
    try:
        began = loop.time()
        with pytest.raises(StoreUnavailable):
            await store.accept([alert("b")], (), START)
        took = loop.time() - began
    finally:
        own.thaw()
    print(f"refused after {1000 * took:.0f} ms")
    assert took < 1.0
    async with asyncio.timeout(30):
        while True:
            try:
                await store.accept([alert("c")], (), START)
                break
            except StoreUnavailable:
                await CLOCK.sleep(0.02)


async def test_one_refused_change_takes_no_other_with_it(
    own: Server, stack: AsyncExitStack
) -> None:
    """Of changes committed together only the one that PostgreSQL cannot keep is refused."""
    store = await at(own.new_database(), stack, accept_seconds=20, write_seconds=20)
    claims = await claimed(store, "a", "b", "c")
    changes = [
        Change(replace(held.episode, detail="done", playbook=f"p{number}"))
        for number, held in enumerate(claims)
    ]
    nul = Fact(FactKind.HELD, START, claims[1].episode.id, run_id="\0")
    changes[1] = replace(changes[1], facts=(nul,))
    results = await asyncio.gather(
        *(store.commit(held, change) for held, change in zip(claims, changes, strict=True)),
        return_exceptions=True,
    )
    assert isinstance(results[1], Conflict)
    assert not any(isinstance(results[number], BaseException) for number in (0, 2))
    done = {e.id for e in await store.episodes(EpisodeFilter()) if e.detail == "done"}
    assert done == {claims[0].episode.id, claims[2].episode.id}


async def test_hostile_text_is_kept(own: Server, stack: AsyncExitStack) -> None:
    """NUL in an alert's labels, fingerprint and a fact's detail is kept, and the chain holds."""
    store = await at(own.new_database(), stack, accept_seconds=20, write_seconds=20)
    bad = alert(fingerprint="f\0", labels={"alertname": "A\0B", "pod": "\0"})
    await store.accept([bad], (), START)
    [(kept, result)] = await store.fold(fold, START, 10)
    assert kept == bad
    assert result.episode is not None
    assert await store.episode(result.episode.id) == result.episode
    assert "A\0B" in (await store.facts())[0].fact.detail
    assert await verify_chain(store) is None


async def test_facts_cannot_be_changed(own: Server, stack: AsyncExitStack) -> None:
    """The database itself refuses to change, delete, truncate or forge a fact."""
    url = own.new_database()
    store = await at(url, stack, accept_seconds=20, write_seconds=20)
    await opened(store, "a")
    name = store._database.name.rpartition("/")[2]
    for statement in (
        "UPDATE fact SET body = '{}'",
        "DELETE FROM fact",
        "TRUNCATE fact",
        "INSERT INTO fact SELECT 2, kind, at, '', '', null, body, repeat('1', 64), hash FROM fact",
        "INSERT INTO fact SELECT 3, kind, at, '', '', null, body, hash, hash FROM fact",
    ):
        with pytest.raises(BedError, match="append-only"):
            own.sql(statement, name)


async def test_replicas_may_start_at_once(own: Server, stack: AsyncExitStack) -> None:
    """Several that open an empty database together all succeed, and it is migrated once."""
    url = own.new_database()
    stores = await asyncio.gather(*(PostgresStore.open(url) for _ in range(4)))
    for store in stores:
        stack.push_async_callback(store.close)
    name = stores[0]._database.name.rpartition("/")[2]
    assert own.sql("SELECT version FROM healer_schema", name) == [["1"]]


async def test_one_version_ahead_is_worked_with_and_two_are_refused(
    own: Server, stack: AsyncExitStack
) -> None:
    """A schema one step newer than this healer is used as it is, two steps newer is refused."""
    url = own.new_database()
    store = await at(url, stack)
    name = store._database.name.rpartition("/")[2]
    own.sql("INSERT INTO healer_schema (version) VALUES (2)", name)
    await at(url, stack)
    own.sql("INSERT INTO healer_schema (version) VALUES (3)", name)
    with pytest.raises(ConfigError, match="newer healer"):
        await PostgresStore.open(url)


async def test_hints_reach_another_replica(own: Server, stack: AsyncExitStack) -> None:
    """What one replica accepts wakes the other one, without waiting for its next look."""
    url = own.new_database()
    one = await at(url, stack, accept_seconds=20)
    two = await at(url, stack)
    told = asyncio.Event()
    two.hints.subscribe(told.set)
    async with asyncio.timeout(30):
        await two.hints.listening.wait()
        await one.accept([alert("a")], (), START)
        await told.wait()


async def test_the_databases_clock_decides(own: Server, stack: AsyncExitStack) -> None:
    """What a replica believes the time to be makes nothing due and no lease longer or shorter."""
    store = await at(own.new_database(), stack, accept_seconds=20, write_seconds=20)
    await opened(store, "a", now=9e9)
    [held] = await store.claim("me", 0.0, 30.0, 10)
    assert await store.claim("other", 9e9, 30.0, 10) == []
    assert abs(held.lease_until - held.episode.opened_at) < 3600
    assert (await store.ledger(query(held.episode.id), 0.0)).locked_by is None


async def test_a_finished_run_leaves_the_active_tables(own: Server, stack: AsyncExitStack) -> None:
    """A run that is done is among the finished ones only, steps and all, and is still read."""
    store = await at(own.new_database(), stack, accept_seconds=20, write_seconds=20)
    [held] = await claimed(store, "a")
    the_run = run(held.episode)
    name = store._database.name.rpartition("/")[2]
    held = await store.commit(held, running(held, the_run, step=step(the_run)))
    count = (
        "SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM step), "
        "(SELECT count(*) FROM step_history)"
    )
    assert own.sql(count, name) == [["1", "1", "0"]]
    done = replace(the_run, phase=Phase.DONE, result=Result.HEALED, finished_at=START)
    applied = step(the_run, outcome=Outcome.APPLIED)
    held = await store.commit(held, running(held, done, step=applied))
    assert own.sql(count, name) == [["0", "0", "1"]]
    assert await store.runs() == [replace(done, steps=(applied,))]
