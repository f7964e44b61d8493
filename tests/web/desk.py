"""A running API over a real journal, and an episode that waits for a person."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from healer.domain import ladder
from healer.domain.alert import Alert, AlertStatus
from healer.domain.episode import Episode, EpisodeState, fold
from healer.domain.journal import Fact, FactKind
from healer.domain.plan import Plan, PlannedStep
from healer.domain.playbook import Guards, Mode
from healer.domain.target import Kind, TargetRef
from healer.domain.verdict import Reason
from healer.kernel.clock import SystemClock
from healer.kernel.tasks import Progress
from healer.ports import Change
from healer.settings.listen import Api as ApiListener
from healer.settings.listen import Person
from healer.store.sqlite import SqliteStore
from healer.web.api import Api
from healer.web.conditions import Conditions
from healer.web.listeners import Server

POD = TargetRef(Kind.POD, "api-1", "shop", "uid-1")


@dataclass
class Desk:
    """A running API."""

    url: str
    http: aiohttp.ClientSession
    store: SqliteStore
    woken: list[None]

    async def ask(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        async with self.http.request(method, self.url + path, **kwargs) as answer:
            return answer.status, await answer.json()


async def open_desk(
    store: SqliteStore, stack: AsyncExitStack, people: dict[str, Person] | None = None
) -> Desk:
    clock = SystemClock()
    woken: list[None] = []
    api = Api(
        store, clock, Progress(clock), people=people or {}, conditions=Conditions(clock),
        playbooks=tuple, on_change=lambda: woken.append(None), about=lambda: {"dry_run": False},
    )  # fmt: skip
    server = await Server.start(api.application(), ApiListener(port=0), clock, "api")
    stack.push_async_callback(server.stop)
    http = await stack.enter_async_context(aiohttp.ClientSession())
    return Desk(f"http://127.0.0.1:{server.port}", http, store, woken)


async def waiting(store: SqliteStore) -> tuple[Episode, Plan]:
    """An episode whose plan awaits a person's answer."""
    now = SystemClock().now()
    alert = Alert("alertmanager", "a" * 16, AlertStatus.FIRING, {"alertname": "Down"}, now - 60)
    await store.accept([alert], (), now)
    await store.fold(fold, now, 10)
    (claim,) = await store.claim("test", now + 1, 30, 10)
    step = PlannedStep(0, "again", "delete_pod", "restart", POD, {}, 1, True, True)
    plan = Plan(
        claim.episode.id, "restart-it", "f" * 64, Mode.APPROVE, POD, POD, "shop", "eu-1a",
        (step,), Guards(), now,
    )  # fmt: skip
    run = ladder.begin(plan, 1, now)
    episode = replace(
        claim.episode, state=EpisodeState.AWAITING_APPROVAL, reason=Reason.APPROVAL_NEEDED,
        detail="restart-it is in mode approve", playbook="restart-it", target=str(POD),
        run_id=run.id, runs=1, next_at=now + 1800, waiting_since=now,
    )  # fmt: skip
    told = Fact(
        FactKind.VERDICT, now, episode.id, run.id, Reason.APPROVAL_NEEDED, episode.detail,
        {"effect": "need_approval", "because": [
            {"reason": "approval_needed", "effect": "need_approval", "detail": episode.detail},
        ]},
    )  # fmt: skip
    await store.commit(
        claim, Change(episode, run=run, facts=(told,), ask=plan.digest, release=True)
    )
    return episode, plan
