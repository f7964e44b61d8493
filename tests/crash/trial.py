"""A whole trial: segments one after the other in one folder, which a second call goes on from."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bed.waiting import now
from tests.crash.engines import Engine, Postgres, Sqlite
from tests.crash.plane import PlaneOnly
from tests.crash.segment import Outcome, Segment
from tests.crash.town import Town
from tests.crash.zygote import Zygote
from tests.postgres import Server

_COUNTERS = ("by_point", "deliveries", "troubles", "outcomes", "results", "kinds")


@dataclass
class Trial:
    """Its state is its folder: `trial.json` and the verdict of every segment."""

    folder: Path
    store: str
    seed: str
    size: int  #: kills of a segment
    mutant: str = ""
    outcomes: list[Outcome] = field(default_factory=list)
    server: Server | None = None  #: of PostgreSQL

    @classmethod
    def at(cls, folder: Path, store: str, seed: str, size: int, mutant: str = "") -> Trial:
        """The trial in `folder`: one that was begun there, else a new one."""
        state = folder / "trial.json"
        if state.exists():
            begun = json.loads(state.read_text())
            if begun["store"] != store:
                raise SystemExit(f"{folder} is a trial of {begun['store']}; give another --resume")
            seed = begun["seed"]
        state.write_text(json.dumps({"store": store, "seed": seed}))
        trial = cls(folder, store, seed, size, mutant)
        for result in sorted(folder.glob("segment-*/result.json")):
            read: dict[str, Any] = json.loads(result.read_text())
            for name in _COUNTERS:
                read[name] = Counter(read[name])
            trial.outcomes.append(Outcome(**read))
        return trial

    @property
    def kills(self) -> int:
        """So far, in finished segments."""
        return sum(outcome.kills for outcome in self.outcomes)

    @property
    def seconds(self) -> float:
        """That the finished segments took."""
        return sum(outcome.seconds for outcome in self.outcomes)

    def total(self, name: str) -> Counter[str]:
        """A counter over all segments."""
        found: Counter[str] = Counter()
        for outcome in self.outcomes:
            found.update(getattr(outcome, name))
        return found

    async def run(self, kills: int, seconds: float | None = None) -> None:
        """Go on until so many kills were done, or so much time is over."""
        if self.kills >= kills:
            return
        until = None if seconds is None else now() + seconds
        plane = PlaneOnly()
        plane.start()
        try:
            async with AsyncExitStack() as stack:
                if self.store == "postgres":
                    self.server = stack.enter_context(Server())
                town = Town(random.Random(f"{self.seed} town {len(self.outcomes)}"))
                await town.open(stack, plane.kubeconfig)
                zygote = await Zygote.start(self.folder / "zygote.log", self.mutant)
                stack.push_async_callback(zygote.stop)
                while self.kills < kills and (until is None or now() < until):
                    await self._segment(town, zygote, plane, min(self.size, kills - self.kills))
        finally:
            plane.stop()

    async def _segment(self, town: Town, zygote: Zygote, plane: PlaneOnly, kills: int) -> None:
        number = len(self.outcomes) + 1
        folder = self.folder / f"segment-{number:04}"
        if folder.exists():
            shutil.rmtree(folder)  # one that was cut off
        assert plane.audit_log is not None
        segment = Segment(
            folder, number, f"{self.seed}-{number}", self._engine(folder), town, zygote,
            plane.kubeconfig, plane.audit_log,
        )  # fmt: skip
        began, before = now(), self.kills

        def told() -> None:
            done = segment.outcome.kills
            if done % 50 == 0:
                rate = done / (now() - began)
                print(
                    f"  {before + done} kills, {rate:.1f}/s, {len(town.firing)} alerts firing, "
                    f"{sum(town.counts.values())} so far in segment {number}",
                    file=sys.stderr, flush=True,
                )  # fmt: skip

        outcome = await segment.run(kills, told)
        self.outcomes.append(outcome)
        print(
            f"segment {number}: {outcome.kills} kills, {outcome.runs} runs, {outcome.effects} "
            f"effects, {len(outcome.violations)} violations, {outcome.seconds:.0f} s "
            f"({outcome.calm_seconds:.0f} s to come to rest)",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        if not outcome.violations:
            await segment.discard()

    def _engine(self, folder: Path) -> Engine:
        if self.server is None:
            return Sqlite(folder)
        return Postgres(self.server, folder.name.replace("-", "_"))
