"""The journal's chain, looked through from outside."""

import sqlite3
from pathlib import Path

from healer.store.sqlite.audit import verify_file
from healer.testing.builders import a_playbook
from tests.cli.test_commands import healer
from tests.engine.stage import a_stage


async def _journal(folder: Path) -> Path:
    async with a_stage(folder, a_playbook()) as stage:
        pod = stage.pod()
        stage.break_pod(pod)
        await stage.fire(pod)
        await stage.settle()
        # While healer has it open.
        assert verify_file(folder / "healer.db")[2] is None
    return folder / "healer.db"


def _tamper(path: Path, trigger: str, statement: str) -> None:
    with sqlite3.connect(path) as file:
        file.execute(f"DROP TRIGGER {trigger}")
        file.execute(statement)
    file.close()


async def test_a_whole_journal_is_whole(tmp_path: Path) -> None:
    """An untouched journal is whole, and its head is accepted as anchor the next time."""
    path = await _journal(tmp_path)
    seq, digest, broken = verify_file(path)
    assert seq >= 3
    assert broken is None
    said = await healer("verify-journal", str(path), "--head", f"{seq}:{digest[:16]}")
    assert (said.code, said.out) == (0, f"whole: {seq} facts, head {seq}:{digest}\n")


async def test_a_changed_fact_is_named(tmp_path: Path) -> None:
    """A fact that somebody changed is named, with exit code 1."""
    path = await _journal(tmp_path)
    _tamper(path, "fact_stays", "UPDATE fact SET detail = 'nothing happened' WHERE seq = 2")
    said = await healer("verify-journal", str(path))
    assert said.code == 1
    assert said.out.startswith("broken at fact 2:")


async def test_a_cut_end_is_seen_by_the_anchor(tmp_path: Path) -> None:
    """Facts cut off the end look whole from inside, and the anchor kept elsewhere shows it."""
    path = await _journal(tmp_path)
    seq, digest, _ = verify_file(path)
    _tamper(path, "fact_remains", f"DELETE FROM fact WHERE seq = {seq}")
    assert verify_file(path)[2] is None
    assert verify_file(path, (seq, digest))[2] == seq
    assert verify_file(path, (seq - 1, "0" * 64))[2] == seq - 1
