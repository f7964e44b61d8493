"""What every channel does with a message: read the notice, and fit texts into its limits."""

from healer.domain.message import Notice
from healer.errors import Refused
from healer.ports import Message


def notice_of(message: Message) -> Notice:
    """The notice in `message`. Raises Refused when its body is none."""
    try:
        return Notice.from_mapping(message.body)
    except ValueError as error:
        raise Refused(f"message {message.id}: {error}") from error


def thread_of(message: Message, notice: Notice) -> str:
    """What trigger and resolve of one episode share; a message without episode stands alone."""
    return f"healer/{notice.episode_id}" if notice.episode_id else message.id


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` characters, an ellipsis at the end when something is missing."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(text: str, limit: int) -> str:
    """`text` on one line without control characters, cut to `limit`."""
    words = "".join(c if c.isprintable() else " " for c in text).split()
    return cut(" ".join(words), limit)
