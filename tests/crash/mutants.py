"""Healer broken on purpose, one promise each: chaos-crash must find every one of them.

Named with `--mutant`; the zygote applies it in each child before healer starts.
"""

from __future__ import annotations

import asyncio
from typing import Any

from healer.domain.outcome import Applied
from healer.domain.run import Run
from healer.engine import recovery, worker
from healer.engine.effects import action_of, context_of, settle
from healer.engine.world import World
from healer.ports import Claim, Receipt
from healer.store.sqlite import SqliteStore
from healer.web.webhook import Webhook


def answers_before_the_commit() -> None:
    """The webhook answers 200 and makes the alerts durable a moment later."""
    whole = Webhook._commit
    kept: set[asyncio.Task[None]] = set()

    async def hasty(self: Webhook, delivery: Any) -> None:
        async def later() -> None:
            await asyncio.sleep(0.3)  # noqa: TID251 - a mutant
            await whole(self, delivery)

        task = asyncio.create_task(later())
        kept.add(task)
        task.add_done_callback(kept.discard)

    Webhook._commit = hasty  # type: ignore[method-assign]


def repeats_what_is_unknown() -> None:
    """Recovery does a step again that was begun, instead of looking or asking a person."""

    async def again(world: World, claim: Claim, run: Run) -> Claim:
        record = run.open_step
        assert record is not None
        step = run.plan.steps[record.step]
        action, params = action_of(world, step)
        context = context_of(world, run, step, record.intent_at)
        try:
            applied = await action.apply(context, params, step.target, record.precondition)
        except Exception as error:  # noqa: BLE001 - a mutant
            applied = Applied(recovery.Outcome.UNKNOWN, str(error))
        return await settle(world, claim, run, step, applied)

    worker.look_up = again  # type: ignore[attr-defined]


def accepts_without_keeping() -> None:
    """Now and then a delivery is answered as kept and thrown away."""
    whole = SqliteStore.accept
    turn = [0]

    async def careless(self: SqliteStore, alerts: Any, rejected: Any, at: float) -> Receipt:
        turn[0] += 1
        if turn[0] % 5 == 0:
            return Receipt(len(alerts), 0, 0)
        return await whole(self, alerts, rejected, at)

    SqliteStore.accept = careless  # type: ignore[method-assign]
