"""A process that has imported all of healer and forks healers that can be killed.

Importing takes longer than a whole life between two kills should. So one process imports once, and
each healer is a child that it forks: a process of its own, with its own event loop, threads,
sockets and files, that runs what `healer serve` runs and is ended by a real SIGKILL. Only the
imports, and nothing of any earlier life, are in its memory when it starts.

Spoken with over pipes, one JSON object a line. `python -m tests.crash.zygote` is the process
itself; when its input ends, it ends its children and itself.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: A variable in which the parent names what a child runs instead of healer's own start: mutants.
MUTANT = "HEALER_CRASH_MUTANT"


@dataclass
class Life:
    """One healer that was started, and how it ended."""

    name: str
    pid: int
    ended: asyncio.Future[int]  #: exit status; negative: the signal

    async def within(self, seconds: float) -> int | None:
        """How it ended, or None when it lives on after that time."""
        done, _ = await asyncio.wait({self.ended}, timeout=seconds)
        return self.ended.result() if done else None


class Zygote:
    """The parent's side: starts healers, kills them, hears of their ends."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lives: dict[str, Life] = {}
        self._started: dict[str, asyncio.Future[int]] = {}
        self._reader = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, log: Path, mutant: str = "") -> Zygote:
        """Start it; healers can be forked as soon as it has imported everything."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.crash.zygote",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT,
                env={**os.environ, MUTANT: mutant},
            )  # fmt: skip
        return cls(process)

    async def life(self, name: str, config: Path, crash: str, log: Path) -> Life:
        """Fork a healer with the settings file `config` that dies at the crash point `crash`."""
        loop = asyncio.get_running_loop()
        if name in self._lives:
            raise RuntimeError(f"{name} still lives; end it first")
        self._started[name] = loop.create_future()
        self._lives[name] = Life(name, 0, loop.create_future())
        self._say(do="fork", name=name, config=str(config), crash=crash, log=str(log))
        life = self._lives[name]
        life.pid = await self._started[name]
        return life

    def kill(self, name: str) -> None:
        """SIGKILL, if it still lives; by its parent, so never to another process of that id."""
        self._say(do="signal", name=name, number=int(signal.SIGKILL))

    def terminate(self, name: str) -> None:
        """SIGTERM."""
        self._say(do="signal", name=name, number=int(signal.SIGTERM))

    async def stop(self) -> None:
        """End it, and with it whatever it forked."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()
        await self._reader

    def _say(self, **what: Any) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the zygote has no input")
        self._process.stdin.write(json.dumps(what).encode() + b"\n")

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "started" in said:
                self._started.pop(said["started"]).set_result(said["pid"])
            else:
                life = self._lives.pop(said["ended"])
                if not life.ended.done():
                    life.ended.set_result(said["status"])
        for life in self._lives.values():
            if not life.ended.done():
                life.ended.set_exception(RuntimeError("the zygote ended; see its log"))


# ------------------------------------------------------------------------------ the process itself


def main() -> None:
    """Import, then fork and reap until the input ends."""
    import healer.app
    import healer.cli.daemon  # noqa: F401

    born: dict[int, str] = {}
    ready, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.collect()
    gc.freeze()
    rest = b""
    while True:
        readable, _, _ = select.select([0, ready], [], [])
        if ready in readable:
            os.read(ready, 4096)
        if 0 in readable:
            data = os.read(0, 65536)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                _obey(json.loads(line), born, (ready, tell))
        _reap(born)
    for pid in born:
        os.kill(pid, signal.SIGKILL)
    while born:
        pid, _ = os.waitpid(-1, 0)
        born.pop(pid, None)


def _obey(order: dict[str, Any], born: dict[int, str], pipes: tuple[int, int]) -> None:
    if order["do"] == "signal":
        for pid, name in born.items():
            if name == order["name"]:
                os.kill(pid, order["number"])  # not reaped yet, so the id is still its own
        return
    pid = os.fork()
    if pid == 0:
        _child(order, pipes)
    born[pid] = order["name"]
    _answer(started=order["name"], pid=pid)


def _reap(born: dict[int, str]) -> None:
    while born:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _answer(ended=born.pop(pid), status=os.waitstatus_to_exitcode(status))


def _answer(**what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _child(order: dict[str, Any], pipes: tuple[int, int]) -> None:
    """What `healer serve` does, in the process that was just forked; never returns."""
    status = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, to in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(number, to)
        for number in (*pipes, log, nothing):
            os.close(number)
        os.environ["HEALER_CRASH_POINT"] = order["crash"]
        _serve(Path(order["config"]))
        status = 0
    except BaseException as error:  # noqa: BLE001 - nothing may get back into the parent's code
        os.write(2, f"healer ended: {error!r}\n".encode())
    finally:
        os._exit(status)


def _serve(config: Path) -> None:
    from healer.app import run
    from healer.logs import configure
    from healer.settings import load

    mutant = os.environ.get(MUTANT, "")
    if mutant:
        from tests.crash import mutants

        change: Callable[[], None] = getattr(mutants, mutant)
        change()
    settings = load(config, {})
    configure(settings.log.level, settings.log.format)
    asyncio.run(run(settings))


if __name__ == "__main__":
    main()
