"""Which run a call is made for: carried beside the call, so that audit logs elsewhere name it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_RUN: ContextVar[str] = ContextVar("healer_run", default="")


def current_run() -> str:
    """Id of the run that this task acts for; empty outside of one."""
    return _RUN.get()


@contextmanager
def acting_for(run_id: str) -> Iterator[None]:
    """Within this block, calls are made for that run."""
    token = _RUN.set(run_id)
    try:
        yield
    finally:
        _RUN.reset(token)
