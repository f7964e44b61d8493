"""Spawned processes and relays of a local cluster, shared by both local kinds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bed.enclosure import Enclosure, python_environment, python_module
from tests.bed.errors import BedError
from tests.bed.processes import Process, launch
from tests.bed.runs import Run
from tests.bed.waiting import until


def spawn(
    run: Run,
    hub: Enclosure | None,
    name: str,
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    log: Path | None,
) -> Process:
    """Start a process of a run, in the hub's network when there is a hub."""
    old = run.process(name)
    if old is not None:
        if old.alive():
            raise BedError(f"a process called {name!r} runs already: stop it or take another name")
        old.forget()
    return launch(
        name,
        hub.entering(argv, network_only=True) if hub else argv,
        log=log or run.logs / f"{name}.log",
        env=os.environ if env is None else env,
        records=run.records,
    )


def relay(run: Run, hub: Enclosure, port: int, *, listen: str, host: str = "127.0.0.1") -> int:
    """The port at which a relay listens; one relay an address and direction is kept."""
    name = f"relay-{listen}-{host}-{port}"
    told = run.folder / f"{name}.port"
    known = run.process(name)
    if known is not None and known.alive() and told.exists():
        return int(told.read_text())
    told.unlink(missing_ok=True)
    arguments = [
        *("--namespace", f"/proc/{hub.init.pid}/ns/net"),
        *("--listen", listen),
        *("--to", f"{host}:{port}"),
        *("--told", str(told)),
    ]
    process = launch(
        name,
        python_module("tests.bed.relay", *arguments),
        log=run.logs / f"{name}.log",
        env=python_environment(),
        records=run.records,
    )

    def bound() -> bool:
        if not process.alive():
            raise RuntimeError(f"the relay for port {port} ended:\n{process.tail()}")
        return told.exists()

    try:
        until(bound, f"the relay for port {port}", timeout=20, interval=0.02)
    except RuntimeError as error:
        raise BedError(str(error)) from error
    return int(told.read_text())
