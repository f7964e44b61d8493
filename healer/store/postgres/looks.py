"""Reading for many at once: questions that come while one statement is under way share the next."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from healer.errors import StoreUnavailable
from healer.store.postgres.connections import Database, View

Question = TypeVar("Question")
Answer = TypeVar("Answer")

_MOST_AT_ONCE = 64


class Looks(Generic[Question, Answer]):
    """Questions of one kind, answered in groups by `bulk`: each group sees one moment."""

    def __init__(
        self,
        database: Database,
        bulk: Callable[[View, Sequence[Question]], Awaitable[Sequence[Answer]]],
    ) -> None:
        self._database = database
        self._bulk = bulk
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, question: Question) -> Answer:
        """The answer as of a moment after now. Raises StoreUnavailable when it cannot be had."""
        if self._closed:
            raise StoreUnavailable(f"{self._database.name}: the journal is closed")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._task is None:
            self._task = asyncio.create_task(self._serve())
        return await future

    async def close(self) -> None:
        """Answer what was asked, and end."""
        self._closed = True
        if self._task is not None:
            await self._task

    async def _serve(self) -> None:
        while self._waiting:
            group = [each for each in self._waiting[:_MOST_AT_ONCE] if not each[1].done()]
            del self._waiting[:_MOST_AT_ONCE]
            if group:
                await self._look(group)
        self._task = None

    async def _look(self, group: Sequence[tuple[Question, asyncio.Future[Answer]]]) -> None:
        questions = [question for question, _ in group]
        try:
            answers = await self._database.read(lambda view: self._bulk(view, questions))
            found = list(zip(group, answers, strict=True))
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in found:
            if not future.done():
                future.set_result(answer)
