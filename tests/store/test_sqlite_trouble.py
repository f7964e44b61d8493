"""What the embedded journal does when the disk is full, slow, broken or in someone else's hands."""

import asyncio
import gc
import resource
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from healer.domain.alert import Alert
from healer.domain.episode import fold
from healer.domain.pause import Pause
from healer.errors import Conflict, StoreUnavailable
from healer.kernel.crashpoints import NO_CRASH, CrashPoints
from healer.store.chain import verify_chain
from healer.store.sqlite import SqliteStore
from healer.store.sqlite.file import open_writer, prepare
from healer.store.sqlite.writer import Writer
from healer.testing.clock import START, FakeClock
from tests.store.disks import small_disk
from tests.store.values import alert, opened


class Gate:
    """Stops the writer at one named point until it is opened."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.reached = threading.Event()
        self.open = threading.Event()

    def reach(self, name: str) -> None:
        if name == self._name:
            self.reached.set()
            assert self.open.wait(20)


@pytest.fixture(autouse=True)
def little_garbage() -> Iterator[None]:
    """What earlier tests left behind is not walked again in the middle of a measurement."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


async def patient(path: Path, crash: CrashPoints = NO_CRASH) -> SqliteStore:
    """A journal whose callers wait long enough for a disk that others use as well."""
    return await SqliteStore.open(
        path, clock=FakeClock(), crash=crash, accept_seconds=20, write_seconds=20
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = await patient(tmp_path / "j.db")
    yield made
    await made.close()


async def _quickest_refusal(store: SqliteStore, one: Alert, why: str) -> float:
    """Seconds until the alert is refused: the least of some, since other processes take turns."""
    spent = []
    for _ in range(5):
        began = time.perf_counter()
        with pytest.raises(StoreUnavailable, match=why):
            await store.accept([one], (), START)
        spent.append(time.perf_counter() - began)
    return min(spent)


async def _fill(store: SqliteStore, kept: list[Alert]) -> None:
    for number in range(100_000):
        one = alert(f"n{number}", annotations={"summary": "x" * 4000})
        await store.accept([one], (), START)
        kept.append(one)


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    """On a full disk writes raise StoreUnavailable at once; with space again they go on."""
    with small_disk(tmp_path / "small") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * 1024 * 1024)
        store = await patient(disk / "j.db")
        kept: list[Alert] = []
        with pytest.raises(StoreUnavailable, match=r"SQLITE_FULL.*free space"):
            await _fill(store, kept)
        assert len(kept) > 100
        large = alert("more", annotations={"summary": "x" * 9000})
        assert await _quickest_refusal(store, large, "SQLITE_FULL") < 0.1
        assert (await store.counts())["inbox"] == len(kept)
        ballast.unlink()
        assert (await store.accept([alert("more")], (), START)).new == 1
        assert (await store.accept(kept, (), START)).new == 0
        await store.close()
        with closing(sqlite3.connect(disk / "j.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_disk_that_refuses_writes_is_survived(tmp_path: Path) -> None:
    """When the kernel refuses to write the file, nothing is lost and a new connection goes on."""
    store = await patient(tmp_path / "j.db")
    await store.accept([alert("a")], (), START)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "j.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(StoreUnavailable, match="SQLITE_IOERR"):
            await store.accept([alert("b")], (), START)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    receipt = await store.accept([alert("a"), alert("b")], (), START)
    assert (receipt.new, receipt.duplicate) == (1, 1)
    assert len(await store.fold(fold, START, 10)) == 2
    assert await verify_chain(store) is None
    await store.close()


class FailingConnection(sqlite3.Connection):
    """A connection whose next commit fails with the given code, its transaction still open."""

    fail_next = ""

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
        if sql == "COMMIT" and FailingConnection.fail_next:
            error = sqlite3.OperationalError("the commit failed")
            error.sqlite_errorname = FailingConnection.fail_next
            FailingConnection.fail_next = ""
            raise error
        return super().execute(sql, *values)


@pytest.mark.parametrize(("code", "connections"), [("SQLITE_IOERR_FSYNC", 2), ("SQLITE_BUSY", 1)])
async def test_a_failed_commit_is_undone(tmp_path: Path, code: str, connections: int) -> None:
    """Nothing of a failed commit is there, and after a failed fsync its connection is closed."""
    path = tmp_path / "j.db"
    prepare(path, START)
    made: list[sqlite3.Connection] = []

    def connect() -> sqlite3.Connection:
        made.append(
            sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, factory=FailingConnection
            )
        )
        return made[-1]

    def put(zone: str, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO flow VALUES (?, 0, 0)", (zone,))

    writer = Writer("test", connect, NO_CRASH)
    await writer.write("write", partial(put, "a"), 5.0)
    FailingConnection.fail_next = code
    with pytest.raises(StoreUnavailable, match=code):
        await writer.write("write", partial(put, "b"), 5.0)
    await writer.write("write", partial(put, "c"), 5.0)
    assert len(made) == connections
    for replaced in made[:-1]:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            replaced.execute("SELECT 1")
    assert made[-1].execute("SELECT zone FROM flow ORDER BY zone").fetchall() == [("a",), ("c",)]
    await writer.close()


class Stumble:
    """Raises once, at the first commit of its kind."""

    def __init__(self, name: str) -> None:
        self._name = name

    def reach(self, name: str) -> None:
        if name == self._name:
            self._name = ""
            raise LookupError("nobody foresaw this")


async def test_the_writer_outlives_the_unforeseen(tmp_path: Path) -> None:
    """An error of no known kind in the middle of a commit undoes it, and the next one succeeds."""
    path = tmp_path / "j.db"
    store = await patient(path, Stumble("before:write"))
    with pytest.raises(StoreUnavailable, match="nobody foresaw this"):
        await store.set_pause(Pause("lost", "why", "ann", START))
    await store.set_pause(Pause("kept", "why", "ann", START))
    assert [pause.id for pause in await store.pauses()] == ["kept"]
    await store.close()


async def test_a_lost_file_is_not_made_anew(tmp_path: Path, store: SqliteStore) -> None:
    """The writer never makes a new, empty journal in the place of one that was taken away."""
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        open_writer(tmp_path / "gone.db")
    assert not (tmp_path / "gone.db").exists()


async def test_someone_elses_lock_is_survived(tmp_path: Path, store: SqliteStore) -> None:
    """While a stranger holds the file writes are refused within 100 ms, and go on afterwards."""
    with closing(sqlite3.connect(tmp_path / "j.db", isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        assert await _quickest_refusal(store, alert("a"), "locked|within") < 0.1
        stranger.execute("ROLLBACK")
    assert (await store.accept([alert("b")], (), START)).new == 1


async def test_a_slow_disk_is_not_waited_for(tmp_path: Path) -> None:
    """An accept is given up in under 100 ms when the disk is slow, and may yet become durable."""
    gate = Gate("before:accept-commit")
    store = await SqliteStore.open(tmp_path / "j.db", clock=FakeClock(), crash=gate)
    try:
        assert await _quickest_refusal(store, alert("a"), "not on disk within") < 0.1
    finally:
        gate.open.set()
        await store.close()
    again = await patient(tmp_path / "j.db")
    assert (await again.accept([alert("a")], (), START)).duplicate == 1
    await again.close()


async def test_what_was_not_begun_in_time_never_happens(tmp_path: Path) -> None:
    """A write that waited too long behind another is withdrawn, so its refusal is true."""
    gate = Gate("before:accept-commit")
    store = await SqliteStore.open(
        tmp_path / "j.db", clock=FakeClock(), crash=gate, accept_seconds=20, write_seconds=0.05
    )
    try:
        first = asyncio.create_task(store.accept([alert("a")], (), START))
        assert await asyncio.to_thread(gate.reached.wait, 20)
        with pytest.raises(StoreUnavailable):
            await store.set_pause(Pause("p", "why", "ann", START))
        gate.open.set()
        assert (await first).new == 1
        await store.accept([alert("b")], (), START)
        assert await store.pauses() == []
    finally:
        gate.open.set()
        await store.close()


async def test_a_begun_write_is_waited_for(tmp_path: Path) -> None:
    """A transition whose commit is under way is never reported as refused."""
    gate = Gate("before:write")
    store = await SqliteStore.open(
        tmp_path / "j.db", clock=FakeClock(), crash=gate, write_seconds=0.5
    )
    try:
        pausing = asyncio.create_task(store.set_pause(Pause("p", "why", "ann", START)))
        done, _ = await asyncio.wait({pausing}, timeout=1.0)
        assert not done
        gate.open.set()
        await pausing
        assert len(await store.pauses()) == 1
    finally:
        gate.open.set()
        await store.close()


async def test_a_long_queue_is_refused_at_once(tmp_path: Path) -> None:
    """When too much waits for the disk, more is refused without waiting."""
    gate = Gate("before:accept-commit")
    store = await patient(tmp_path / "j.db", gate)
    slices = [[alert(f"{g}-{n}") for n in range(256)] for g in range(64)]
    try:
        first = asyncio.create_task(store.accept([alert("first")], (), START))
        assert await asyncio.to_thread(gate.reached.wait, 20)
        waiting = [asyncio.create_task(store.accept(part, (), START)) for part in slices]
        await FakeClock().sleep(0)
        assert await _quickest_refusal(store, alert("last"), "wait for the disk already") < 0.02
        gate.open.set()
        assert (await first).new == 1
        assert sum(receipt.new for receipt in await asyncio.gather(*waiting)) == 64 * 256
        assert (await store.accept([alert("last")], (), START)).new == 1
    finally:
        gate.open.set()
        await store.close()


async def test_a_cancelled_caller_stops_nobody(tmp_path: Path) -> None:
    """A caller that goes away takes its waiting write along and leaves the others theirs."""
    gate = Gate("before:accept-commit")
    store = await patient(tmp_path / "j.db", gate)
    try:
        first = asyncio.create_task(store.accept([alert("a")], (), START))
        assert await asyncio.to_thread(gate.reached.wait, 20)
        gone = asyncio.create_task(store.accept([alert("gone")], (), START))
        stays = asyncio.create_task(store.accept([alert("stays")], (), START))
        await FakeClock().sleep(0)
        gone.cancel()
        await asyncio.wait({gone})
        gate.open.set()
        assert [(await task).new for task in (first, stays)] == [1, 1]
        folded = await store.fold(fold, START, 10)
        assert [entry.labels["pod"] for entry, _ in folded] == ["a", "stays"]
    finally:
        gate.open.set()
        await store.close()


async def test_one_bad_write_spoils_no_other(tmp_path: Path) -> None:
    """In a shared commit a write that fails is undone alone, with its own error."""
    path = tmp_path / "j.db"
    prepare(path, START)
    gate = Gate("before:write")
    writer = Writer("test", partial(open_writer, path), gate)

    def put(zone: str, recovered: int | None, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO flow VALUES (?, 0, ?)", (zone, 0))
        connection.execute("UPDATE flow SET recovered = ? WHERE zone = ?", (recovered, zone))
        if recovered == 2:
            raise LookupError(zone)

    first = asyncio.create_task(writer.write("write", partial(put, "first", 1), 5.0))
    assert await asyncio.to_thread(gate.reached.wait, 20)
    group = [
        writer.write("write", partial(put, zone, value), 5.0)
        for zone, value in (("good", 1), ("null", None), ("bad", 2), ("fine", 1))
    ]
    gathered = asyncio.gather(*group, return_exceptions=True)
    await FakeClock().sleep(0)
    gate.open.set()
    await first
    good, null, bad, fine = await gathered
    assert (good, fine) == (None, None)
    assert isinstance(null, Conflict)
    assert isinstance(bad, LookupError)
    await writer.close()
    with closing(sqlite3.connect(path)) as connection:
        zones = connection.execute("SELECT zone FROM flow ORDER BY zone").fetchall()
    assert zones == [("fine",), ("first",), ("good",)]


async def test_a_reader_never_blocks_the_writer(store: SqliteStore) -> None:
    """Writes are committed while a long read goes on, and that read stays at its moment."""
    await opened(store, "a")
    began, finish = threading.Event(), threading.Event()

    def long_look(connection: sqlite3.Connection) -> list[int]:
        count = "SELECT count(*) FROM event"
        before = connection.execute(count).fetchone()[0]
        began.set()
        assert finish.wait(20)
        return [before, connection.execute(count).fetchone()[0]]

    looking = asyncio.create_task(store._readers.read(long_look))
    assert await asyncio.to_thread(began.wait, 20)
    try:
        for number in range(400):  # enough for a checkpoint to be due
            await store.accept([alert(f"n{number}")], (), START)
        assert (await store.counts())["inbox"] == 400
    finally:
        finish.set()
    assert await looking == [1, 1]


async def test_a_storm_does_not_block_the_event_loop(store: SqliteStore) -> None:
    """Accepting and folding 10,000 alerts never keeps the event loop busy for 50 ms at a time."""
    alerts = [alert(f"{number}") for number in range(10_000)]
    busiest = 0.0

    async def watch() -> None:
        nonlocal busiest
        while True:
            before = time.thread_time()
            await FakeClock().sleep(0)
            busiest = max(busiest, time.thread_time() - before)

    watching = asyncio.create_task(watch())
    await store.accept(alerts, (), START)
    while await store.fold(fold, START, 500):
        pass
    watching.cancel()
    assert busiest < 0.05
    assert (await store.counts())["episodes/open"] == 10_000


async def test_old_events_are_forgotten_but_never_unfolded_ones(store: SqliteStore) -> None:
    """Folded polls go after an hour and deliveries after thirty days; what waits always stays."""
    polled = alert("polled", polled_at=START)
    await store.accept([polled, alert("told")], (), START)
    await store.fold(fold, START, 10)
    waiting = [alert(name, polled_at=START) for name in ("next", "waits")]
    await store.accept(waiting, (), START)
    later = START + 7200
    assert [entry for entry, _ in await store.fold(fold, later, 1)] == waiting[:1]
    assert (await store.accept([alert("told"), polled, waiting[1]], (), later)).new == 1
    assert [entry for entry, _ in await store.fold(fold, later, 10)] == [waiting[1], polled]
    month = START + 31 * 86400
    await store.accept([alert("new")], (), month)
    await store.fold(fold, month, 10)
    assert (await store.accept([alert("told")], (), month)).new == 1
