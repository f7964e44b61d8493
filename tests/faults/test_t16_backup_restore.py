"""T16: backup under load, restore, copy to PostgreSQL: nothing is lost, old owners are fenced."""

import asyncio
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from healer.cli import cli
from healer.domain.episode import fold
from healer.domain.journal import FactKind
from healer.domain.outcome import Outcome
from healer.errors import Fenced
from healer.ports import Change, Store
from healer.store import portable
from healer.store.chain import verify_chain
from healer.store.postgres import PostgresStore
from healer.store.sqlite import SqliteStore
from healer.store.sqlite.file import FileLock, open_writer
from healer.testing.builders import a_playbook
from healer.testing.clock import START, FakeClock
from tests.bed.errors import UnavailableError
from tests.contract.store_engines import ENGINES
from tests.engine.stage import Stage
from tests.postgres.server import shared
from tests.store.values import alert, claimed, run, running, step


def healer(*arguments: str | Path) -> Result:
    """The command in this process."""
    return CliRunner().invoke(cli, ["store", *map(str, arguments)])


def done(*arguments: str | Path) -> str:
    """What the command said, having done it."""
    result = healer(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def empty_database(label: str) -> str:
    try:
        return shared().new_database(label)
    except UnavailableError as error:
        pytest.skip(f"no PostgreSQL: {error}")


def place(engine: str, folder: Path, label: str) -> str:
    if engine == "sqlite":
        (folder / label).mkdir(exist_ok=True)
        return str(folder / label / "journal.db")
    return empty_database(f"t16_{label}_{abs(hash(folder)):x}")


async def opened_at(where: str, clock: FakeClock) -> Store:
    if where.startswith("postgresql:"):
        return await PostgresStore.open(where, clock=clock, accept_seconds=10.0)
    return await SqliteStore.open(where, clock=clock, accept_seconds=10.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sqlite", "sqlite"),
        ("sqlite", "postgres"),
        ("postgres", "postgres"),
        ("postgres", "sqlite"),
    ],
)
async def test_a_backup_under_load_is_restored(one: str, other: str, tmp_path: Path) -> None:
    """A backup made while alerts pour in holds all that was acknowledged and fences old owners."""
    clock = FakeClock()
    first, second = place(one, tmp_path, "first"), place(other, tmp_path, "second")
    file = tmp_path / "backup.jsonl"
    store = await opened_at(first, clock)
    acknowledged: set[str] = set()
    enough = asyncio.Event()

    async def pour() -> None:
        number = 0
        while True:
            number += 1
            name = f"load-{number}"
            await store.accept([alert(name, fingerprint=name)], [], START)
            acknowledged.add(name)
            if number >= 20:
                enough.set()

    try:
        [held, closed] = await claimed(store, "a", "b")
        the_run = run(held.episode)
        held = await store.commit(held, running(held, the_run, step=step(the_run)))
        over = run(closed.episode)
        done_step = step(over, outcome=Outcome.APPLIED)
        await store.commit(closed, running(closed, over, step=done_step))
        pouring = asyncio.create_task(pour())
        await enough.wait()
        before = set(acknowledged)
        said = await asyncio.to_thread(done, "backup", file, "--store", first)
        pouring.cancel()
        await asyncio.wait({pouring})
        head = (await store.facts())[-1].hash
    finally:
        await store.close()
    assert f":{head}" in said
    assert "restored" in await asyncio.to_thread(done, "restore", file, "--store", second)
    again = await asyncio.to_thread(healer, "restore", file, "--store", second)
    assert again.exit_code == 4, again.output
    store = await opened_at(second, clock)
    try:
        assert await verify_chain(store) is None
        with pytest.raises(Fenced):
            await store.commit(held, Change(held.episode))
        claims = {c.episode.id: c for c in await store.claim("heir", START, 30.0, 10)}
        taken = claims[held.episode.id]
        assert taken.epoch > held.epoch
        assert taken.run == replace(the_run, steps=(step(the_run),))
        other_run = claims[closed.episode.id].run
        assert other_run is not None
        assert other_run.steps == (done_step,)
        took = [s.fact for s in await store.facts() if s.fact.kind is FactKind.TOOK_OVER]
        assert {fact.data["from"] for fact in took} == {held.owner}
        folded = await store.fold(fold, START, 100_000)
        names = {each.fingerprint for each, _ in folded}
        assert before <= names <= acknowledged
        assert (await store.accept([alert("load-1", fingerprint="load-1")], [], START)).new == 0
    finally:
        await store.close()


class _Died(BaseException):
    """The process is gone."""


class _DiesAfterEffect:
    def reach(self, name: str) -> None:
        if name == "after:effect":
            raise _Died


async def test_a_copy_with_an_open_intent_is_looked_up_by_the_new_engine(tmp_path: Path) -> None:
    """A run that died between effect and outcome is copied, looked up, and not done again."""
    clock, where = FakeClock(), empty_database(f"t16_copy_{abs(hash(tmp_path)):x}")
    file = tmp_path / "journal.db"
    store = await SqliteStore.open(file, clock=clock, accept_seconds=10.0)
    stage = Stage(store, clock, a_playbook())
    pod = stage.pod()
    stage.break_pod(pod)
    id_ = await stage.fire(pod)
    stage.world.crash = _DiesAfterEffect()
    with pytest.raises(_Died):
        await stage.settle()
    running_still = await asyncio.to_thread(healer, "copy", "--from", file, "--to", where)
    assert running_still.exit_code == 2, running_still.output
    assert "owns this journal" in running_still.output
    old = await store.facts()
    await store.close()
    assert stage.deleted() == [pod.name]
    await asyncio.to_thread(done, "copy", "--from", file, "--to", where)
    stage.store = stage.world.store = await PostgresStore.open(  # type: ignore[assignment]
        where, clock=clock, accept_seconds=10.0
    )
    try:
        assert (await stage.store.facts())[: len(old)] == old
        stage.world.crash = type("Alive", (), {"reach": lambda *_: None})()
        await stage.settle()
        outcomes = [f for f in await stage.facts(id_) if f.kind is FactKind.OUTCOME]
        assert [f.data["outcome"] for f in outcomes] == [str(Outcome.APPLIED)]
        assert "looking it up" in outcomes[0].detail
        assert stage.deleted() == [pod.name]
        assert await verify_chain(stage.store) is None
    finally:
        await stage.store.close()


async def test_a_damaged_backup_is_refused(tmp_path: Path) -> None:
    """A backup that lost its end, or one byte of which is another, makes no journal."""
    store = await ENGINES["sqlite"](tmp_path, FakeClock())
    await claimed(store, "a", "b")
    await store.close()
    file, target = tmp_path / "backup.jsonl", tmp_path / "new.db"
    await asyncio.to_thread(done, "backup", file, "--store", tmp_path / "journal.db")
    whole = file.read_bytes()
    for bad in (whole[:-60], whole.replace(b"web", b"wob", 1), whole.replace(b"1", b"2", 1), b""):
        assert bad != whole
        file.write_bytes(bad)
        result = await asyncio.to_thread(healer, "restore", file, "--store", target)
        assert result.exit_code in {2, 4}, result.output
        assert not target.exists()
    file.write_bytes(whole)
    assert portable.verified(file).counts["episode"] == 2
    again = await asyncio.to_thread(healer, "backup", file, "--store", tmp_path / "journal.db")
    assert again.exit_code == 4, again.output


async def test_check_finds_a_forged_fact(tmp_path: Path) -> None:
    """Check is content with a whole journal and finds a fact that was changed behind its back."""
    path = tmp_path / "journal.db"
    store = await ENGINES["sqlite"](tmp_path, FakeClock())
    await claimed(store, "a", "b")
    assert "whole" in await asyncio.to_thread(done, "check", "--store", path)
    await store.close()
    with closing(open_writer(path)) as connection:
        connection.execute("DROP TRIGGER fact_stays")
        connection.execute("UPDATE fact SET detail = 'nothing happened' WHERE seq = 1")
    result = await asyncio.to_thread(healer, "check", "--store", path)
    assert result.exit_code == 1
    assert "broken at 1" in result.output


async def test_migrate_tells_before_it_does(tmp_path: Path) -> None:
    """Migrating tells from and to, does nothing on a dry run, and waits for no running daemon."""
    path = tmp_path / "journal.db"
    assert "0 would be" in await asyncio.to_thread(done, "migrate", "--dry-run", "--store", path)
    assert not path.exists()
    assert "0 was" in await asyncio.to_thread(done, "migrate", "--store", path)
    assert "nothing to do" in await asyncio.to_thread(done, "migrate", "--store", path)
    path.unlink()
    lock = FileLock(path)
    try:
        held = await asyncio.to_thread(healer, "migrate", "--store", path)
        assert held.exit_code == 2, held.output
    finally:
        lock.release()
