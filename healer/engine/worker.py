"""Claims due episodes and drives each to its next resting place, many at a time.

Nothing is held in memory between two claims: whatever an episode waits for is on disk, so any
replica, or the same one after a crash, goes on from there through this same path.
"""

import asyncio
import logging
from dataclasses import replace

from healer.domain import ladder
from healer.domain.episode import EpisodeState
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Result
from healer.domain.run import Phase
from healer.domain.verdict import Reason
from healer.engine import telling
from healer.engine.acting import act, look_up, undo
from healer.engine.deciding import Go, close, consider
from healer.engine.verifying import look
from healer.engine.world import World
from healer.errors import Fenced, StoreUnavailable
from healer.ports import Change, Claim

_log = logging.getLogger(__name__)

#: The longest sleep between two looks for due work: what a hint missed is found by then. Seconds.
IDLE_SECONDS = 1.0
#: What failed in a way nobody foresaw is looked at again this much later. Seconds.
TROUBLE_SECONDS = 30.0
#: State of an episode that only a person or its own recovery ends.
_FAR_SECONDS = 86400.0


class Worker:
    """Drives episodes; `wake` makes it look at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._wake = asyncio.Event()
        self._busy: dict[str, tuple[asyncio.Task[None], Claim]] = {}
        self._draining = False

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    @property
    def in_flight(self) -> int:
        """Episodes being driven right now."""
        return len(self._busy)

    async def round(self) -> None:
        """One look for due work: claim, start driving, and wait for a reason to look again."""
        world = self._world
        self._wake.clear()
        free = world.options.concurrency - len(self._busy)
        if free > 0 and not self._draining:
            claims = await world.store.claim(
                world.owner, world.clock.now(), world.options.lease_seconds, free
            )
            for claim in claims:
                self._start(claim)
            if len(claims) == free:
                free = 0
        await self._rest()

    async def _rest(self) -> None:
        world = self._world
        wait = IDLE_SECONDS
        if len(self._busy) < world.options.concurrency:
            due = await world.store.next_due()
            if due is not None:
                wait = min(wait, max(0.0, due - world.clock.now()))
        sleeper = asyncio.ensure_future(world.clock.sleep(max(wait, 0.005)))
        waker = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()

    def _start(self, claim: Claim) -> None:
        task = asyncio.create_task(self._drive(claim), name=f"drive {claim.episode.id}")
        self._busy[claim.episode.id] = (task, claim)

    async def _drive(self, claim: Claim) -> None:
        """Tick until the claim is given back."""
        episode_id = claim.episode.id
        try:
            while True:
                claim = await tick(self._world, claim)
                self._busy[episode_id] = (self._busy[episode_id][0], claim)
                if claim.owner == "":
                    return
                if self._draining:
                    await self._give_back(claim)
                    return
        except Fenced:
            _log.info("another worker owns it now", extra={"episode": episode_id})
        except StoreUnavailable as error:
            # The lease runs out by itself; whatever was begun is on disk as an intent.
            _log.warning("journal unavailable", extra={"episode": episode_id, "error": str(error)})
        except Exception:  # noqa: BLE001 - supervisor of one episode: it stops only itself
            _log.exception("an episode could not be driven", extra={"episode": episode_id})
            await self._trouble(claim)
        finally:
            self._busy.pop(episode_id, None)
            self._wake.set()

    async def _give_back(self, claim: Claim) -> None:
        await self._world.commit(claim, Change(claim.episode, run=claim.run, release=True))

    async def _trouble(self, claim: Claim) -> None:
        """One episode's unforeseen failure is put aside for a while and stops only itself."""
        later = replace(claim.episode, next_at=self._world.clock.now() + TROUBLE_SECONDS)
        try:
            await self._world.commit(claim, Change(later, release=True))
        except (Fenced, StoreUnavailable) as error:
            _log.warning("could not put it aside", extra={"error": str(error)})

    async def renew(self) -> None:
        """Extend the leases of everything in flight; what is no longer ours is stopped."""
        world = self._world
        if self._busy:
            claims = [claim for _, claim in self._busy.values()]
            ours = await world.store.renew(claims, world.clock.now(), world.options.lease_seconds)
            for episode_id, (task, claim) in list(self._busy.items()):
                if claim in claims and episode_id not in ours and not task.done():
                    _log.warning("lease lost; stopping", extra={"episode": episode_id})
                    task.cancel()
        await world.clock.sleep(world.options.lease_seconds / 3)

    async def drain(self, seconds: float) -> None:
        """Claim nothing more, let every episode reach a place another worker can go on from."""
        self._draining = True
        tasks = [task for task, _ in self._busy.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for task, _ in list(self._busy.values()):
            task.cancel()


async def tick(world: World, claim: Claim) -> Claim:
    """One step of one episode, to its next durable place. A returned claim without owner is given
    back; one with owner is ticked again at once."""
    episode, run = claim.episode, claim.run
    if episode.state is EpisodeState.ESCALATED:
        return await _after_escalation(world, claim)
    if run is None or run.phase is Phase.DONE:
        if episode.state is EpisodeState.SETTLED and not episode.firing:
            return await close(world, claim, episode.result or Result.SELF_RESOLVED, episode.reason)
        claim = replace(claim, run=None)
    elif run.open_step is not None:
        return await look_up(world, claim, run)
    elif run.phase in {Phase.VERIFYING, Phase.HOLDING}:
        return await look(world, claim, run)
    elif run.phase is Phase.UNDOING:
        return await undo(world, claim, run)
    elif run.phase is Phase.ESCALATING:
        return await _escalate(world, claim)
    decided = await consider(world, claim)
    return await act(world, decided) if isinstance(decided, Go) else decided


async def _escalate(world: World, claim: Claim) -> Claim:
    """The ladder ended without recovery: tell a person, keep the episode until it is over."""
    now = world.clock.now()
    if claim.run is None:
        raise ValueError(f"{claim.episode.id} has no run to escalate")
    run = ladder.escalated(claim.run, now)
    episode = replace(
        claim.episode,
        state=EpisodeState.ESCALATED,
        result=Result.ESCALATED,
        reason=run.reason,
        detail=f"{run.plan.playbook} did not help: {claim.episode.detail}"[:1000],
        updated_at=now,
        next_at=now + _FAR_SECONDS,
    )
    messages = telling.failed(world, episode, run, now)
    fact = Fact(
        FactKind.ESCALATED, now, episode.id, run.id, run.reason, episode.detail,
        {
            "playbook": run.plan.playbook, "target": str(run.plan.target),
            "told": [message.channel for message in messages],
        },
    )  # fmt: skip
    change = Change(episode, run=run, facts=(fact,), unlock=True, messages=messages, release=True)
    return await world.commit(claim, change)


async def _after_escalation(world: World, claim: Claim) -> Claim:
    if not claim.episode.firing:
        return await close(world, claim, Result.ESCALATED, claim.episode.reason or Reason.ESCALATED)
    later = replace(claim.episode, next_at=world.clock.now() + _FAR_SECONDS)
    return await world.commit(claim, Change(later, release=True))
