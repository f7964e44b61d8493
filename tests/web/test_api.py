"""The JSON API over real sockets and a real journal."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from healer.kernel.clock import SystemClock
from healer.settings.listen import Person
from healer.store.sqlite import SqliteStore
from tests.web.desk import Desk, open_desk, waiting


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def desk(store: SqliteStore, stack: AsyncExitStack) -> Desk:
    return await open_desk(store, stack)


async def test_an_episode_is_listed_and_explained(desk: Desk) -> None:
    """An episode is found by state and text, and told with runs, facts and an explanation."""
    episode, plan = await waiting(desk.store)
    for query in ("", "?state=awaiting_approval", "?q=Down", "?playbook=restart-it&firing=true"):
        status, told = await desk.ask("GET", "/v1/episodes" + query)
        assert (status, [one["id"] for one in told["episodes"]]) == (200, [episode.id]), query
    for query in ("?state=closed", "?q=Up", "?firing=false"):
        assert (await desk.ask("GET", "/v1/episodes" + query))[1] == {"episodes": []}, query
    status, told = await desk.ask("GET", f"/v1/episodes/{episode.id[:9]}")
    assert status == 200
    assert told["runs"][0]["plan"]["steps"][0]["action"] == "delete_pod"
    assert told["explanation"]["answerable"] is True
    assert told["explanation"]["plan_digest"] == plan.digest
    assert told["explanation"]["waits"][0]["reason"] == "approval_needed"
    assert [one["seq"] for one in told["facts"]] == sorted(one["seq"] for one in told["facts"])


async def test_an_approval_is_bound_to_the_plan_that_was_seen(desk: Desk) -> None:
    """Only the digest of the waiting plan is taken, once, and the episode becomes due."""
    episode, plan = await waiting(desk.store)
    path = f"/v1/episodes/{episode.id}/approve"
    for wrong in ("", plan.digest[:11], "0" * 64, plan.digest + "0"):
        status, told = await desk.ask("POST", path, json={"plan": wrong})
        assert status == 409, wrong
        assert plan.digest[:12] in told["error"]
    body = {"plan": plan.digest[:12], "by": "anna", "note": "looks right"}
    status, told = await desk.ask("POST", path, json=body)
    assert (status, told["by"]) == (200, "anna (looks right)")
    assert desk.woken == [None]
    (claim,) = await desk.store.claim("test", SystemClock().now() + 1, 30, 10)
    assert claim.episode.id == episode.id
    assert (await desk.ask("POST", path, json=body))[0] == 409


async def test_a_rejection_is_kept_as_no(desk: Desk) -> None:
    """Rejecting tells the journal that this person said no."""
    episode, plan = await waiting(desk.store)
    path = f"/v1/episodes/{episode.id}/reject"
    status, told = await desk.ask("POST", path, json={"plan": plan.digest, "by": "anna"})
    assert (status, told["approved"]) == (200, False)


async def test_acknowledging_needs_an_ended_episode(desk: Desk) -> None:
    """An episode that is still being decided cannot be acknowledged; an unknown one is 404."""
    episode, _ = await waiting(desk.store)
    path = f"/v1/episodes/{episode.id}/acknowledge"
    assert (await desk.ask("POST", path, json={"by": "anna"}))[0] == 409
    status, told = await desk.ask("POST", "/v1/episodes/ep-none/acknowledge", json={})
    assert (status, "ep-none" in told["error"]) == (404, True)


async def test_pauses_come_and_go(desk: Desk) -> None:
    """A pause is kept with scope, reason and who, and is gone after it was ended once."""
    wish = {"reason": "game day", "by": "anna", "namespace": "shop", "seconds": 60}
    status, told = await desk.ask("POST", "/v1/pauses", json=wish)
    assert status == 201
    (pause,) = (await desk.ask("GET", "/v1/pauses"))[1]["pauses"]
    assert (pause["reason"], pause["by"], pause["namespace"]) == ("game day", "anna", "shop")
    assert 0 < pause["until"] - pause["at"] <= 60
    path = f"/v1/pauses/{told['pause']['id']}"
    assert (await desk.ask("DELETE", path))[0] == 200
    assert (await desk.ask("DELETE", path))[0] == 404
    assert (await desk.ask("GET", "/v1/pauses"))[1] == {"pauses": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/episodes?state=odd", None, 400),
        ("GET", "/v1/episodes?limit=0", None, 400),
        ("GET", "/v1/episodes?limit=9999", None, 400),
        ("GET", "/v1/episodes?firing=maybe", None, 400),
        ("GET", "/v1/episodes/ep-unknown", None, 404),
        ("GET", "/v1/nothing", None, 404),
        ("PUT", "/v1/pauses", {}, 405),
        ("POST", "/v1/pauses", {}, 400),
        ("POST", "/v1/pauses", {"reason": " "}, 400),
        ("POST", "/v1/pauses", {"reason": "x", "seconds": -1}, 400),
        ("POST", "/v1/pauses", {"reason": "x", "scope": "all"}, 400),
        ("POST", "/v1/pauses", {"reason": "x" * 70_000}, 413),
        ("POST", "/v1/breakers/none/reset", {}, 404),
    ],
)
async def test_wrong_questions_are_told_so(
    desk: Desk, method: str, path: str, body: Any, status: int
) -> None:
    """Every wrong question is a 4xx whose JSON says what is wrong."""
    given, told = await desk.ask(method, path, **({} if body is None else {"json": body}))
    assert given == status
    assert told["error"]


async def test_browsers_cannot_be_talked_into_anything(desk: Desk) -> None:
    """A request with an Origin, a foreign Host or a form's content type is refused."""
    wish = {"json": {"reason": "x"}}
    origin = {"Origin": "http://127.0.0.1"}
    assert (await desk.ask("POST", "/v1/pauses", headers=origin, **wish))[0] == 403
    assert (await desk.ask("GET", "/v1/status", headers={"Host": "evil.example"}))[0] == 403
    assert (await desk.ask("GET", "/v1/status", headers={"Host": "localhost:1"}))[0] == 200
    assert (await desk.ask("POST", "/v1/pauses", data={"reason": "x"}))[0] == 415


async def test_people_have_names_and_roles(
    store: SqliteStore, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """Nobody without a token, viewers only read, and an operator's name cannot be talked away."""
    for name in ("viewer", "operator"):
        (tmp_path / name).write_text(f"{name}-token")
    people = {
        "vera": Person(token_files=(tmp_path / "viewer",)),
        "otto": Person(token_files=(tmp_path / "operator",), role="operator"),
    }
    desk = await open_desk(store, stack, people)
    vera, otto = ({"Authorization": f"Bearer {name}-token"} for name in ("viewer", "operator"))
    wish = {"reason": "x", "by": "anna"}
    assert (await desk.ask("GET", "/v1/status"))[0] == 401
    assert (await desk.ask("GET", "/v1/status", headers={"Authorization": "Bearer x"}))[0] == 401
    assert (await desk.ask("GET", "/v1/status", headers=vera))[0] == 200
    assert (await desk.ask("POST", "/v1/pauses", json=wish, headers=vera))[0] == 403
    status, told = await desk.ask("POST", "/v1/pauses", json=wish, headers=otto)
    assert (status, told["pause"]["by"]) == (201, "anna by the token of otto")
    status, told = await desk.ask("POST", "/v1/pauses", json={"reason": "x"}, headers=otto)
    assert told["pause"]["by"] == "otto"


async def test_a_closed_journal_is_503(desk: Desk) -> None:
    """When the journal does not answer, the API says 503 and not 500."""
    await desk.store.close()
    assert (await desk.ask("GET", "/v1/status"))[0] == 503
