"""Which replica polls and tunes: one holds a Lease of the cluster, and only while it surely does.

Only this machine's monotonic clock is compared: how long ago the Lease was seen to change, and how
long ago our own last renewal *began*. What other clocks wrote into it is a text that changes, so
no skew matters (client-go #448). A holder stops by itself at the renew deadline, a third of the
lease before anybody else may take it, even while a call hangs.

The Lease is no fence: two may believe to lead for a moment (a frozen process that wakes). Nothing
relies on it but the number of polls: what a leader hears goes through the same inbox as every
delivery, and effects are fenced by the journal's epoch and by uid and resourceVersion.

`kubernetes_asyncio.leaderelection` is not used: a connection error ends it and leaves the leader's
task running, its calls have no timeout, and it compares wall clocks.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from healer.errors import Conflict, HealerError, NotFound
from healer.kernel.clock import Clock
from healer.kernel.tasks import Nap
from healer.ports import LeaseRecord, Leases

_log = logging.getLogger(__name__)

#: A call may take this long; always less than half of the renew deadline. Seconds.
CALL_SECONDS = 5.0
#: Turns are spread by this share of the retry period, so that replicas do not march in step.
JITTER = 0.2
#: How often one turn looks again when somebody else wrote between its look and its write.
_ATTEMPTS = 3
_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Timing:
    """Periods of an election, seconds; the defaults are those of Kubernetes' own controllers."""

    lease_seconds: float = 15.0  #: others wait this long after the last change they saw
    renew_deadline_seconds: float = 10.0  #: without renewal the holder stops after this
    retry_seconds: float = 2.0  #: between two turns

    @property
    def call_seconds(self) -> float:
        """How long one turn's calls may take."""
        return min(CALL_SECONDS, self.renew_deadline_seconds / 2)


class Candidate:
    """The state machine: told what was seen and done, says what to write; reads no clock."""

    def __init__(self, identity: str, timing: Timing) -> None:
        self.identity = identity
        self.seen: LeaseRecord | None = None  #: the last one, also when it is gone by now
        self.present = False  #: whether it was there at the last look
        self.leads_until = _NEVER  #: monotonic seconds
        self._timing = timing
        self._seen_at = _NEVER

    def leads(self, mono: float) -> bool:
        """Whether we surely hold it."""
        return mono < self.leads_until

    def saw(self, record: LeaseRecord | None, mono: float) -> None:
        """A look showed this, at the latest at `mono`."""
        self.present = record is not None
        if record is not None and record != self.seen:
            self.seen, self._seen_at = record, mono
        if record is None or record.holder != self.identity:
            self.leads_until = _NEVER

    def free_at(self) -> float:
        """From when on we may write it; a Lease that was deleted counts as long as it would have.

        Whoever held it may not have noticed yet that it is gone.
        """
        if self.seen is None or self.seen.holder in {"", self.identity}:
            return _NEVER
        return self._seen_at + max(self.seen.seconds, self._timing.lease_seconds)

    def wish(self, mono: float, wall: float) -> LeaseRecord | None:
        """What to write now, under the version that was seen; None when it is another's."""
        if mono < self.free_at():
            return None
        seen = self.seen
        ours = LeaseRecord(self.identity, self._timing.lease_seconds, wall, wall)
        if seen is None:
            return ours
        same = seen.holder == self.identity
        return replace(
            ours,
            acquired_at=seen.acquired_at if same else wall,
            transitions=seen.transitions + (not same),
            version=seen.version if self.present else "",
        )

    def wrote(self, record: LeaseRecord, began: float, mono: float) -> None:
        """Our write, begun at `began`, is in force: the time counts from its beginning."""
        self.seen, self._seen_at, self.present = record, mono, True
        self.leads_until = began + self._timing.renew_deadline_seconds

    def step_down(self) -> None:
        """From now on we do not lead, whatever the Lease says."""
        self.leads_until = _NEVER


class Elector:
    """Takes part in the election, one turn after the other; `term` says whether we lead."""

    def __init__(
        self,
        leases: Leases,
        clock: Clock,
        identity: str,
        timing: Timing | None = None,
        *,
        spread: Callable[[], float] = random.random,
    ) -> None:
        """`identity` is no other process', ever; `spread` draws from 0 to 1."""
        self._timing = timing or Timing()
        self._leases = leases
        self._clock = clock
        self._spread = spread
        self._self = Candidate(identity, self._timing)
        self._terms = 0
        self._change = Nap(clock)
        self._answered_at = clock.monotonic()
        self._told = ""

    def term(self) -> int:
        """The number of our present term of leadership; 0 while we do not lead.

        Whoever acts for the leader remembers it and compares again right before it writes.
        """
        return self._terms if self._self.leads(self._clock.monotonic()) else 0

    @property
    def holder(self) -> str:
        """Who leads as far as we have seen; empty when nobody does, or it is not known."""
        seen, mono = self._self.seen, self._clock.monotonic()
        if seen is None or not self._self.present:
            return ""
        if seen.holder == self._self.identity:
            return seen.holder if self.term() else ""
        return seen.holder if mono < self._self.free_at() else ""

    def cut_off(self) -> bool:
        """Whether the API server has not answered us for as long as a lease lasts."""
        return self._clock.monotonic() - self._answered_at >= self._timing.lease_seconds

    async def round(self) -> None:
        """One turn, then a rest; a turn that fails is only logged, because time itself deposes."""
        try:
            async with asyncio.timeout(self._timing.call_seconds):
                await self.turn()
            self._answered_at = self._clock.monotonic()
            self._told = ""
        except (HealerError, TimeoutError) as error:
            problem = str(error) or f"no answer within {self._timing.call_seconds:g} s"
            if problem != self._told:
                self._told = problem
                _log.warning("the election has no answer", extra={"error": problem})
        await self._clock.sleep(self._pause())

    async def turn(self) -> None:
        """Look, and take or renew the Lease if it may be ours."""
        for _ in range(_ATTEMPTS):
            if not (self.term() and self._self.present):
                await self._look()
            began = self._clock.monotonic()
            wish = self._self.wish(began, self._clock.now())
            if wish is None:
                return
            try:
                if wish.version:
                    written = await self._leases.update(wish)
                else:
                    written = await self._leases.create(wish)
            except (Conflict, NotFound):
                await self._look()  # somebody was faster, or only touched it, or deleted it
                continue
            if not self.term():
                self._terms += 1
            self._self.wrote(written, began, self._clock.monotonic())
            self._change.wake()
            return

    async def _look(self) -> None:
        led = self.term()
        try:
            record = await self._leases.get()
        except NotFound:
            record = None
        self._self.saw(record, self._clock.monotonic())
        if led and not self.term():
            self._change.wake()

    def _pause(self) -> float:
        """A retry period with its spread, but not longer than until the Lease is free."""
        pause = self._timing.retry_seconds * (1 - JITTER + 2 * JITTER * self._spread())
        left = self._self.free_at() - self._clock.monotonic()
        return left + 0.01 + 0.1 * self._spread() if 0 < left < pause else pause

    async def serve_terms(self, begin: Callable[[], Sequence[asyncio.Task[None]]]) -> None:
        """For ever: whenever we are elected `begin` the leader's tasks, and end them with the term.

        They end when another holds the Lease, and at the renew deadline whatever hangs.
        """
        while True:
            while not (term := self.term()):
                await self._change.sleep(self._timing.lease_seconds)
            _log.info("leading", extra={"term": term, "identity": self._self.identity})
            tasks = begin()
            try:
                while self.term() == term:
                    left = self._self.leads_until - self._clock.monotonic()
                    await self._change.sleep(max(left, 0.001))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                _log.info("no longer leading", extra={"term": term, "holder": self.holder})

    async def release(self) -> None:
        """Stop leading and say so, so that another begins at once; call it after `round` ended."""
        ours = self._self.seen
        held = ours is not None and self._self.present and ours.holder == self._self.identity
        self._self.step_down()
        self._change.wake()
        if ours is None or not held:
            return
        given = replace(ours, holder="", seconds=1.0, renewed_at=self._clock.now())
        try:
            async with asyncio.timeout(self._timing.call_seconds):
                await self._leases.update(given)
            _log.info("the election's Lease is given back")
        except (HealerError, TimeoutError) as error:
            _log.warning(
                "the election's Lease was not given back; others wait for its end",
                extra={"error": str(error)},
            )
