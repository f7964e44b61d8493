"""http_call: one request to an allowed host, marked with the step's key."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import Url
from healer.actions.objects import applied
from healer.domain.outcome import Applied, Outcome
from healer.domain.plan import step_key
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Refused, ServerFailed, TemporaryError, Throttled
from healer.ports import Http, HttpAnswer, Permission

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{0,1024}$")]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
READING = frozenset({"GET", "HEAD"})
Status = Annotated[int, Field(ge=100, le=599)]
#: Set by healer, or meant for one connection only.
_OWN = frozenset({"host", "content-length", "connection", "transfer-encoding", "idempotency-key"})


class Request(Params):
    """One request."""

    method: Method = "POST"
    url: Url
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    json_body: Any = Field(default=None, alias="json")
    """Sent as JSON."""
    body: Annotated[str, StringConstraints(max_length=65536)] = ""
    """Or: sent as it is."""
    expect: tuple[Status, ...] = ()
    """Status codes that mean yes; none means 200 to 299."""

    model_config = ConfigDict(serialize_by_alias=True)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.json_body is not None and self.body:
            raise ValueError("give either `json` or `body`")
        for name in self.headers:
            if name.lower() in _OWN:
                raise ValueError(f"header {name} is set by healer")
        return self

    def is_yes(self, status: int) -> bool:
        """Whether the status is one that was wished for."""
        return status in self.expect if self.expect else 200 <= status < 300

    async def send(self, http: Http, key: str, timeout: float) -> HttpAnswer:  # noqa: ASYNC109
        """Send it; the client enforces the timeout."""
        headers = dict(self.headers)
        body = self.body.encode()
        if self.json_body is not None:
            body = json.dumps(self.json_body).encode()
            headers.setdefault("Content-Type", "application/json")
        if key:
            headers["Idempotency-Key"] = key
        return await http.request(
            self.method, self.url, headers=headers, body=body, timeout=timeout
        )


class Lookup(Request):
    """A request that only looks whether it is done: `expect` means that it is."""

    method: Method = "GET"

    @model_validator(mode="after")
    def _reads(self) -> Self:
        if self.method not in READING:
            raise ValueError(f"a lookup only reads; {self.method} may change something")
        return self


class HttpCallParams(Request):
    """The request, and what is known of its effect."""

    idempotent: bool = False
    """The other side does it only once for one `Idempotency-Key`, or a second time does no harm."""
    lookup: Lookup | None = None
    """Asked when nobody knows whether the request had its effect."""
    undo: Request | None = None
    """Sent to put things back."""


class HttpCall:
    """Sends the request with `Idempotency-Key`; what may be called is the operator's allow-list."""

    name: ClassVar[str] = "http_call"
    summary: ClassVar[str] = "Send one HTTP request to an allowed host."
    params: ClassVar[type[Params]] = HttpCallParams
    kinds: ClassVar[frozenset[Kind]] = frozenset()
    action_class: ClassVar[str] = "http"
    idempotent: ClassVar[bool] = False
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "`lookup`; without it unknown, unless `idempotent`"
    undone_by: ClassVar[str] = "sends `undo`, if there is one"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Nothing of the API server."""
        return ()

    def cost(self, params: Any, seen: Observation) -> int:
        """One, unless it only reads."""
        return 0 if params.method in READING else 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """Refuses when outgoing HTTP is not configured.

        The key is the step's, the same for each attempt: with a new one the other side would do
        again what it has done.
        """
        _client(ctx)
        return {"url": params.url, "key": step_key(ctx.key)}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Send it once. Raises Refused for 3xx and 4xx, an error that may have happened for 5xx."""
        return await _call(ctx, params, str(before["key"]))

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """What `lookup` answers. Without it nobody can tell; an idempotent request may be sent
        again under its key."""
        if params.lookup is None:
            return Presence.REPEATABLE if params.idempotent else Presence.UNKNOWN
        answer = await params.lookup.send(_client(ctx), "", ctx.timeout_seconds)
        if params.lookup.is_yes(answer.status):
            return Presence.APPLIED
        return Presence.NOT_APPLIED if answer.status < 500 else Presence.UNKNOWN

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Send `undo`."""
        if params.undo is None:
            return None
        return await _call(ctx, params.undo, f"{before['key']}-undo")


def _client(ctx: ActionContext) -> Http:
    if ctx.http is None:
        raise Refused("outgoing HTTP is not configured; list the allowed hosts in the settings")
    return ctx.http


async def _call(ctx: ActionContext, request: Request, key: str) -> Applied:
    what = f"{request.method} {request.url.partition('?')[0]}"
    client = _client(ctx)
    if ctx.dry_run:
        return Applied(Outcome.DRY_RUN, f"{what} would be sent")
    answer = await request.send(client, key, ctx.timeout_seconds)
    evidence = {"status": answer.status, "body": answer.body[:1024].decode(errors="replace")}
    if request.is_yes(answer.status):
        return applied(ctx, f"{what} answered {answer.status}", evidence)
    raise _refusal(what, answer.status)


def _refusal(what: str, status: int) -> TemporaryError | Refused:
    text = f"{what} answered {status}"
    if status == 429:
        return Throttled(text)
    if status >= 500:
        words = f"{text}: it may have been done or not"
        return ServerFailed(words, may_have_happened=True)
    return Refused(text)
