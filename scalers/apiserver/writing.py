"""Answers as the bytes that go on the wire, made once and written whole.

aiohttp builds the head of each response anew, which costs as much as all else that is done for one.
"""

from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import HttpVersion11, web

from scalers.apiserver.statuses import Answer


class Whole(web.StreamResponse):
    """A response that is there already, head and body, on a connection that is kept."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._content = content

    @property
    def keep_alive(self) -> bool | None:
        """Always: whoever wants the connection closed gets another response."""
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write all of it."""
        if request.transport is None:
            raise ConnectionResetError("the caller is gone")
        request.transport.write(self._content)

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


class Writer:
    """Makes responses of answers."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` is the wall clock, for the Date that RFC 9110 demands."""
        self._now = now
        self._second = -1
        self._date = b""

    def response(self, request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        """The response to this request."""
        close = answer.code == 401
        if close or not request.keep_alive or request.version != HttpVersion11:
            made = web.Response(
                body=answer.body, status=answer.code, headers={"Content-Type": answer.content_type}
            )
            if close:
                made.force_close()
            return made
        second = int(self._now())
        if second != self._second:
            self._second = second
            self._date = f"Date: {formatdate(second, usegmt=True)}\r\n\r\n".encode()
        return Whole(b"".join((head(answer), self._date, answer.body)))


def head(answer: Answer) -> bytes:
    """Status line and headers but for the last, which is the date."""
    if not answer.head:
        phrase = HTTPStatus(answer.code).phrase
        text = (
            f"HTTP/1.1 {answer.code} {phrase}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\n"
        )
        answer.head = text.encode()
    return answer.head
