"""Reviews: one wide one for those who may everything, kept ten seconds, asked for once."""

import asyncio

import pytest

from scalers.apiserver.access import KEEP_SECONDS, KEPT, REFRESH_SECONDS, Access, widest
from scalers.apiserver.contract import Question, Unavailable, Who
from scalers.apiserver.routes import read

HPA, JANE = Who("hpa"), Who("jane", groups=("dev",))


def question(metric: str, namespace: str = "shop") -> Question:
    ask = read(f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}")
    assert ask is not None
    return ask.question


class Reviews:
    """Answers like RBAC: the HPA may list everything, Jane metric `a` in shop."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self.jane_may = True

    async def allowed(self, who: Who, question: Question) -> bool:
        self.asked.append((who.user, question.path or question.resource))
        self.began.set()
        await self.gate.wait()
        if self.away:
            raise Unavailable("away")
        return who == HPA or (
            who == JANE
            and self.jane_may
            and (question.resource, question.namespace) == ("a", "shop")
        )


class Bench:
    def __init__(self) -> None:
        self.now = 1000.0
        self.reviews = Reviews()
        self.access = Access(self.reviews, lambda: self.now)

    async def allowed(self, who: Who, question: Question) -> bool:
        return await self.access.allowed(who, question, widest(question))

    def known(self, who: Who, question: Question) -> bool | None:
        return self.access.known(who, question, widest(question))


async def test_a_thousand_metrics_are_one_review() -> None:
    """Who may list every metric is asked about once in the time that answers are kept."""
    bench = Bench()
    for number in range(1000):
        assert await bench.allowed(HPA, question(f"m{number}", f"ns{number}"))
    assert bench.reviews.asked == [("hpa", "*")]
    bench.now += KEEP_SECONDS
    assert bench.known(HPA, question("m1")) is None
    assert await bench.allowed(HPA, question("m1"))
    assert len(bench.reviews.asked) == 2


async def test_who_may_some_is_asked_about_each() -> None:
    """A caller without the wide right is asked about by metric, and told no for the others."""
    bench = Bench()
    assert await bench.allowed(JANE, question("a"))
    assert not await bench.allowed(JANE, question("a", "bank"))
    assert not await bench.allowed(JANE, question("b"))
    assert bench.reviews.asked == [("jane", "*"), ("jane", "a"), ("jane", "a"), ("jane", "b")]
    assert bench.known(JANE, question("a")) is True
    assert bench.known(JANE, question("b")) is False


async def test_a_right_that_is_taken_away_ends_within_ten_seconds() -> None:
    """A kept answer is used for ten seconds at most."""
    bench = Bench()
    assert await bench.allowed(JANE, question("a"))
    bench.reviews.jane_may = False
    bench.now += REFRESH_SECONDS - 0.1
    assert bench.known(JANE, question("a")) is True
    bench.now += KEEP_SECONDS - REFRESH_SECONDS + 0.1
    assert not await bench.allowed(JANE, question("a"))


async def test_an_answer_in_use_is_renewed_before_anybody_must_wait() -> None:
    """From seven seconds on whoever uses an answer has it asked for again behind their back."""
    bench = Bench()
    assert await bench.allowed(HPA, question("a"))
    bench.now += REFRESH_SECONDS
    assert bench.known(HPA, question("a")) is True
    await settle(bench)
    bench.now += KEEP_SECONDS - 1
    assert bench.known(HPA, question("a")) is True
    await settle(bench)
    assert len(bench.reviews.asked) == 3


async def test_many_who_ask_the_same_wait_for_one_review() -> None:
    """Who asks what is being asked already waits for that answer, even when the first leaves."""
    bench = Bench()
    bench.reviews.gate.clear()
    first = asyncio.create_task(bench.allowed(HPA, question("a")))
    others = [asyncio.create_task(bench.allowed(HPA, question("b"))) for _ in range(20)]
    await bench.reviews.began.wait()
    first.cancel()
    bench.reviews.gate.set()
    assert await asyncio.gather(*others) == [True] * 20
    assert bench.reviews.asked == [("hpa", "*")]


async def test_a_review_that_fails_is_told_and_not_kept() -> None:
    """Whoever waits for a failing review hears of it; the next one asks again."""
    bench = Bench()
    bench.reviews.away = True
    with pytest.raises(Unavailable):
        await bench.allowed(HPA, question("a"))
    bench.reviews.away = False
    assert await bench.allowed(HPA, question("a"))


async def test_an_answer_outlives_an_api_server_that_is_away_by_no_more_than_its_time() -> None:
    """A refresh that fails changes nothing until the answer is ten seconds old."""
    bench = Bench()
    assert await bench.allowed(HPA, question("a"))
    bench.reviews.away = True
    bench.now += REFRESH_SECONDS
    assert bench.known(HPA, question("a")) is True
    await settle(bench)
    bench.now += KEEP_SECONDS - REFRESH_SECONDS
    with pytest.raises(Unavailable):
        await bench.allowed(HPA, question("a"))


async def test_memory_is_bounded() -> None:
    """Callers with ever new names cannot make it remember more than so many answers."""
    bench = Bench()
    for number in range(KEPT):
        await bench.allowed(Who(f"u{number}"), question("a"))
    assert len(bench.access._kept) <= KEPT


async def settle(bench: Bench) -> None:
    """Until nothing is being asked."""
    while bench.access._asking:
        await asyncio.wait(list(bench.access._asking.values()))
