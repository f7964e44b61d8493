"""What people and the CLI ask of the daemon, in JSON, and the few things they may tell it."""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import hdrs, web

from healer import __version__
from healer.domain.episode import Episode, EpisodeState
from healer.domain.explain import awaited, explain
from healer.domain.facts import Approval
from healer.domain.pause import Pause
from healer.domain.playbook import Playbook
from healer.errors import Conflict, HealerError, NotFound, StoreUnavailable
from healer.kernel.clock import Clock
from healer.kernel.ids import random_id
from healer.kernel.tasks import Progress
from healer.ports import EpisodeFilter, Store
from healer.settings.listen import Person
from healer.web.auth import PeopleGate
from healer.web.conditions import Conditions
from healer.web.encode import answer, refuse

#: Of so many held episodes, the newest, it is seen who goes before one.
QUEUE_MAX = 10_000
#: A body here is a few words. Bytes.
BODY_BYTES = 64 * 1024
#: As many digits of a plan's digest as a person must repeat at least.
DIGEST_DIGITS = 12
_LIST_LIMIT = 1000

_T = TypeVar("_T")
#: Name behind the credential of a request; empty when nobody has one.
_WHO = web.RequestKey("who", str)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    plan: str
    by: str = ""
    note: str = ""


class _Note(msgspec.Struct, forbid_unknown_fields=True):
    by: str = ""
    note: str = ""


class _PauseWish(msgspec.Struct, forbid_unknown_fields=True):
    reason: str
    by: str = ""
    namespace: str = ""
    playbook: str = ""
    seconds: float | None = None


class Api:
    """The JSON API."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        progress: Progress,
        *,
        people: Mapping[str, Person],
        conditions: Conditions,
        playbooks: Callable[[], Sequence[Playbook]],
        local_pauses: Callable[[], Sequence[Pause]] = tuple,
        on_change: Callable[[], None] = lambda: None,
        about: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """`on_change` is called when an episode may have become due; `about` adds to the status.

        Raises ConfigError when a token file cannot be read.
        """
        self._store = store
        self._clock = clock
        self._progress = progress
        self._gate = PeopleGate(people)
        self._conditions = conditions
        self._playbooks = playbooks
        self._local_pauses = local_pauses
        self._on_change = on_change
        self._about = about
        self._started_at = clock.now()

    def application(self, more: Callable[[web.Application], None] | None = None) -> web.Application:
        """The aiohttp application with every route, and those that `more` adds."""
        application = web.Application(client_max_size=BODY_BYTES, middlewares=[self._guard])
        route = application.router
        route.add_get("/v1/episodes", self.episodes)
        route.add_get("/v1/episodes/{id}", self.episode)
        route.add_post("/v1/episodes/{id}/approve", self.approve)
        route.add_post("/v1/episodes/{id}/reject", self.reject)
        route.add_post("/v1/episodes/{id}/acknowledge", self.acknowledge)
        route.add_get("/v1/runs", self.runs)
        route.add_get("/v1/playbooks", self.playbooks)
        route.add_get("/v1/status", self.status)
        route.add_get("/v1/pauses", self.pauses)
        route.add_post("/v1/pauses", self.pause)
        route.add_delete("/v1/pauses/{id}", self.resume)
        route.add_post("/v1/breakers/{playbook}/reset", self.reset_breaker)
        if more is not None:
            more(application)
        return application

    # ------------------------------------------------------------------------------- gate

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Credential, then role, then the question; errors as JSON with what to do."""
        who = self._gate.who(request)
        if who is None:
            refused = refuse(401, "give a bearer token of one of `people`")
            refused.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
            return refused
        name, role = who
        # A browser on this machine must not be talked into anything by a page it shows.
        if hdrs.ORIGIN in request.headers or (self._gate.open and not _is_local(request.host)):
            return refuse(403, "this API is not for browsers; use the healer command")
        if request.method not in {"GET", "HEAD"} and role != "operator":
            return refuse(403, f"{name} is a viewer; an operator may do this")
        request[_WHO] = name
        try:
            return await handler(request)
        except NotFound as error:
            return refuse(404, str(error))
        except Conflict as error:
            return refuse(409, str(error))
        except StoreUnavailable as error:
            return refuse(503, f"the journal is not available: {error}; try again")
        except HealerError as error:
            return refuse(422, str(error))
        except web.HTTPException as error:
            return refuse(error.status, error.text or error.reason)

    # ------------------------------------------------------------------------------ asking

    async def episodes(self, request: web.Request) -> web.Response:
        """`?state=` (may be repeated) `&q=&playbook=&source=&firing=&limit=`; newest first."""
        query = request.query
        which = EpisodeFilter(
            states=tuple(_state(text) for text in query.getall("state", [])),
            source_prefix=query.get("source", ""),
            firing=_flag(query.get("firing")),
            playbook=query.get("playbook", ""),
            text=query.get("q", ""),
            limit=_limit(query.get("limit")),
        )
        return answer({"episodes": await self._store.episodes(which)})

    async def episode(self, request: web.Request) -> web.Response:
        """One episode with its runs, its facts in order, and what they say in words."""
        episode = await self._find(request)
        runs = await self._store.runs(episode.id)
        sealed = await self._store.facts(episode.id)
        facts = [one.fact for one in sealed]
        blocked: Sequence[Episode] = ()
        if awaited(episode):
            blocked = await self._store.episodes(
                EpisodeFilter(states=(EpisodeState.BLOCKED,), limit=QUEUE_MAX)
            )
        explanation = explain(episode, runs[0] if runs else None, facts, self._clock.now(), blocked)
        return answer(
            {"episode": episode, "runs": runs, "facts": sealed, "explanation": explanation}
        )

    async def runs(self, request: web.Request) -> web.Response:
        """`?episode=&limit=`; newest first."""
        limit = _limit(request.query.get("limit"))
        return answer({"runs": await self._store.runs(request.query.get("episode", ""), limit)})

    async def playbooks(self, request: web.Request) -> web.Response:
        """The playbooks that are loaded."""
        return answer({
            "playbooks": [
                {
                    "name": one.name,
                    "summary": one.summary,
                    "mode": one.mode,
                    "priority": one.priority,
                    "trigger": one.trigger.kind,
                    "steps": [step.action for step in one.steps],
                    "source": one.source,
                    "sha256": one.sha256,
                }
                for one in self._playbooks()
            ]
        })  # fmt: skip

    async def status(self, request: web.Request) -> web.Response:
        """How the daemon is: version, pauses, conditions, late loops, numbers."""
        pauses = [*await self._store.pauses(), *self._local_pauses()]
        return answer({
            "version": __version__,
            "now": self._clock.now(),
            "started_at": self._started_at,
            "playbooks": len(self._playbooks()),
            "pauses": pauses,
            "conditions": self._conditions.active(),
            "stalled": self._progress.stalled(),
            "counts": dict(await self._store.counts()),
            **self._about(),
        })  # fmt: skip

    async def pauses(self, request: web.Request) -> web.Response:
        """All pauses in force, those without the database included."""
        return answer({"pauses": [*await self._store.pauses(), *self._local_pauses()]})

    # ----------------------------------------------------------------------------- telling

    async def approve(self, request: web.Request) -> web.Response:
        """`{plan, by, note}`: yes to exactly the plan whose digest (12 digits or more) is given."""
        return await self._answer(request, approved=True)

    async def reject(self, request: web.Request) -> web.Response:
        """`{plan, by, note}`: no to that plan."""
        return await self._answer(request, approved=False)

    async def _answer(self, request: web.Request, *, approved: bool) -> web.Response:
        body = await _read(request, _Answer)
        episode = await self._find(request)
        runs = await self._store.runs(episode.id, 1)
        if episode.state is not EpisodeState.AWAITING_APPROVAL or not runs:
            raise Conflict(f"{episode.id} is {episode.state}; no plan of it waits for an answer")
        plan = runs[0].plan
        if len(body.plan) < DIGEST_DIGITS or not plan.digest.startswith(body.plan):
            raise Conflict(
                f"the plan that waits is {plan.digest[:DIGEST_DIGITS]}, not {body.plan[:64]!r}; "
                f"look at it with `healer explain {episode.id}` and answer that one"
            )
        now = self._clock.now()
        by = _signed(request, body.by) + (f" ({body.note[:500]})" if body.note else "")
        approval = Approval(plan.digest, approved, by, now, now + plan.guards.approval_ttl_seconds)
        await self._store.answer(episode.id, approval, now)
        self._on_change()
        return answer({"episode": episode.id, "plan": plan.digest, "approved": approved, "by": by})

    async def acknowledge(self, request: web.Request) -> web.Response:
        """`{by, note}`: a person has dealt with an escalated or settled episode; it is closed."""
        body = await _read(request, _Note)
        episode = await self._find(request)
        by = _signed(request, body.by)
        await self._store.acknowledge(episode.id, by, body.note[:500], self._clock.now())
        self._on_change()
        return answer({"episode": episode.id, "by": by})

    async def pause(self, request: web.Request) -> web.Response:
        """`{reason, by, namespace, playbook, seconds}`: stop acting; no scope stops everything."""
        body = await _read(request, _PauseWish)
        if not body.reason.strip():
            raise web.HTTPBadRequest(text="a pause needs a reason that others will read")
        if body.seconds is not None and not 0 < body.seconds < 1e9:
            raise web.HTTPBadRequest(text="seconds must be more than 0")
        now = self._clock.now()
        until = now + body.seconds if body.seconds is not None else None
        pause = Pause(
            random_id("pause"), body.reason.strip()[:500], _signed(request, body.by), now,
            body.namespace, body.playbook, until,
        )  # fmt: skip
        await self._store.set_pause(pause)
        return answer({"pause": pause}, 201)

    async def resume(self, request: web.Request) -> web.Response:
        """End one pause; what it held back becomes due."""
        id_ = request.match_info["id"]
        by = _signed(request, request.query.get("by", ""))
        if not await self._store.clear_pause(id_, by, self._clock.now()):
            local = any(pause.id == id_ for pause in self._local_pauses())
            where = "; it comes from the pause file: remove that" if local else ""
            raise NotFound(f"there is no pause {id_}{where}")
        self._on_change()
        return answer({"resumed": id_, "by": by})

    async def reset_breaker(self, request: web.Request) -> web.Response:
        """A person vouches for the playbook again."""
        name = request.match_info["playbook"]
        if all(playbook.name != name for playbook in self._playbooks()):
            raise NotFound(f"there is no playbook {name}; see `healer playbooks`")
        body = await _read(request, _Note)
        by = _signed(request, body.by)
        await self._store.reset_breaker(name, by, self._clock.now())
        self._on_change()
        return answer({"playbook": name, "by": by})

    async def _find(self, request: web.Request) -> Episode:
        id_ = request.match_info["id"]
        episode = await self._store.episode(id_)
        if episode is None:
            raise NotFound(f"there is no episode {id_}, or more than one begins so")
        return episode


async def _read(request: web.Request, kind: type[_T]) -> _T:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send Content-Type: application/json")
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise web.HTTPBadRequest(text=f"the body is not understood: {error}") from error


def _signed(request: web.Request, by: str) -> str:
    """Who speaks: the name behind the credential cannot be talked away, only added to."""
    name = request[_WHO]
    by = by.strip()[:100]
    if not name:
        return by or "somebody on this machine"
    return f"{by} by the token of {name}" if by and by != name else name


def _is_local(host: str) -> bool:
    name = host.rsplit(":", 1)[0].strip("[]") if not host.endswith("]") else host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _state(text: str) -> EpisodeState:
    try:
        return EpisodeState(text)
    except ValueError as error:
        known = ", ".join(EpisodeState)
        raise web.HTTPBadRequest(text=f"there is no state {text!r}; there are {known}") from error


def _flag(text: str | None) -> bool | None:
    if text is None:
        return None
    if text not in {"true", "false"}:
        raise web.HTTPBadRequest(text="firing is true or false")
    return text == "true"


def _limit(text: str | None) -> int:
    if text is None:
        return 100
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _LIST_LIMIT:
        raise web.HTTPBadRequest(text=f"limit is a number from 1 to {_LIST_LIMIT}")
    return int(text)
