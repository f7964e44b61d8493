"""Whether what was acknowledged is in the journal, looked at after the process is gone."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from healer.kernel.clock import SystemClock
from healer.settings.listen import Limits
from healer.store.chain import verify_chain
from healer.store.sqlite import SqliteStore
from healer.web.alertmanager import parse


async def missing_in(path: Path, bodies: Iterable[bytes]) -> int:
    """How many of the alerts are not there; raises when the file or its chain is damaged."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    alerts = [alert for each in bodies for alert in parse(each, "alertmanager", Limits()).alerts]
    clock = SystemClock()
    store = await SqliteStore.open(path, clock=clock, accept_seconds=60.0, write_seconds=60.0)
    try:
        receipt = await store.accept(alerts, (), clock.now())
        assert await verify_chain(store) is None
    finally:
        await store.close()
    return receipt.new
