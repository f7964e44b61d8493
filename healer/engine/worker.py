"""Claims due episodes and drives each to its next resting place, many at a time.

Nothing is held in memory between two claims: whatever an episode waits for is on disk, so any
replica, or the same one after a crash, goes on from there through this same path.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from healer.domain import ladder
from healer.domain.episode import EpisodeState
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Result
from healer.domain.run import Phase, Run
from healer.domain.verdict import Reason
from healer.engine import telling
from healer.engine.acting import act
from healer.engine.deciding import Go, consider
from healer.engine.recovery import look_up
from healer.engine.resting import close, put_aside
from healer.engine.undoing import undo
from healer.engine.verifying import look
from healer.engine.world import World
from healer.errors import Fenced, StoreUnavailable
from healer.kernel.tasks import Nap
from healer.ports import Change, Claim

_log = logging.getLogger(__name__)

#: The longest sleep between two looks for due work: what a hint missed is found by then. Seconds.
IDLE_SECONDS = 1.0
#: What is due and was not for this worker is asked for again after this. Seconds.
FRUITLESS_SECONDS = 0.25
#: What is due is left to other replicas for so long while only we cannot reach the API server.
DEFER_SECONDS = 5.0
#: A driven episode that is stopped has this long to let go. Seconds.
STOP_SECONDS = 2.0
#: State of an episode that only a person or its own recovery ends.
_FAR_SECONDS = 86400.0


@dataclass(slots=True, eq=False)
class _Drive:
    """One episode being driven."""

    claim: Claim
    until: float  #: monotonic seconds until which the lease surely holds
    task: asyncio.Task[None] = field(init=False)


class Worker:
    """Drives episodes; `wake` makes it look at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._nap = Nap(world.clock)
        self._busy: dict[str, _Drive] = {}
        self._draining = False
        self._claiming = asyncio.Lock()

    def wake(self) -> None:
        """Something may be due."""
        self._nap.wake()

    @property
    def in_flight(self) -> int:
        """Episodes being driven right now."""
        return len(self._busy)

    async def round(self) -> None:
        """One look for due work: claim, start driving, and wait for a reason to look again."""
        world = self._world
        claims: Sequence[Claim] = ()
        async with self._claiming:
            free = world.options.concurrency - len(self._busy)
            if free > 0 and not self._draining and await self._may_claim():
                until = world.clock.monotonic() + world.options.lease_seconds
                claims = await world.store.claim(
                    world.owner, world.clock.now(), world.options.lease_seconds, free
                )
                for claim in claims:
                    self._start(claim, until)
        await self._rest(fruitless=not claims)

    async def _may_claim(self) -> bool:
        """Whoever cannot reach the API server takes only what nobody else has taken for a while."""
        if not self._world.cut_off():
            return True
        due = await self._world.store.next_due()
        return due is not None and self._world.clock.now() - due >= DEFER_SECONDS

    async def _rest(self, *, fruitless: bool) -> None:
        world = self._world
        wait = IDLE_SECONDS
        if len(self._busy) < world.options.concurrency and not self._draining:
            due = await world.store.next_due()
            if due is not None:
                wait = min(wait, max(0.0, due - world.clock.now()))
                if fruitless:  # what is due was not for us: a message, or somebody was faster
                    wait = max(wait, FRUITLESS_SECONDS)
        await self._nap.sleep(max(wait, 0.005))

    def _start(self, claim: Claim, until: float) -> None:
        drive = _Drive(claim, until)
        before = self._busy.get(claim.episode.id)
        name = f"drive {claim.episode.id}"
        drive.task = asyncio.create_task(self._drive(drive, before), name=name)
        self._busy[claim.episode.id] = drive

    async def _drive(self, drive: _Drive, before: _Drive | None) -> None:
        """Tick until the claim is given back."""
        claim = drive.claim
        episode_id = claim.episode.id
        try:
            if before is not None:
                await self._after(before)
            while claim.owner:
                if self._draining:
                    await self._give_back(claim)
                    return
                claim = drive.claim = await tick(self._world, claim)
        except Fenced:
            _log.info("another worker owns it now", extra={"episode": episode_id})
        except StoreUnavailable as error:
            # The lease runs out by itself; whatever was begun is on disk as an intent.
            _log.warning("journal unavailable", extra={"episode": episode_id, "error": str(error)})
        except Exception as error:  # noqa: BLE001 - supervisor of one episode: it stops only itself
            _log.exception("an episode could not be driven", extra={"episode": episode_id})
            await self._trouble(claim, error)
        finally:
            if self._busy.get(episode_id) is drive:
                del self._busy[episode_id]
            self._nap.wake()

    async def _after(self, before: _Drive) -> None:
        """Wait until the earlier drive of the same episode has ended."""
        episode_id = before.claim.episode.id
        if episode_id in self._world.releasing:
            # It was due again before the drive heard that its release is durable. It has only the
            # listeners to tell.
            await asyncio.wait({before.task}, timeout=STOP_SECONDS)
        if not before.task.done():
            # The wall clock jumped over our own lease. Whatever the earlier drive has begun is on
            # disk: it is stopped, and looked up as after a crash.
            _log.warning("claimed again by ourselves", extra={"episode": episode_id})
            before.task.cancel()
            await asyncio.wait({before.task})

    async def _give_back(self, claim: Claim) -> None:
        await self._world.commit(claim, Change(claim.episode, run=claim.run, release=True))

    async def _trouble(self, claim: Claim, error: Exception) -> None:
        """One episode's unforeseen failure is put aside for a while and stops only itself."""
        try:
            await put_aside(self._world, claim, f"{type(error).__name__}: {error}"[:500])
        except (Fenced, StoreUnavailable) as later:
            _log.warning("could not put it aside", extra={"error": str(later)})

    async def renew(self) -> None:
        """Extend the leases of everything in flight; what is no longer ours is stopped."""
        world = self._world
        asked = {id(drive.claim): drive for drive in self._busy.values()}
        if asked:
            begun = world.clock.monotonic()
            claims = [drive.claim for drive in asked.values()]
            try:
                ours = await world.store.renew(
                    claims, world.clock.now(), world.options.lease_seconds
                )
            except StoreUnavailable:
                self._stop_unleased()
                raise
            for claim in claims:
                drive = asked[id(claim)]
                if claim.episode.id in ours:
                    drive.until = begun + world.options.lease_seconds
                elif drive.claim is claim and not drive.task.done():
                    _log.warning("lease lost; stopping", extra={"episode": claim.episode.id})
                    drive.task.cancel()
        await world.clock.sleep(world.options.lease_seconds / 3)

    def _stop_unleased(self) -> None:
        """Whoever cannot renew stops by itself before others may begin."""
        now = self._world.clock.monotonic()
        margin = self._world.options.lease_seconds / 3
        for episode_id, drive in self._busy.items():
            if now + margin >= drive.until and not drive.task.done():
                _log.warning("lease runs out; stopping", extra={"episode": episode_id})
                drive.task.cancel()

    async def drain(self, seconds: float) -> None:
        """Claim nothing more, let every episode reach a place another worker can go on from.

        What has not after `seconds` is stopped: its lease runs out, and it is looked up.
        """
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                async with self._claiming:  # what was just being claimed is given back too
                    pass
                while self._busy:
                    await asyncio.wait({drive.task for drive in self._busy.values()})
        except TimeoutError:
            left = {drive.task for drive in self._busy.values()}
            _log.warning("not handed over in time", extra={"episodes": sorted(self._busy)[:20]})
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=STOP_SECONDS)


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
    with world.crowd.looking() as number:
        decided = await consider(world, claim)
        return await act(world, decided, number) if isinstance(decided, Go) else decided


async def _escalate(world: World, claim: Claim) -> Claim:
    """The ladder ended without recovery: tell a person, keep the episode until it is over."""
    now = world.clock.now()
    if claim.run is None:
        raise ValueError(f"{claim.episode.id} has no run to escalate")
    run = ladder.escalated(claim.run, now)
    episode = replace(
        claim.episode,
        state=EpisodeState.ESCALATED,
        result=run.result,
        reason=run.reason,
        detail=_ended(run, claim.episode.detail),
        updated_at=now,
        next_at=now + _FAR_SECONDS if claim.episode.firing else now,
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


def _ended(run: Run, detail: str) -> str:
    """How the ladder ended, for a person."""
    if run.result is Result.TOLD:
        return f"{run.plan.playbook} told a person: {detail}"[:1000]
    return f"{run.plan.playbook} did not help: {detail}"[:1000]


async def _after_escalation(world: World, claim: Claim) -> Claim:
    if not claim.episode.firing:
        result = claim.episode.result or Result.ESCALATED
        return await close(world, claim, result, claim.episode.reason or Reason.ESCALATED)
    later = replace(claim.episode, next_at=world.clock.now() + _FAR_SECONDS)
    return await world.commit(claim, Change(later, release=True))
