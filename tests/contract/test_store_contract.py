"""What every engine of the Store port promises to its callers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from healer.domain.alert import Rejected
from healer.domain.budget import Spend
from healer.domain.episode import EpisodeState, FoldKind, fold
from healer.domain.facts import Approval
from healer.domain.journal import Fact, FactKind
from healer.domain.outcome import Outcome, Result
from healer.domain.pause import Pause
from healer.domain.playbook import Rate, Scope
from healer.domain.run import Phase
from healer.domain.storm import Flow
from healer.domain.verdict import Reason
from healer.errors import Conflict, Fenced, NotFound, StoreUnavailable
from healer.ports import BudgetShort, Change, EpisodeFilter, LockTaken, Message, Store
from healer.store.chain import verify_chain
from healer.testing.clock import START, FakeClock
from tests.contract.store_engines import ENGINES
from tests.store.values import (
    alert,
    claimed,
    opened,
    query,
    run,
    running,
    severe,
    state,
    step,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=sorted(ENGINES))
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[Store]:
    made = await ENGINES[request.param](tmp_path, clock)
    yield made
    assert await verify_chain(made) is None
    await made.close()


def spend(cost: int = 1, count: int = 3) -> Spend:
    return Spend("zone/a", Scope.ZONE, cost, Rate(count, 3600.0))


# ------------------------------------------------------------------------------- accept and fold


async def test_accept_counts_new_known_and_rejected(store: Store) -> None:
    """A receipt tells new alerts from those known by their event id and counts the rejected."""
    bad = Rejected("webhook/main", "labels: missing", "{}")
    first = await store.accept([alert("a"), alert("b"), alert("a")], [bad], START)
    assert (first.new, first.duplicate, first.rejected) == (2, 1, 1)
    again = await store.accept([alert("b"), alert("c")], [], START + 1)
    assert (again.new, again.duplicate, again.rejected) == (1, 1, 0)
    counts = await store.counts()
    assert counts["inbox"] == 3
    assert counts["rejected"] == 1


async def test_concurrent_accepts_count_each_alert_new_once(store: Store) -> None:
    """An alert that many deliver at once is new for exactly one of them."""
    receipts = await asyncio.gather(*(store.accept([alert("a")], (), START) for _ in range(20)))
    assert sum(receipt.new for receipt in receipts) == 1
    assert sum(receipt.duplicate for receipt in receipts) == 19


@pytest.mark.parametrize("engine", sorted(ENGINES))
async def test_everything_is_there_after_reopening(
    engine: str, tmp_path: Path, clock: FakeClock
) -> None:
    """Accepted alerts, episodes, runs, steps and facts outlive the store that wrote them."""
    first = await ENGINES[engine](tmp_path, clock)
    [held] = await claimed(first, "a")
    the_run = run(held.episode)
    held = await first.commit(held, running(held, the_run, step=step(the_run)))
    await first.accept([alert("b")], (), START)
    facts = await first.facts()
    await first.close()
    second = await ENGINES[engine](tmp_path, clock)
    try:
        assert await second.episode(held.episode.id) == held.episode
        assert await second.runs() == [replace(the_run, steps=(step(the_run),))]
        assert await second.facts() == facts
        assert (await second.counts())["inbox"] == 1
        assert [a.labels["pod"] for a, _ in await second.fold(fold, START, 10)] == ["b"]
    finally:
        await second.close()


async def test_fold_takes_the_oldest_and_says_so(store: Store) -> None:
    """Fold works through the inbox in the order of acceptance, as far as it is told, only once."""
    names = [f"pod-{number}" for number in range(5)]
    await store.accept([alert(name) for name in names], (), START)
    first = await store.fold(fold, START, 3)
    rest = await store.fold(fold, START, 300)
    assert [entry.labels["pod"] for entry, _ in first] == names[:3]
    assert [entry.labels["pod"] for entry, _ in rest] == names[3:]
    assert all(result.kind is FoldKind.OPENED for _, result in (*first, *rest))
    assert await store.fold(fold, START, 10) == []


async def test_fold_of_hundreds_keeps_order(store: Store) -> None:
    """A storm is folded completely and in order, however it is sliced."""
    alerts = [alert(f"p{number}") for number in range(700)]
    await store.accept(alerts, (), START)
    folded = await store.fold(fold, START, 1000)
    assert [entry for entry, _ in folded] == alerts
    assert (await store.counts())["episodes/open"] == 700


async def test_fold_sees_what_it_did_a_moment_ago(store: Store) -> None:
    """A firing, its repeat and its resolution in one batch make one episode that has ended."""
    ended = alert("a", resolved=True)
    seen_again = alert("a", starts_at=START - 50)
    await store.accept([alert("a"), seen_again, ended], (), START)
    kinds = [result.kind for _, result in await store.fold(fold, START, 10)]
    assert kinds == [FoldKind.OPENED, FoldKind.MERGED, FoldKind.RESOLVED]
    [episode] = await store.episodes(EpisodeFilter())
    assert not episode.firing
    assert episode.ends_at == ended.ends_at


async def test_fold_leaves_facts(store: Store) -> None:
    """What opened, resolved or came too late leaves an ACCEPTED fact; repeats leave none."""
    await opened(store, "a")
    await store.accept([alert("a", starts_at=START - 50)], (), START)
    await store.accept([alert("a", resolved=True)], (), START)
    await store.fold(fold, START, 10)
    [held] = await store.claim("me", START, 30.0, 1)
    await store.commit(held, state(held, EpisodeState.CLOSED, release=True))
    await store.accept([alert("a", starts_at=START - 40)], (), START)
    [(_, late)] = await store.fold(fold, START, 10)
    assert late.kind is FoldKind.STALE
    facts = [sealed.fact for sealed in await store.facts(held.episode.id)]
    assert [fact.kind for fact in facts] == [FactKind.ACCEPTED] * 3
    assert [fact.data["fold"] for fact in facts] == ["opened", "resolved", "stale"]


async def test_a_failing_fold_changes_nothing(store: Store) -> None:
    """When `decide` raises, its error arrives and the alert stays in the inbox."""

    def broken(*_: object) -> None:
        raise LookupError("boom")

    await store.accept([alert("a")], (), START)
    with pytest.raises(LookupError, match="boom"):
        await store.fold(broken, START, 10)  # type: ignore[arg-type]
    assert (await store.counts())["inbox"] == 1
    assert len(await store.fold(fold, START, 10)) == 1


# ------------------------------------------------------------------------------- claim and lease


async def test_claims_go_by_severity_then_age(store: Store) -> None:
    """The most severe episode is claimed first, and among equals the oldest."""
    for number, (name, severity) in enumerate(
        [("young", "warning"), ("info", "none"), ("bad", "critical"), ("worse", "critical")]
    ):
        await store.accept([severe(name, severity)], (), START + number)
        await store.fold(fold, START + number, 10)
    claims = await store.claim("me", START + 10, 30.0, 3)
    assert [claim.episode.labels["pod"] for claim in claims] == ["bad", "worse", "young"]
    [last] = await store.claim("me", START + 10, 30.0, 3)
    assert last.episode.labels["pod"] == "info"


async def test_only_what_is_due_is_claimed(store: Store) -> None:
    """An episode given back for later is claimed from its time on, and not before."""
    [held] = await claimed(store, "a")
    later = replace(held.episode, next_at=START + 100)
    released = await store.commit(held, Change(later, release=True))
    assert released.owner == ""
    assert await store.claim("me", START + 99, 30.0, 10) == []
    assert await store.next_due() == START + 100
    assert len(await store.claim("me", START + 100, 30.0, 10)) == 1


async def test_an_expired_lease_is_taken_over(store: Store) -> None:
    """Another owner takes an expired lease with a higher epoch, and the journal says so."""
    [held] = await claimed(store, "a", owner="one")
    the_run = run(held.episode)
    held = await store.commit(held, running(held, the_run, step=step(the_run)))
    assert await store.claim("two", START + 29, 30.0, 10) == []
    [taken] = await store.claim("two", START + 30, 30.0, 10)
    assert taken.epoch > held.epoch
    assert taken.owner == "two"
    assert taken.run == replace(the_run, steps=(step(the_run),))
    [fact] = [s.fact for s in await store.facts() if s.fact.kind is FactKind.TOOK_OVER]
    assert (fact.episode_id, fact.run_id) == (held.episode.id, the_run.id)


async def test_ones_own_expired_lease_is_no_takeover(store: Store) -> None:
    """An owner that claims its own expired lease again gets a new epoch and leaves no fact."""
    [held] = await claimed(store, "a")
    [again] = await store.claim("me", START + 30, 30.0, 10)
    assert again.epoch > held.epoch
    assert FactKind.TOOK_OVER not in {sealed.fact.kind for sealed in await store.facts()}
    with pytest.raises(Fenced):
        await store.commit(held, Change(held.episode))


async def test_renew_extends_only_what_is_ours(store: Store) -> None:
    """A renewed lease lasts longer, and what another one took is not among the answers."""
    mine, lost = await claimed(store, "a", "b")
    assert await store.renew([mine], START + 20, 30.0) == {mine.episode.id}
    [taken] = await store.claim("other", START + 40, 30.0, 10)
    assert taken.episode.id == lost.episode.id
    assert await store.renew([mine, lost], START + 41, 30.0) == {mine.episode.id}


async def test_a_change_may_extend_the_lease_and_never_cuts_it(
    store: Store, clock: FakeClock
) -> None:
    """A change that asks for a longer lease has it on disk with itself; a shorter one is kept."""
    [held] = await claimed(store, "a")
    clock.advance(10.0)
    held = await store.commit(held, Change(held.episode, lease_seconds=60.0))
    assert held.lease_until == pytest.approx(START + 70, abs=5)
    held = await store.commit(held, Change(held.episode, lease_seconds=5.0))
    assert held.lease_until == pytest.approx(START + 70, abs=5)
    assert await store.claim("other", START + 60, 30.0, 10) == []
    assert await store.next_due() == pytest.approx(held.lease_until)
    [taken] = await store.claim("other", START + 80, 30.0, 10)
    assert taken.epoch > held.epoch


async def test_concurrent_claims_never_share_an_episode(store: Store) -> None:
    """Many workers that claim at once get every episode exactly once."""
    await opened(store, *(f"pod-{number}" for number in range(30)))
    answers = await asyncio.gather(*(store.claim(f"w{n}", START, 30.0, 4) for n in range(10)))
    ids = [claim.episode.id for claims in answers for claim in claims]
    assert len(ids) == len(set(ids)) == 30


# ------------------------------------------------------------------------------------ transitions


async def test_a_fenced_commit_writes_nothing(store: Store) -> None:
    """A worker that lost its lease is told so, and nothing of its change is to be found."""
    [old] = await claimed(store, "a", owner="one")
    [new] = await store.claim("two", START + 31, 30.0, 10)
    the_run = run(old.episode)
    change = running(
        old, the_run, step=step(the_run), lock=the_run.plan.lock, spends=(spend(),),
        facts=(Fact(FactKind.INTENT, START),), messages=(Message("m", "mail", {}),),
        playbook_text=("ff", "text"),
    )  # fmt: skip
    with pytest.raises(Fenced, match="two"):
        await store.commit(old, change)
    ledger = await store.ledger(query(old.episode.id), START)
    assert (ledger.locked_by, ledger.buckets) == (None, {})
    assert await store.runs() == []
    assert await store.messages_due(START, 10) == []
    assert await store.playbook_text("ff") is None
    assert FactKind.INTENT not in {sealed.fact.kind for sealed in await store.facts()}
    assert await store.episode(old.episode.id) == new.episode


async def test_a_released_claim_is_over(store: Store) -> None:
    """After giving an episode back nobody can write with the old claim."""
    [held] = await claimed(store, "a")
    await store.commit(held, Change(held.episode, release=True))
    with pytest.raises(Fenced):
        await store.commit(held, Change(held.episode))


async def test_intent_and_outcome_are_kept(store: Store) -> None:
    """A step is first an intent and then an outcome, each readable with its run."""
    [held] = await claimed(store, "a")
    the_run = run(held.episode, phase=Phase.ACTING)
    intent = step(the_run)
    held = await store.commit(held, running(held, the_run, step=intent))
    assert held.run is not None
    assert held.run.open_step == intent
    done = replace(intent, outcome=Outcome.APPLIED, outcome_at=START + 1, evidence={"rv": "7"})
    verifying = replace(held.run, phase=Phase.VERIFYING)
    held = await store.commit(held, running(held, verifying, step=done))
    assert held.run == replace(verifying, steps=(done,))
    assert await store.runs(held.episode.id) == [held.run]


async def test_an_outcome_is_never_taken_back(store: Store) -> None:
    """An intent for a step whose outcome is known is refused and writes nothing."""
    [held] = await claimed(store, "a")
    the_run = run(held.episode)
    done = step(the_run, outcome=Outcome.APPLIED)
    held = await store.commit(held, running(held, the_run, step=done))
    late = running(held, the_run, step=step(the_run), facts=(Fact(FactKind.INTENT, START),))
    with pytest.raises(Conflict, match="outcome already"):
        await store.commit(held, late)
    [kept] = await store.runs()
    assert kept.steps == (done,)
    assert FactKind.INTENT not in {sealed.fact.kind for sealed in await store.facts()}
    again = await store.commit(held, running(held, the_run, step=step(the_run, attempt=1)))
    assert again.run is not None
    assert len(again.run.steps) == 2


async def test_an_episode_has_one_unfinished_run(store: Store) -> None:
    """A second run is refused until the first is done; then it is the one that is claimed."""
    [held] = await claimed(store, "a")
    first, second = run(held.episode, 1), run(held.episode, 2)
    held = await store.commit(held, running(held, first))
    with pytest.raises(Conflict):
        await store.commit(held, running(held, second))
    done = replace(first, phase=Phase.DONE, finished_at=START)
    held = await store.commit(held, running(held, done))
    assert held.run == done
    held = await store.commit(held, running(held, second))
    assert (await store.commit(held, Change(held.episode))).run == second
    assert [each.id for each in await store.runs()] == [second.id, first.id]


async def test_what_fold_learns_survives_the_workers_commit(store: Store) -> None:
    """A worker that still believes the alert fires does not undo its resolution."""
    [held] = await claimed(store, "a")
    held = await store.commit(held, state(held, EpisodeState.RUNNING))
    news = alert("a", starts_at=START - 50, annotations={"summary": "news"})
    await store.accept([news, alert("a", resolved=True)], (), START + 1)
    await store.fold(fold, START + 1, 10)
    blind = replace(held.episode, detail="verifying", next_at=START + 500)
    after = await store.commit(held, Change(blind))
    assert not after.episode.firing
    assert after.episode.ends_at == START + 30
    assert after.episode.annotations == {"summary": "news"}
    assert after.episode.detail == "verifying"
    assert after.episode.state is EpisodeState.RUNNING
    assert await store.episode(held.episode.id) == after.episode


async def test_a_resolution_makes_a_claimed_episode_due_at_once(store: Store) -> None:
    """An episode that resolved under a worker is due when given back, whatever the worker asks."""
    [held] = await claimed(store, "a")
    await store.accept([alert("a", resolved=True)], (), START + 1)
    await store.fold(fold, START + 1, 10)
    later = replace(held.episode, next_at=START + 500)
    held = await store.commit(held, Change(later))
    released = await store.commit(
        held, Change(replace(held.episode, next_at=later.next_at), release=True)
    )
    assert released.episode.next_at <= START + 1
    [again] = await store.claim("me", START + 1, 30.0, 10)
    assert again.episode == released.episode
    after = await store.commit(again, Change(later, release=True))
    assert after.episode.next_at == START + 500


# ------------------------------------------------------------------------------ locks and budgets


async def test_a_lock_has_one_holder(store: Store) -> None:
    """A taken lock is refused by its holder's name, writes nothing, and is free after unlock."""
    one, two = await claimed(store, "a", "b")
    lock = run(one.episode).plan.lock
    one = await store.commit(one, Change(one.episode, lock=lock))
    one = await store.commit(one, Change(one.episode, lock=lock))
    with pytest.raises(LockTaken) as refused:
        await store.commit(two, Change(two.episode, lock=lock, playbook_text=("ff", "x")))
    assert refused.value.holder == one.episode.id
    assert await store.playbook_text("ff") is None
    assert (await store.ledger(query(two.episode.id), START)).locked_by == one.episode.id
    await store.commit(one, Change(one.episode, unlock=True))
    await store.commit(two, Change(two.episode, lock=lock))
    assert (await store.ledger(query(two.episode.id), START)).locked_by == two.episode.id


async def test_a_closed_episode_holds_no_lock(store: Store) -> None:
    """Closing frees every lock, because nobody would look at the episode again."""
    [held] = await claimed(store, "a")
    held = await store.commit(held, Change(held.episode, lock=run(held.episode).plan.lock))
    await store.commit(held, state(held, EpisodeState.CLOSED, release=True))
    assert (await store.ledger(query(held.episode.id), START)).locked_by is None


async def test_a_race_for_a_lock_has_one_winner(store: Store) -> None:
    """Of many who take a lock at once exactly one gets it."""
    claims = await claimed(store, *(f"pod-{number}" for number in range(20)))
    lock = run(claims[0].episode).plan.lock
    tries = [store.commit(claim, Change(claim.episode, lock=lock)) for claim in claims]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, LockTaken) for result in results) == 19
    assert sum(not isinstance(result, BaseException) for result in results) == 1


async def test_a_race_for_a_budget_never_overspends(store: Store) -> None:
    """Of many who pay at once only as many succeed as the bucket holds."""
    claims = await claimed(store, *(f"pod-{number}" for number in range(40)))
    tries = [store.commit(claim, Change(claim.episode, spends=(spend(2, 15),))) for claim in claims]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, BudgetShort) for result in results) == 33
    assert sum(not isinstance(result, BaseException) for result in results) == 7
    buckets = (await store.ledger(query(claims[0].episode.id), START)).buckets
    assert buckets["zone/a"].tokens == 1.0


async def test_a_short_budget_writes_nothing_and_refills(store: Store, clock: FakeClock) -> None:
    """When one bucket is short none is paid, and the answer says from when it could be."""
    [held] = await claimed(store, "a")
    other = replace(spend(), key="cluster/cluster")
    held = await store.commit(held, Change(held.episode, spends=(spend(3),)))
    with pytest.raises(BudgetShort) as short:
        await store.commit(held, Change(held.episode, spends=(other, spend(1))))
    assert short.value.key == "zone/a"
    assert short.value.until == pytest.approx(START + 1200)
    asked = query(held.episode.id, bucket_keys=("zone/a", "cluster/cluster"))
    assert set((await store.ledger(asked, START)).buckets) == {"zone/a"}
    clock.advance(1201)
    await store.commit(held, Change(held.episode, spends=(other, spend(1))))
    assert set((await store.ledger(asked, START)).buckets) == {"zone/a", "cluster/cluster"}


@pytest.mark.parametrize("poison", ["", "a step done already", "a fact that is no JSON"])
async def test_changes_that_come_at_once_are_judged_one_by_one(store: Store, poison: str) -> None:
    """Of many changes at once each is written or refused for itself, with all that is in it."""
    names = ("holder", "late", "fenced", "locked", "short", "poison", "fine", "finer")
    by_name = dict(zip(names, await claimed(store, *names), strict=True))
    the_run = {name: run(held.episode) for name, held in by_name.items()}
    lock = the_run["holder"].plan.lock
    other = replace(lock, name="another")
    for name, change in {
        "holder": Change(by_name["holder"].episode, lock=lock),
        "poison": running(
            by_name["poison"], the_run["poison"],
            step=step(the_run["poison"], outcome=Outcome.APPLIED),
        ),
    }.items():  # fmt: skip
        by_name[name] = await store.commit(by_name[name], change)

    def change(name: str, **more: object) -> Change:
        held = by_name[name]
        fact = Fact(FactKind.INTENT, START, held.episode.id, detail=name)
        values = {"step": step(the_run[name], attempt=1), "facts": (fact,), **more}
        return running(held, the_run[name], **values)

    bad = {
        "": {},
        "a step done already": {"step": step(the_run["poison"])},
        "a fact that is no JSON": {
            "facts": (Fact(FactKind.INTENT, START, data={"x": float("nan")}),)
        },
    }[poison]
    results = await asyncio.gather(
        store.commit(replace(by_name["fenced"], epoch=99), change("fenced")),
        store.commit(by_name["locked"], change("locked", lock=lock)),
        store.commit(by_name["short"], change("short", spends=(spend(1), spend(9)))),
        store.commit(by_name["fine"], change("fine", lock=other, spends=(spend(2), spend(1)))),
        store.commit(by_name["poison"], change("poison", **bad)),
        store.commit(by_name["finer"], change("finer")),
        return_exceptions=True,
    )
    fenced, locked, short, fine, poisoned, finer = results
    assert isinstance(fenced, Fenced)
    assert isinstance(locked, LockTaken)
    assert isinstance(short, BudgetShort)
    assert isinstance(poisoned, (Conflict, ValueError)) is bool(poison)
    written = {s.fact.detail for s in await store.facts() if s.fact.kind is FactKind.INTENT}
    assert written == {"fine", "finer"} | (set() if poison else {"poison"})
    for result, name in ((fine, "fine"), (finer, "finer")):
        assert not isinstance(result, BaseException)
        assert result.run == replace(the_run[name], steps=(step(the_run[name], attempt=1),))
    ledger = await store.ledger(query(by_name["fine"].episode.id), START)
    assert ledger.buckets["zone/a"].tokens == 0.0
    assert ledger.locked_by == by_name["holder"].episode.id
    assert await store.runs(by_name["short"].episode.id) == []


# ----------------------------------------------------------------------------------------- ledger


async def test_an_empty_ledger(store: Store) -> None:
    """Of something never seen the ledger knows nothing, and says so by defaults."""
    ledger = await store.ledger(query("ep-unknown"), START)
    assert ledger == type(ledger)()


async def test_the_ledger_counts_runs_in_flight(store: Store) -> None:
    """Runs past GUARD count for their owner and zone, one's own and finished ones do not."""
    names = ["a", "b", "c", "d"]
    claims = await claimed(store, *names)
    phases = [Phase.ACTING, Phase.VERIFYING, Phase.GUARD, Phase.HOLDING]
    owners = ["web", "web", "web", "api"]
    for claim, phase, owner in zip(claims, phases, owners, strict=True):
        await store.commit(claim, running(claim, run(claim.episode, phase=phase, owner=owner)))
    mine = await store.ledger(query(claims[0].episode.id), START)
    assert (mine.in_flight_owner, mine.in_flight_zone) == (1, 2)
    held = await store.ledger(query(claims[2].episode.id), START)
    assert (held.in_flight_owner, held.in_flight_zone) == (2, 3)
    done = replace(run(claims[1].episode, owner="web"), phase=Phase.DONE, finished_at=START)
    await store.commit(claims[1], running(claims[1], done))
    assert (await store.ledger(query(claims[2].episode.id), START)).in_flight_owner == 1


async def test_the_ledger_knows_the_place_in_the_queue(store: Store) -> None:
    """Held episodes of the same zone go first when they are more severe, or as severe and older."""
    waiting = [("old", "warning", "a"), ("mine", "warning", "a"), ("bad", "critical", "a")]
    others = [("young", "warning", "a"), ("far", "critical", "b")]
    ids = {}
    for number, (name, severity, zone) in enumerate((*waiting, *others)):
        now = START + number
        await store.accept([severe(name, severity)], (), now)
        await store.fold(fold, now, 10)
        [held] = await store.claim("me", now, 30.0, 1)
        the_run = run(held.episode, zone=zone)
        blocked = state(held, EpisodeState.BLOCKED, run=the_run, release=True)
        later = replace(blocked.episode, next_at=START + 900, reason=Reason.STORM_PACED)
        await store.commit(held, replace(blocked, episode=later))
        ids[name] = held.episode.id
    places = {n: (await store.ledger(query(i), START)).queue_place for n, i in ids.items()}
    assert {n: places[n] for n in ("bad", "old", "mine", "young")} == {
        "bad": 0, "old": 1, "mine": 2, "young": 3,
    }  # fmt: skip


async def finished(store: Store, name: str, result: Result, at: float, *, acted: bool) -> None:
    [held] = await claimed(store, name)
    the_run = run(held.episode)
    outcome = Outcome.APPLIED if acted else Outcome.FAILED
    done = step(the_run, outcome=outcome)
    held = await store.commit(held, running(held, the_run, step=done))
    ended = replace(the_run, phase=Phase.DONE, result=result, finished_at=at)
    await store.commit(held, state(held, EpisodeState.CLOSED, run=ended, release=True))


async def test_the_ledger_counts_bad_outcomes(store: Store) -> None:
    """Runs that acted and escalated count since the last healed one, with the time of the last."""
    await finished(store, "a", Result.ESCALATED, START + 1, acted=True)
    assert (await store.ledger(query("x"), START)).bad_outcomes == 1
    await finished(store, "b", Result.HEALED, START + 2, acted=True)
    assert (await store.ledger(query("x"), START)).bad_outcomes == 0
    await finished(store, "c", Result.ESCALATED, START + 3, acted=True)
    await finished(store, "d", Result.ESCALATED, START + 4, acted=False)
    ledger = await store.ledger(query("x"), START)
    assert (ledger.bad_outcomes, ledger.last_bad_at) == (1, START + 3)
    assert (await store.ledger(query("x", playbook="other"), START)).bad_outcomes == 0


async def test_the_ledger_knows_when_a_run_that_acted_ended(store: Store) -> None:
    """The cooldown counts from the last run on the target that acted, and no other."""
    await finished(store, "a", Result.HEALED, START + 1, acted=True)
    await finished(store, "b", Result.REFUSED, START + 9, acted=False)
    assert (await store.ledger(query("x"), START)).last_run_ended_at == START + 1
    elsewhere = query("x", target="Pod/shop/other")
    assert (await store.ledger(elsewhere, START)).last_run_ended_at is None


async def test_the_ledger_keeps_flow_and_breaker(store: Store) -> None:
    """A zone's ramp and a person's word for a playbook are kept by name."""
    [held] = await claimed(store, "a")
    await store.commit(held, Change(held.episode, flow=("a", Flow(START, 2))))
    await store.reset_breaker("restart-web", "ann", START + 5)
    ledger = await store.ledger(query(held.episode.id), START)
    assert ledger.flow == Flow(START, 2)
    assert ledger.breaker_reset_at == START + 5
    last = (await store.facts())[-1].fact
    assert (last.kind, last.data["by"]) == (FactKind.BREAKER_RESET, "ann")


# ----------------------------------------------------------------------------------------- people


def said(digest: str, *, approved: bool = True, expires_at: float = START + 600) -> Approval:
    return Approval(digest, approved, "ann", START, expires_at)


async def waiting(store: Store, name: str = "a", digest: str = "d1") -> str:
    [held] = await claimed(store, name)
    asked = state(held, EpisodeState.AWAITING_APPROVAL, ask=digest, release=True)
    later = replace(asked.episode, next_at=START + 900)
    await store.commit(held, replace(asked, episode=later))
    return held.episode.id


async def test_an_answer_makes_its_episode_due(store: Store) -> None:
    """A person's answer is in the ledger and the journal, and the episode is looked at at once."""
    episode = await waiting(store)
    assert await store.claim("me", START + 1, 30.0, 10) == []
    await store.answer(episode, said("d1"), START + 1)
    assert (await store.ledger(query(episode), START)).approval == said("d1")
    assert len(await store.claim("me", START + 1, 30.0, 10)) == 1
    last = (await store.facts(episode))[-1].fact
    assert (last.kind, last.data["by"]) == (FactKind.APPROVAL_GIVEN, "ann")


async def test_an_answer_to_something_else_is_refused(store: Store) -> None:
    """Answers to no episode, to nothing asked, to another plan or twice are refused by kind."""
    with pytest.raises(NotFound):
        await store.answer("ep-nothing", said("d1"), START)
    [free] = await opened(store, "free")
    with pytest.raises(NotFound):
        await store.answer(free.id, said("d1"), START)
    episode = await waiting(store)
    with pytest.raises(Conflict):
        await store.answer(episode, said("d2"), START)
    await store.answer(episode, said("d1", approved=False), START)
    with pytest.raises(Conflict):
        await store.answer(episode, said("d1"), START)
    kept = (await store.ledger(query(episode), START)).approval
    assert kept is not None
    assert not kept.approved


async def test_an_answer_is_not_lost_on_a_worker(store: Store) -> None:
    """An answer given while a worker holds the episode makes it due when the worker lets go."""
    episode = await waiting(store)
    [held] = await store.claim("me", START + 900, 30.0, 10)
    await store.answer(episode, said("d1", expires_at=START + 2000), START + 901)
    asked = state(held, EpisodeState.AWAITING_APPROVAL, ask="d1", release=True)
    later = replace(asked.episode, next_at=START + 5000)
    await store.commit(held, replace(asked, episode=later))
    assert len(await store.claim("me", START + 901, 30.0, 10)) == 1
    assert (await store.ledger(query(episode), START)).approval is not None


async def test_acknowledging_closes(store: Store) -> None:
    """A person closes what was escalated; whoever held it is fenced; its locks are free."""
    [held] = await claimed(store, "a")
    lock = run(held.episode).plan.lock
    with pytest.raises(Conflict):
        await store.acknowledge(held.episode.id, "ann", "", START)
    held = await store.commit(held, state(held, EpisodeState.ESCALATED, lock=lock))
    await store.acknowledge(held.episode.id, "ann", "fixed by hand", START + 5)
    episode = await store.episode(held.episode.id)
    assert episode is not None
    assert (episode.state, episode.closed_at) == (EpisodeState.CLOSED, START + 5)
    assert (await store.ledger(query(episode.id), START)).locked_by is None
    with pytest.raises(Fenced):
        await store.commit(held, Change(held.episode))
    with pytest.raises(NotFound):
        await store.acknowledge("ep-nothing", "ann", "", START)
    last = (await store.facts(episode.id))[-1].fact
    assert last.kind is FactKind.CLOSED
    assert "ann" in last.detail
    assert "fixed by hand" in last.detail


async def test_pauses_hold_until_cleared_or_over(store: Store, clock: FakeClock) -> None:
    """A pause is in force until its time is over or someone clears it, and both leave facts."""
    forever = Pause("p1", "incident", "ann", START)
    short = Pause("p2", "deploy", "bob", START, namespace="shop", until=START + 60)
    await store.set_pause(forever)
    await store.set_pause(replace(short, reason="typo"))
    await store.set_pause(short)
    assert await store.pauses() == [forever, short]
    assert (await store.ledger(query("x"), START)).pauses == (forever, short)
    clock.advance(60)
    assert await store.pauses() == [forever]
    assert await store.clear_pause("p1", "bob", START + 61)
    assert not await store.clear_pause("p1", "bob", START + 62)
    assert await store.pauses() == []
    kinds = [sealed.fact.kind for sealed in await store.facts()]
    assert kinds == [FactKind.PAUSED] * 3 + [FactKind.RESUMED]


# ---------------------------------------------------------------------------------- looking around


async def test_episodes_are_found_by_prefix(store: Store) -> None:
    """Six characters of an id are enough when they are of one episode only."""
    one, _ = await opened(store, "a", "b")
    assert await store.episode(one.id) == one
    assert await store.episode(one.id[:12]) == one
    assert await store.episode(one.id[:5]) is None
    assert await store.episode("ep-") is None
    assert await store.episode("ep-zzzzzz") is None
    many = await opened(store, *(f"p{number}" for number in range(300)))
    beginnings = Counter(episode.id[:6] for episode in many)
    shared = beginnings.most_common(1)[0]
    assert shared[1] > 1
    assert await store.episode(shared[0]) is None


async def test_episodes_are_filtered(store: Store) -> None:
    """Each field of a filter narrows the list, newest first."""
    [old] = await opened(store, "a")
    await store.accept([alert("b", source="poll/x")], (), START + 1)
    await store.fold(fold, START + 1, 10)
    new, same = await store.episodes(EpisodeFilter())
    assert same == old
    [held] = [c for c in await store.claim("me", START + 1, 30.0, 9) if c.episode.id == old.id]
    done = replace(held.episode, state=EpisodeState.SETTLED, playbook="restart", target="Pod/x/Y")
    held = await store.commit(held, Change(done))
    found = {
        "states": await store.episodes(EpisodeFilter(states=(EpisodeState.SETTLED,))),
        "source": await store.episodes(EpisodeFilter(source_prefix="webhook/")),
        "playbook": await store.episodes(EpisodeFilter(playbook="restart")),
        "text": await store.episodes(EpisodeFilter(text="pod/x/y")),
    }
    assert found == {name: [held.episode] for name in found}
    assert await store.episodes(EpisodeFilter(firing=False)) == []
    assert len(await store.episodes(EpisodeFilter(firing=True, text="crashloop"))) == 2
    assert [e.id for e in await store.episodes(EpisodeFilter(limit=1))] == [new.id]


async def test_facts_are_paged(store: Store) -> None:
    """Facts come in order, after a place, as many as asked, of one episode when named."""
    one, two = await opened(store, "a", "b")
    facts = await store.facts()
    assert [sealed.seq for sealed in facts] == [1, 2]
    assert await store.facts(after=1) == facts[1:]
    assert await store.facts(limit=1) == facts[:1]
    assert [s.fact.episode_id for s in await store.facts(two.id)] == [two.id]
    assert one.id != two.id


async def test_a_message_is_taken_by_one(store: Store) -> None:
    """Of several who want a due message one gets it; after its time it can be taken again."""
    [held] = await claimed(store, "a")
    message = Message("m1", "mail", {"text": "help"})
    await store.commit(held, Change(held.episode, messages=(message,)))
    took = await asyncio.gather(*(store.take_message("m1", START, 30.0) for _ in range(5)))
    assert sorted(took) == [False, False, False, False, True]
    assert await store.messages_due(START + 29, 10) == []
    assert await store.messages_due(START + 30, 10) == [message]
    assert await store.take_message("m1", START + 30, 30.0)
    await store.message_done("m1", True, 0.0)
    assert not await store.take_message("m1", START + 90, 30.0)


async def test_a_message_is_queued_once(store: Store) -> None:
    """A message stays until delivered, is tried again when told, and never comes back."""
    [held] = await claimed(store, "a")
    message = Message("m1", "mail", {"text": "help", "n": [1, None]})
    held = await store.commit(held, Change(held.episode, messages=(message, message)))
    assert await store.messages_due(START, 10) == [message]
    await store.message_done("m1", False, START + 50)
    assert await store.messages_due(START + 49, 10) == []
    assert await store.messages_due(START + 50, 10) == [replace(message, attempts=1)]
    assert (await store.counts())["outbox"] == 1
    await store.message_done("m1", True, 0.0)
    held = await store.commit(held, Change(held.episode, messages=(message,)))
    assert await store.messages_due(START + 99, 10) == []
    assert (await store.counts())["outbox"] == 0


async def test_next_due_is_the_earliest(store: Store) -> None:
    """The next thing due is an episode, the end of a lease or a message, whichever comes first."""
    assert await store.next_due() is None
    [held] = await claimed(store, "a")
    assert await store.next_due() == START + 30
    await store.commit(held, Change(held.episode, messages=(Message("m", "mail", {}),)))
    await store.message_done("m", False, START + 10)
    assert await store.next_due() == START + 10
    await store.message_done("m", True, 0.0)
    await store.commit(held, state(held, EpisodeState.CLOSED, release=True))
    assert await store.next_due() is None


async def test_playbook_text_is_kept_once(store: Store) -> None:
    """The YAML a run began with is found by its hash."""
    [held] = await claimed(store, "a")
    for _ in range(2):
        held = await store.commit(held, Change(held.episode, playbook_text=("ab", "when: x")))
    assert await store.playbook_text("ab") == "when: x"


async def test_odd_facts_keep_their_seal(store: Store) -> None:
    """Tuples, enums, numbers as keys and any text in a fact's data leave a chain that holds."""
    [held] = await claimed(store, "a")
    data = {
        "t": (1, 2.0),
        "e": Outcome.APPLIED,
        "ü": "日本",
        "n": None,
        "big": 2**70,
        "x": {10: 1, 9: 2},
    }
    fact = Fact(FactKind.EVIDENCE, START + 0.1234567, held.episode.id, detail="é", data=data)
    await store.commit(held, Change(held.episode, facts=(fact,)))
    kept = (await store.facts())[-1].fact
    assert kept.data["t"] == [1, 2.0]
    assert kept.data["big"] == 2**70
    assert await verify_chain(store) is None


@pytest.mark.parametrize("engine", sorted(ENGINES))
async def test_a_closed_store_refuses(engine: str, tmp_path: Path, clock: FakeClock) -> None:
    """After close every call raises StoreUnavailable, and closing again does nothing."""
    store = await ENGINES[engine](tmp_path, clock)
    await store.accept([alert("a")], (), START)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.accept([alert("b")], (), START)
    with pytest.raises(StoreUnavailable):
        await store.counts()
    await store.close()
