"""What callers may do: asked of the API server, and kept for ten seconds.

A question about one metric is preceded by the wide one: may they read all metrics everywhere? The
HPA's own role may, so a thousand metrics are one review in ten seconds and not a thousand.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from scalers.apiserver.contract import Question, Reviewer, Unavailable, Who

#: As long as the delegating authorizer of k8s.io/apiserver keeps an answer. Seconds.
KEEP_SECONDS = 10.0
#: An answer in use is asked for again when it is so old, so that no caller waits. Seconds.
REFRESH_SECONDS = 7.0
#: More answers than this are forgotten at once, so that nobody can fill the memory.
KEPT = 4096
#: Whoever is of it is not asked about, as in k8s.io/apiserver.
MASTERS = "system:masters"


@dataclass(slots=True)
class _Kept:
    allowed: bool
    at: float  #: by the monotonic clock


class Access:
    """Answers from memory when they are young enough, else from the API server."""

    def __init__(self, reviewer: Reviewer | None, monotonic: Callable[[], float]) -> None:
        """Without a reviewer everybody whom the API server names may."""
        self._reviewer = reviewer
        self._monotonic = monotonic
        self._kept: dict[tuple[Who, Question], _Kept] = {}
        self._asking: dict[tuple[Who, Question], asyncio.Task[bool]] = {}

    def known(self, who: Who, question: Question, wide: Question) -> bool | None:
        """The answer without asking; None when it must be asked for. `wide` is its `widest`."""
        if self._reviewer is None or MASTERS in who.groups:
            return True
        return self._young(who, wide) or self._young(who, question)

    async def allowed(self, who: Who, question: Question, wide: Question) -> bool:
        """Whether they may. Raises Unavailable when nobody can say."""
        known = self.known(who, question, wide)
        if known is not None:
            return known
        if wide != question and self._young(who, wide) is None and await self._ask(who, wide):
            return True
        return await self._ask(who, question)

    async def close(self) -> None:
        """End what is being asked."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _young(self, who: Who, question: Question) -> bool | None:
        kept = self._kept.get((who, question))
        if kept is None:
            return None
        age = self._monotonic() - kept.at
        if age >= KEEP_SECONDS:
            return None
        if age >= REFRESH_SECONDS:
            self._refresh(who, question)
        return kept.allowed

    def _refresh(self, who: Who, question: Question) -> None:
        _ = self._begin(who, question)  # whoever asks next finds its answer

    async def _ask(self, who: Who, question: Question) -> bool:
        # Many callers wait for one answer; one who gives up does not end it for the others.
        return await asyncio.shield(self._begin(who, question))

    def _begin(self, who: Who, question: Question) -> asyncio.Task[bool]:
        key = (who, question)
        if key not in self._asking:
            task = asyncio.create_task(self._review(who, question))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return self._asking[key]

    async def _review(self, who: Who, question: Question) -> bool:
        assert self._reviewer is not None
        asked_at = self._monotonic()
        allowed = await self._reviewer.allowed(who, question)
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[who, question] = _Kept(allowed, asked_at)
        return allowed

    def _ended(self, key: tuple[Who, Question], task: asyncio.Task[bool]) -> None:
        del self._asking[key]
        # A refresh that failed is nobody's: the next caller asks again and hears of it.
        if not task.cancelled() and not isinstance(task.exception(), Unavailable | None):
            task.get_loop().call_exception_handler(
                {"message": "a review failed in an unforeseen way", "exception": task.exception()}
            )


def widest(question: Question) -> Question:
    """May they do this to every resource of the group, everywhere? A path is its own wide one."""
    if question.path:
        return question
    wide = replace(question, namespace="", name="", resource="*")
    return replace(wide, subresource="*" if question.subresource else "")
