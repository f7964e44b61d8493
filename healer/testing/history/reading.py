"""Reads the witnesses: any Store, an API server's audit log, a sender's log."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from healer.domain.alert import AlertStatus
from healer.domain.episode import Episode
from healer.domain.journal import Sealed
from healer.domain.run import Run
from healer.ports import EpisodeFilter, Store
from healer.testing.history.records import Effect, Sent

_PAGE = 1000
_ALL = 10**9
_RUN = re.compile(r"^healer/\S+ run/(\S+)")
#: What healer writes beside its steps: Events about them, its own Lease, questions about rights.
_BESIDE = frozenset({"events", "leases", "selfsubjectaccessreviews", "selfsubjectrulesreviews"})


async def read_store(
    store: Store,
) -> tuple[tuple[Sealed, ...], tuple[Run, ...], tuple[Episode, ...]]:
    """All facts, runs and episodes of a journal that nobody writes to meanwhile."""
    facts: list[Sealed] = []
    while page := await store.facts(after=facts[-1].seq if facts else 0, limit=_PAGE):
        facts += page
    runs = await store.runs(limit=_ALL)
    episodes = await store.episodes(EpisodeFilter(limit=_ALL))
    return tuple(facts), tuple(runs), tuple(episodes)


def audit_effects(lines: Iterable[str]) -> Iterator[Effect]:
    """What healer's steps asked of the API server, from its audit log (JSON lines, v1).

    Only finished requests that would change something. A line cut off by a crash is left out.
    """
    for line in lines:
        if '"healer/' not in line or '"dryRun=All' in line:
            continue
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if event.get("stage") != "ResponseComplete" or "dryRun=All" in event["requestURI"]:
            continue
        where = event.get("objectRef", {})
        agent = str(event.get("userAgent", ""))
        if not agent.startswith("healer/") or where.get("resource") in _BESIDE:
            continue
        if event["verb"] in {"get", "list", "watch"}:
            continue
        told = _RUN.match(agent)
        yield Effect(
            at=datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp(),
            verb=event["verb"],
            resource=where.get("resource", event["requestURI"]),
            namespace=where.get("namespace", ""),
            name=where.get("name", ""),
            status=int(event.get("responseStatus", {}).get("code", 0)),
            run_id=told[1] if told else "",
            subresource=where.get("subresource", ""),
            uid=where.get("uid", ""),
        )


def sent_lines(lines: Iterable[str]) -> Iterator[Sent]:
    """A sender's log: one JSON object a line, with the fields of `Sent`."""
    for line in lines:
        found = json.loads(line)
        yield Sent(**{**found, "status": AlertStatus(found["status"])})
