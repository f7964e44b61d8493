"""One request, from the connection it came on to its answer."""

import asyncio
from collections import Counter
from collections.abc import Callable

from aiohttp import web

from scalers.apiserver import routes, statuses
from scalers.apiserver.access import Access, widest
from scalers.apiserver.contract import Question, Unavailable, Who
from scalers.apiserver.discovery import Discovery
from scalers.apiserver.front_proxy import Trust
from scalers.apiserver.routes import Ask, CustomAsk, DiscoveryAsk, ExternalAsk
from scalers.apiserver.statuses import Answer
from scalers.apiserver.tls import LiveTls
from scalers.apiserver.values import Values
from scalers.apiserver.writing import Writer
from scalers.ports import MetricReader

HEALTH = frozenset({"/healthz", "/livez", "/readyz"})
#: So many paths are remembered with what they mean.
KEPT = 8192


class Handler:
    """Answers from memory; it waits for nothing but a review of a caller it does not know."""

    def __init__(
        self,
        reader: MetricReader,
        access: Access,
        tls: LiveTls,
        problems: Callable[[], list[str]],
        now: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._access = access
        self._tls = tls
        self._problems = problems
        self._values = Values(reader)
        self._writer = Writer(now)
        self._discovery = Discovery()
        self._asks: dict[str, tuple[Ask, Question, Question] | None] = {}
        self.trust: Trust | None = None  #: until it is known nobody is believed
        #: Connections with a request whose answer is being made.
        self.busy: set[asyncio.Transport] = set()
        self.answered: Counter[tuple[str, int]] = Counter()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to one request."""
        target = request.raw_path
        transport = request.transport
        if target.partition("?")[0] in HEALTH:
            kind, answer = "health", self._health(target)
        elif transport is None:  # gone meanwhile
            kind, answer = "other", statuses.unauthorized("the connection is closed")
        else:
            self.busy.add(transport)
            try:
                kind, answer = await self._authenticated(request, transport, target)
            finally:
                self.busy.discard(transport)
        self.answered[kind, answer.code] += 1
        return self._writer.response(request, answer)

    async def _authenticated(
        self, request: web.BaseRequest, transport: asyncio.Transport, target: str
    ) -> tuple[str, Answer]:
        who = self._who(request, transport)
        if isinstance(who, str):
            return "other", statuses.unauthorized(who)
        if request.method != "GET":
            return "other", statuses.method_not_allowed(request.method)
        read = self._read(target)
        if read is None:
            return "other", statuses.no_such_path(target.partition("?")[0])
        ask, question, wide = read
        kind = _KINDS[type(ask)]
        allowed = self._access.known(who, question, wide)
        if allowed is None:
            try:
                allowed = await self._access.allowed(who, question, wide)
            except Unavailable as error:
                return kind, statuses.cannot_review(str(error))
        if not allowed:
            return kind, statuses.forbidden(who.user, question.verb, _what(question))
        if isinstance(ask, DiscoveryAsk):
            accept = request.headers.get("Accept", "")
            return kind, self._discovery.answer(ask, accept, self._reader.custom_names())
        return kind, self._values.answer(target, ask)

    def _who(self, request: web.BaseRequest, transport: asyncio.Transport) -> Who | str:
        """The caller, or why nobody is believed to be one."""
        if self.trust is None:
            return "the front proxy is not known yet"
        if not self._tls.is_current(transport.get_extra_info("ssl_object")):
            return "the connection is older than what is trusted now; connect again"
        if not self.trust.speaks(transport.get_extra_info("peercert")):
            return "only the API server's front proxy is answered; ask through the API server"
        who = self.trust.who(request.headers)
        return "the front proxy named no user" if who is None else who

    def _read(self, target: str) -> tuple[Ask, Question, Question] | None:
        try:
            return self._asks[target]
        except KeyError:
            if len(self._asks) >= KEPT:
                self._asks.clear()
            ask = routes.read(target)
            found = None if ask is None else (ask, ask.question, widest(ask.question))
            self._asks[target] = found
            return found

    def _health(self, target: str) -> Answer:
        problems = self._problems() if target.startswith("/readyz") else []
        if problems:
            return Answer(503, "\n".join(problems).encode() + b"\n", "text/plain; charset=utf-8")
        return Answer(200, b"ok", "text/plain; charset=utf-8")


_KINDS: dict[type[Ask], str] = {
    ExternalAsk: "external", CustomAsk: "custom", DiscoveryAsk: "discovery",
}  # fmt: skip


def _what(question: Question) -> str:
    if question.path:
        return f'path "{question.path}"'
    resource = question.resource + (f"/{question.subresource}" if question.subresource else "")
    place = f' in the namespace "{question.namespace}"' if question.namespace else ""
    return f'resource "{resource}" in API group "{question.group}"{place}'
